"""A paper's optimizer settings as data, and LARS."""
