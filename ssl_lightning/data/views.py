"""From fetched samples to the views of a batch: cut where they were fetched, augmented there or on
the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..augment.random import fold, sample_keys
from ..types import Batch, View
from .sources import Uncut

Fetched = dict[str, Any]
"""`raw` samples, or `cuts`, what each view takes of them; `index` [S], `pass` [S], and `label` [S]
where there are labels."""


def as_view(made: Tensor | View) -> View:
    """What a transform made: a view, or the tensor of one."""
    return made if isinstance(made, View) else View(made)


class Views:
    """Makes the views of a batch, one for each transform; small enough to travel to workers.

    Args:
        transforms: of each view: `forward(raw, key)`.
        seed: of the samples' keys.
    """

    def __init__(self, transforms: Sequence[nn.Module], seed: int = 0) -> None:
        self.transforms, self.seed = list(transforms), seed

    def cut(self, fetched: Fetched) -> Fetched:
        """Samples of varying size -> `cuts`, what each view takes of them; any other batch as it
        is."""
        raw = fetched.get("raw")
        if not isinstance(raw, Uncut):
            return fetched
        key = sample_keys(self.seed, fetched["pass"], fetched["index"])
        cuts = raw.cut(self.transforms, [fold(key, number) for number in range(len(self.transforms))])
        return {**{name: value for name, value in fetched.items() if name != "raw"}, "cuts": cuts}

    def batch(self, fetched: Fetched) -> Batch:
        """The `Batch` of views, where the fetched samples are; augmented in full precision, under
        autocast too."""
        fetched = self.cut(fetched)
        index = fetched["index"]
        cuts = fetched.get("cuts") or [fetched["raw"]] * len(self.transforms)
        for transform in self.transforms:
            transform.to(index.device)  # their constants; moves nothing after the first batch
        key = sample_keys(self.seed, fetched["pass"], index)
        with torch.autocast(index.device.type, enabled=False):
            views = [
                as_view(transform(cuts[number], fold(key, number))) for number, transform in enumerate(self.transforms)
            ]
        batch: Batch = {"views": views, "index": index, "key": key}
        if "label" in fetched:
            batch["label"] = fetched["label"]
        return batch
