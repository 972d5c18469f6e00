"""Documents, tokenizers, and the memory-mapped store of tokens."""
