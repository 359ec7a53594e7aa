"""What it costs to match a prediction with an object."""
