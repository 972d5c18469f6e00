"""A paper's optimizer settings as data, LARS, and what an optimizer step of a run needs."""
