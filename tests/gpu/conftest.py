"""Fixtures of the tests that need a CUDA device."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, when CUDA starts


@pytest.fixture(autouse=True)
def same_settings() -> Iterator[None]:
    """A trainer's `deterministic` holds for the whole process."""
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture
def full_float32() -> Iterator[None]:
    """Convolutions round nothing to TF32, which has 10 bits of mantissa."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
