"""Guidance in Modular Diffusers: guided blocks and a guider."""
