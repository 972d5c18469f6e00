"""Several runs side by side, from what their folders hold. Nothing here needs torch, and nothing
that a folder names is imported."""
