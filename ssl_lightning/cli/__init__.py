"""The command line: `ssl-lightning`."""
