"""Checkpoints and encoder files: written whole or not at all, and which of them stay."""
