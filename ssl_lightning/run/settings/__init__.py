"""Settings with which no run can go on, refused before it starts."""
