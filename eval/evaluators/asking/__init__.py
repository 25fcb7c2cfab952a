"""Scores by models that are asked about a picture in words."""
