"""What guidance must know of a scheduler: its levels, its steps, and where an edit survives."""
