"""Data loaders: how many workers, what is pinned."""

from __future__ import annotations

FEW_CORES = 4
"""Cores of a CPU that a training keeps busy by itself: on 2 of them workers took 8 to 16 % of the
rate of a ResNet-18 on JPEGs at 224 pixels, and gained at most 6 % with a small encoder at 96
(`benchmarks/placement.py`)."""
