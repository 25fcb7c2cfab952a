"""The study of what guidance does: its claims, its two controls, and what attention foretells."""
