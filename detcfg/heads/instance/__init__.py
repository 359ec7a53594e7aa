"""Dense heads that predict a mask of each instance without RoIs."""
