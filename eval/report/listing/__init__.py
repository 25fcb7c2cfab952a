"""Every picture of a run with its scores, in forms that other programs read."""
