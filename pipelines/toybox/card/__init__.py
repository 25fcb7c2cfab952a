"""What the model cards say, measured on the trained model."""
