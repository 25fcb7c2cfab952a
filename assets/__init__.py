"""The bundled toyboxes, prompt suites, layouts and example pictures, as files."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""Where they lie, in a checkout and in an installed package."""
