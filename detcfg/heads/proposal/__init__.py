"""Dense heads that propose boxes to a RoI head."""
