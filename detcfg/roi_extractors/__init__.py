"""RoI extractors: feature maps and boxes to features of a fixed size."""
