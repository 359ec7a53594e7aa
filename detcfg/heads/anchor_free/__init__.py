"""Dense heads that predict from points, centres or point sets."""
