"""Prompts as words: parsing, phrases and the token columns of every text encoder."""
