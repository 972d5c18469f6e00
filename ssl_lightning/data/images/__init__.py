"""Encoded images of any size, mode and depth: read once, and cut for every view."""
