"""What the numbers of a run may be: finite, and between the bounds of its alarms."""
