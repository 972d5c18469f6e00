"""Plug-ins by name, and objects that remember how they were built."""
