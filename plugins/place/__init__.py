"""Methods that put things in their places."""
