"""Scores by models that find things in a picture."""
