"""How good an encoder is: probes while it learns, the closing table when a run ends."""
