"""Methods that look at pictures while they are made, and choose."""
