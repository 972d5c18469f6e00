"""Recordings of any length and rate: read where they are needed, resampled, and cut into views."""
