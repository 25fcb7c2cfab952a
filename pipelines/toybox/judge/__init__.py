"""The exact judge: what is in a picture, and how much of a prompt that is."""
