"""Prior generators: anchors and points."""
