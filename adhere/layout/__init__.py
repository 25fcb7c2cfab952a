"""Layouts: which phrase belongs in which region, and how regions are written and read."""
