"""What makes the files that methods read, and finds prompts and starting points for pictures."""
