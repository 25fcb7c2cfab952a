"""Scores of the pictures of a run: made in blocks, kept in files, read in columns."""
