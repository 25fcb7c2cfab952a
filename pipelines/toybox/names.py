"""The bundled models by name."""

TOYBOXES = ("toybox", "toybox-sd3")
"""A Stable Diffusion, and a Stable Diffusion 3 on the same world."""
