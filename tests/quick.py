"""What makes the tests' runs quick, in this process and in those of `runs.py`."""

FEW_STRENGTHS = {"STRENGTHS": (0.01, 1.0), "SMALLEST": 0.01, "LARGEST": 1.0}
"""Regressions choose their strength among two (`evaluation/protocol.py`), since a closing table
that tries all of the protocol's takes seconds."""
