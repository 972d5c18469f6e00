"""Callbacks that judge an encoder while it learns, on labelled samples that the method never
sees."""
