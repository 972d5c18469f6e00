"""From fetched samples to the views of a batch: cut where the samples were fetched, augmented there
or on the device."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..augment.random import fold, sample_keys
from ..types import Batch, View
from .sources import Uncut

Fetched = dict[str, Any]
"""`raw` samples, or `cuts`, the part of them that each view takes; `index` [S], `pass` [S], and
`label` [S] where there are labels, `sample` [S] where they are windows (`windows.py`)."""


def is_fetched(batch: Any) -> bool:
    """Returns whether a loader's batch consists of samples whose views are yet to be made."""
    return isinstance(batch, dict) and ("raw" in batch or "cuts" in batch)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Computes in float32 where the run does not: without autocast, and with float32 as the default
    dtype, which Lightning changes for `bf16-true`."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_default_dtype(default)


def as_view(output: Tensor | View) -> View:
    """Returns a transform's output, which is a view or the tensor of one, as a view."""
    return output if isinstance(output, View) else View(output)


class Views:
    """Makes the views of a batch, one by each transform; small enough to be sent to workers.

    Args:
        transforms: one for each view: `forward(raw, key)`.
        seed: of the samples' keys.
    """

    def __init__(self, transforms: Sequence[nn.Module], seed: int = 0) -> None:
        self.transforms, self.seed = list(transforms), seed

    def __reduce__(self) -> Any:
        """Workers that are not forked get the transforms on the CPU: they have no use for a device,
        and not every one can be shared between processes. As bytes, since copies that are shared
        would have to live until the worker has them."""
        return _received, (pickle.dumps([copy.deepcopy(each).cpu() for each in self.transforms]), self.seed)

    def cut(self, fetched: Fetched) -> Fetched:
        """Replaces samples of varying size by `cuts`, the part of them that each view takes; any
        other batch is returned unchanged."""
        raw = fetched.get("raw")
        if not isinstance(raw, Uncut):
            return fetched
        key = sample_keys(self.seed, fetched["pass"], fetched["index"])
        cuts = raw.cut(self.transforms, [fold(key, number) for number in range(len(self.transforms))])
        return {**{name: value for name, value in fetched.items() if name != "raw"}, "cuts": cuts}

    def batch(self, fetched: Fetched) -> Batch:
        """Makes the `Batch` of views on the device of the fetched samples; augmentation runs in
        full precision, whatever that of the run."""
        fetched = self.cut(fetched)
        index = fetched["index"]
        cuts = fetched.get("cuts") or [fetched["raw"]] * len(self.transforms)
        for transform in self.transforms:
            transform.to(index.device)  # the transforms' constants; moves nothing after the first batch
        key = sample_keys(self.seed, fetched["pass"], index)
        with full_precision(index.device):
            views = [
                as_view(transform(cuts[number], fold(key, number))) for number, transform in enumerate(self.transforms)
            ]
        batch: Batch = {"views": views, "index": index, "key": key}
        if "label" in fetched:
            batch["label"] = fetched["label"]
        if "sample" in fetched:
            batch["sample"] = fetched["sample"]
        return batch


def _received(transforms: bytes, seed: int) -> Views:
    return Views(pickle.loads(transforms), seed)
