"""From fetched samples to the views of a batch: cut where they were fetched, augmented there or
where the model is."""

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
    """Makes the views of training batches, one for each transform; small enough to travel to
    workers.

    Args:
        transforms: of each view: `forward(raw, key)`.
        seed: of the samples' keys.
    """

    def __init__(self, transforms: Sequence[nn.Module], seed: int) -> None:
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
        """The `Batch` of views, where the fetched samples are."""
        fetched = self.cut(fetched)
        index = fetched["index"]
        cuts = fetched.get("cuts") or [fetched["raw"]] * len(self.transforms)
        for transform in self.transforms:
            transform.to(index.device)  # their constants; moves nothing after the first batch
        key = sample_keys(self.seed, fetched["pass"], index)
        views = [
            as_view(transform(cuts[number], fold(key, number))) for number, transform in enumerate(self.transforms)
        ]
        batch: Batch = {"views": views, "index": index, "key": key}
        if "label" in fetched:
            batch["label"] = fetched["label"]
        return batch


class CleanViews:
    """Makes the one view of evaluation batches, by the test transform; it draws no numbers, and its
    keys are 0."""

    def __init__(self, transform: nn.Module) -> None:
        self.transform = transform

    def cut(self, raw: Any, count: int) -> Any:
        """Fetched samples [S] as the transform takes them."""
        return raw.cut([self.transform], [torch.zeros(count, dtype=torch.int64)])[0] if isinstance(raw, Uncut) else raw

    def prepare(self, fetched: Fetched) -> Fetched:
        """A fetched batch, cut and marked as one for evaluation."""
        return {**fetched, "raw": self.cut(fetched["raw"], len(fetched["index"])), "clean": True}

    def batch(self, fetched: Fetched) -> dict[str, Any]:
        """What `prepare` returned -> a batch of the clean view, where the fetched samples are."""
        key: Tensor = torch.zeros_like(fetched["index"])
        clean = as_view(self.transform.to(key.device)(fetched["raw"], key))
        return {
            **{name: value for name, value in fetched.items() if name not in ("raw", "clean")},
            "views": [clean],
            "key": key,
        }
