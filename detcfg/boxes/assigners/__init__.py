"""Assigners: ground-truth boxes to priors."""
