"""Scores of single pictures, each from its published rule."""
