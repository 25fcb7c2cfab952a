"""What guides may do in a run, one file a moment, and the passes that are made for it."""
