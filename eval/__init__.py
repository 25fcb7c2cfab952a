"""Evaluators and the batch evaluation CLI: `adhere eval`, described in `docs/evaluation.md`."""
