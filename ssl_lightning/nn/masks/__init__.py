"""Masks, drawn from the samples' keys."""
