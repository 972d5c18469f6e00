"""Datamodules: one file per family of data sets. They are discovered through the entry-point group
ssl_lightning.datamodules."""
