"""Encoders that ship with the package; each is an entry point of the group
ssl_lightning.encoders."""
