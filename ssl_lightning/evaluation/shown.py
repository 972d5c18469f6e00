"""The samples that a run shows as pictures: the first batch's views, and the method's own pictures
of a few samples at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..data.datamodule import SSLDataModule
from ..data.peek import evaluating, peek, sample
from ..data.views import Views
from ..encoders.base import NotRestorable
from ..nn.precision import HALF
from ..types import Batch, View, ViewSpec

PICTURES = 8


def first_views(batch: Batch, clean: bool) -> dict[str, View]:
    """The views of a batch by caption, on the CPU: of 8 samples, or of all where samples share
    rows.

    Args:
        batch: a training batch.
        clean: whether the last view is made by the test transform.
    """
    views = batch["views"]
    captions = [f"view {number}" for number in range(1, len(views) + 1 - clean)] + ["clean"] * clean
    return dict(zip(captions, map(_first, views), strict=True))


def originals_of(data: Any, batch: Batch, views: ViewSpec) -> dict[str, View]:
    """The first 8 samples of a batch under the test transform, by caption, on the CPU; nothing for
    a user's loaders, and where a view is that already."""
    if not isinstance(data, SSLDataModule) or views.clean or "none" in views.strengths:
        return {}
    index = batch["index"][:PICTURES].cpu()
    return {"original": peek(data, data.training_split, index, "cpu")["views"][0]}


def _first(view: View) -> View:
    packed = view.samples is not None
    return view.each(lambda x: drawable(x if packed else x[:PICTURES]))


def drawable(x: Tensor) -> Tensor:
    """Brings a tensor to the CPU; values in half precision, which no picture takes, become
    float32."""
    x = x.detach().cpu()
    return x.float() if x.dtype in HALF else x


def pictures_of(pl_module: Any, trainer: Any) -> dict[str, View]:
    """The method's own pictures (`SSLMethod.pictures`) of 8 samples, by caption, on the CPU. The
    samples are held out where the data has held-out samples. There are none where the method needs
    `TokenEncoder.restore`, and the encoder does not define it; so with `corrupted_of`.

    Every process must call it, since a method may gather; the state of the run does not change.
    """
    data = trainer.datamodule
    if not isinstance(data, SSLDataModule) or data.views is None:
        return {}
    source = data.split("test") or data.split("val") or data.training_split
    views = Views([data.transform("none")] * max(1, data.views.full), data.seed)
    batch = peek(data, source, sample(len(source), PICTURES), trainer.strategy.root_device, views)
    with _looking(pl_module, trainer):
        return _of_tokens(pl_module.pictures, trainer.precision_plugin.convert_input(batch))


def corrupted_of(pl_module: Any, trainer: Any, batch: Batch) -> dict[str, View]:
    """What the method gives its network in place of the views of a training batch
    (`SSLMethod.corrupted`), by caption, on the CPU: of 8 samples, or of all where samples share
    rows. The state of the run does not change."""
    with _looking(pl_module, trainer):
        return corrupted_views(pl_module, trainer.precision_plugin.convert_input(batch))


def corrupted_views(method: Any, batch: Batch) -> dict[str, View]:
    """The same of a method in eval mode, without gradient."""
    views = batch["views"]
    if all(view.samples is None for view in views):
        few = [view.each(lambda x: x[:PICTURES]) for view in views]
        batch = {"views": few, "index": batch["index"][:PICTURES], "key": batch["key"][:PICTURES]}
    return _of_tokens(method.corrupted, batch)


def _of_tokens(pictures: Callable[[Batch], dict[str, Tensor]], batch: Batch) -> dict[str, View]:
    """The pictures of a batch by caption; none where the encoder does not make them of its
    tokens."""
    try:
        return {caption: View(drawable(x)) for caption, x in pictures(batch).items()}
    except NotRestorable:
        return {}


@contextmanager
def _looking(pl_module: Any, trainer: Any) -> Iterator[None]:
    """A forward pass as in training that leaves the run as it is."""
    device = trainer.strategy.root_device
    generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with evaluating(pl_module), generators, torch.no_grad(), trainer.precision_plugin.forward_context():
        yield
