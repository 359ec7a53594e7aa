"""What all dense heads share: contracts, levels, towers, targets, and from predictions to detections."""
