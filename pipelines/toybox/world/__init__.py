"""The world that the toybox draws: sprites, scenes and their captions."""
