"""Methods that leave things out."""
