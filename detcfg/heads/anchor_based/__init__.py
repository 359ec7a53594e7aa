"""Dense heads that score and refine anchors."""
