"""What a worker reads right now, for the process that waits for it: a page of shared memory for
each, since a worker that hangs answers nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LENGTH = 200
"""Bytes of a page: the end of a name says most."""
_page: NDArray[np.uint8] | None = None


def new_pages(workers: int) -> Tensor:
    """Empty pages [workers, LENGTH]."""
    with torch.inference_mode(False):
        return torch.zeros(workers, LENGTH, dtype=torch.uint8).share_memory_()


class TakePage:
    """Has a worker write on its own page from its start on.

    Args:
        pages: of all workers.
    """

    def __init__(self, pages: Tensor) -> None:
        self.pages = pages

    def __call__(self, worker: int) -> None:
        global _page
        _page = self.pages[worker].numpy()


def note(name: Any) -> None:
    """Notes what is about to be read; outside of workers, nothing."""
    if _page is not None:
        text = str(name).encode(errors="replace")[-LENGTH:]
        _page[: len(text)], _page[len(text) :] = np.frombuffer(text, dtype=np.uint8), 0


def noted(page: Tensor) -> str:
    """What was noted on a page."""
    return bytes(page.tolist()).rstrip(b"\0").decode(errors="replace")
