"""The networks of the toybox and its shipped folders."""
