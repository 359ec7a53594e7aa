"""Heads whose predictions are learnt queries: decoders of the DETR family."""
