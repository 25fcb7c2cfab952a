"""What came of a click: pictures as they grow, verdicts, status, downloads."""
