"""Methods that choose the starting noise."""
