"""Methods that keep pictures safe, and from being copies."""
