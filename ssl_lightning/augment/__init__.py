"""Batched augmentations whose randomness is a pure function of each sample's key."""
