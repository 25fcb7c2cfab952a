"""From an experiment to pictures and scores on disk: planned, sharded, resumable."""
