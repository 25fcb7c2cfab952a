"""Everything that touches diffusers, a room a subject, and the toybox."""
