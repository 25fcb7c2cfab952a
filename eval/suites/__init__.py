"""Prompt suites: the data format, readers of published formats, and the bundled suites."""
