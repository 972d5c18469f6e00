"""What a run writes, and how a later one goes on from it."""
