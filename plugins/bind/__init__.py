"""Methods that give every thing its own properties."""
