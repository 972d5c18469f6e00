"""Masks are drawn from the samples' keys."""
