"""Self-supervised methods: one file, one paper. Found through the entry-point group
ssl_lightning.methods."""
