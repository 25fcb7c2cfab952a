"""What several methods compute alike: losses on maps, masks of regions, scores of a noise."""
