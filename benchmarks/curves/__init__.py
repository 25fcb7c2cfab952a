"""What looking at pictures is worth, in equal passes: `python -m benchmarks.search_curves`."""
