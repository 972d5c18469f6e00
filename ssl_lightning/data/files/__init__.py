"""The files below a folder: listed once, millions of names without millions of objects."""
