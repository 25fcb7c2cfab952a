"""Making pictures for the command line, the app and evaluation."""
