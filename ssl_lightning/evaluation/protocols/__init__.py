"""Protocols that judge features by a task, and the stamp of a result."""
