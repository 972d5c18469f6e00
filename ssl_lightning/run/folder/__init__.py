"""The run folder: who writes there, what a run is called, and its rows of metrics."""
