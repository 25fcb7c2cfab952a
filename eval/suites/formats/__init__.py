"""Readers of published prompt suites, one file for formats that resemble one another."""
