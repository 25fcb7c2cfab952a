"""Making several pictures of one prompt, and keeping those that a verifier likes best."""
