"""Data loaders: how many workers, what is pinned."""

from __future__ import annotations

import os

FEW_CORES = 4
"""Cores of a CPU that a training keeps busy by itself: on 2 of them workers took 8 to 16 % of the
rate of a ResNet-18 on JPEGs at 224 pixels, and gained at most 6 % with a small encoder at 96
(`benchmarks/placement.py`)."""


def _cores() -> int:
    return os.cpu_count() or 1
