"""Datamodules: one file per family of data sets. Found through the entry-point group
ssl_lightning.datamodules."""
