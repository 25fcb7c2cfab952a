"""One guided run: extra passes, gradients, predictions and reports, on a shared state."""
