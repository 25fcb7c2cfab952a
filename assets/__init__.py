"""The bundled toyboxes, prompt suites, layouts and example pictures, as files."""
