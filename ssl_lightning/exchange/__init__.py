"""Encoders to and from other libraries."""
