"""What tabs are made of: controls, results, canvas, settings."""
