"""The command line: the top of the house. It may import everything, once a command runs."""

from adhere.cli.program import main

__all__ = ["main"]
