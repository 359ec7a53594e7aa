"""What describes a training: optimizer, schedule, averages of the weights, precision."""
