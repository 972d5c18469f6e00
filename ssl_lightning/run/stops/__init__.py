"""How a run ends before its time: by a signal, by the death of one of its processes."""
