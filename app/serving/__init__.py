"""The server: page, endpoint for programs, start-up."""
