"""Where the metrics, pictures and tables of a run go besides its folder's own files."""
