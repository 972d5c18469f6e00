"""From a trained encoder to what it is for: vectors, classes, neighbours."""
