"""Published rules that make scores of answers and detections: pure functions."""
