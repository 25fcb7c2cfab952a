"""Scores of whole sets of pictures: features, mergeable sums, distances."""
