"""Methods that make things appear."""
