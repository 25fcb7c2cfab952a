"""How the toybox is trained: data, objectives, stages, checkpoints."""
