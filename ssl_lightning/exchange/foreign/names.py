"""The names of the formats that are read, without the imports that reading them takes."""

NAMES = ("timm", "huggingface", "lightly", "solo-learn", "bolts", "vissl", "dino", "mae", "moco")
