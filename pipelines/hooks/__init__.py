"""The only contact with private parts of diffusers, PyTorch and Python."""
