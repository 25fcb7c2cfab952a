"""Scores that say how many pictures show what is not wanted."""
