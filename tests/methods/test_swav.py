"""SwAV is its paper's Algorithm 1: the loss, what is assigned, when prototypes move and when the
queue is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightly.loss import SwaVLoss
from lightning_fabric.utilities.exceptions import MisconfigurationException
from resuming import Run, assert_same, finished, kill
from ssl_lightning.methods.swav import SwAV
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.optim.recipes import parameter_groups
from ssl_lightning.testing import TinyEncoder, TinyImages, check_method
from ssl_lightning.types import Batch, View, joined

EPOCH = 4
"""Steps: 64 samples in batches of 16."""


def method(encoder: Encoder | None = None, **changes: Any) -> SwAV:
    torch.manual_seed(0)
    init_args = {"output_dim": 6, "prototypes": 10, "local_views": 2, "norm": "layer", "warmup_epochs": 0, **changes}
    return SwAV(encoder or TinyEncoder(), **init_args)


def batch_for(model: SwAV, samples: int = 16, channels: int = 1, size: int = 16, local: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(samples)
    sizes = [size] * model.views.full + [local] * model.views.local
    views = [View(torch.randn(samples, channels, side, side, generator=generator)) for side in sizes]
    return {"views": views, "index": torch.arange(samples), "key": torch.arange(samples)}


def trained(model: SwAV, callback: pl.Callback, epochs: int = 2, **trainer: Any) -> SwAV:
    pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        **trainer,
    ).fit(model, datamodule=TinyImages())
    return model


# The loss and its gradient.


def algorithm_1(model: SwAV, batch: Batch) -> Tensor:
    """arXiv 2006.09882, Algorithm 1 with the multi-crop of Section 3.3 and the queue of Section
    4.1, as a loop."""
    c = model.prototypes.weight  # of length 1, which is not part of the gradient
    z = [F.normalize(model.projector(model.encoder(view)), dim=1) for view in batch["views"]]
    terms = []
    for s in range(2):
        with torch.no_grad():
            scores = z[s] @ c.T
            if model.queue is not None:
                half = model.queue.features.shape[1] // 2
                scores = torch.cat(
                    [scores, F.normalize(model.queue.features[:, s * half : (s + 1) * half], dim=1) @ c.T]
                )
            q = (scores / model.epsilon).exp()
            for _ in range(model.iterations):
                q = q / q.sum(dim=0)
                q = q / q.sum(dim=1, keepdim=True)
            q = q[: len(z[s])]
        for t in range(len(z)):
            if t != s:
                p = (z[t] @ c.T / model.temperature).softmax(dim=1)
                terms.append(-(q * p.log()).sum(dim=1).mean())
    return torch.stack(terms).mean()


def lightlys(model: SwAV, batch: Batch) -> Tensor:
    scores = [model.prototypes(model.projector(model.encoder(view))) for view in batch["views"]]
    earlier = None if model.queue is None else [model.prototypes(half) for half in model.queue.features.chunk(2, dim=1)]
    loss: Tensor = SwaVLoss(model.temperature, model.iterations, model.epsilon)(scores[:2], scores[2:], earlier)[0]
    return loss


@pytest.mark.parametrize("reference", [algorithm_1, lightlys])
@pytest.mark.parametrize("queue_length", [0, 21])
@pytest.mark.parametrize("local_views", [0, 3])
def test_loss_and_gradient_are_the_papers(
    local_views: int, queue_length: int, reference: Callable[[SwAV, Batch], Tensor]
) -> None:
    """Codes have no gradient, local views are never assigned, each full view is assigned with its
    own half of the queue."""
    model = method(local_views=local_views, queue_length=queue_length, queue_epochs=0.0).double()
    batch = batch_for(model)
    batch["views"] = [View(view.x.double()) for view in batch["views"]]
    ours, theirs = model.step(batch)["loss"], reference(model, batch)
    assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=0)
    parameters = list(model.parameters())
    for mine, other in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert_close(mine, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()))


def authors_forward(model: SwAV, views: list[View]) -> Tensor:
    """`ResNet.forward` of facebookresearch/swav, src/resnet50.py, in our names: [V S, D]."""
    inputs = [view.x for view in views]
    ends = torch.cumsum(torch.unique_consecutive(torch.tensor([x.shape[-1] for x in inputs]), return_counts=True)[1], 0)
    start, outputs = 0, []
    for end in ends.tolist():
        outputs.append(model.encoder(View(torch.cat(inputs[start:end]))))
        start = end
    return model.projector(torch.cat(outputs))


def test_batch_norm_sees_all_crops_of_a_size_together_as_in_the_authors_code() -> None:
    """Values, gradients and running statistics; crop by crop they are others."""
    models = [method(ConvEncoder(channels=1, width=4, depth=2), norm="batch", local_views=3) for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    views = batch_for(models[0])["views"]
    z = [
        torch.cat(models[0].project(views)),
        authors_forward(models[1], views),
        torch.cat([models[2].projector(models[2].encoder(view)) for view in views]),
    ]
    for each in z:
        each.square().sum().backward()
    assert z[0].shape == (5 * 16, 6)
    assert_close(z[0], z[1])
    assert not torch.allclose(z[0], z[2], atol=1e-2)
    states = [{**model.state_dict(), **{n: p.grad for n, p in model.named_parameters()}} for model in models]
    assert_close(states[0], states[1])
    assert any("running_mean" in name for name in states[0])


def test_views_of_packed_or_padded_rows_pass_together_too() -> None:
    """Samples keep their rows, segments and positions, and none sees another's."""
    torch.manual_seed(0)
    encoder = TextTransformer(vocab_size=30, dim=8, depth=1, heads=2, max_length=8).double().eval()
    views = [
        pack(Ragged(torch.randint(5, 30, (sum(lengths),)), torch.tensor(lengths)), 8)
        for lengths in ([3, 5, 2, 8], [4, 4, 7, 1])
    ]
    together = joined(views)
    assert together.samples == 8 and together.segment is not None and together.segment.max() == 8
    assert_close(encoder(together), torch.cat([encoder(view) for view in views]))
    padded = View(torch.randn(2, 3), torch.tensor([[1, 1, 0], [2, 2, 2]]))
    assert joined([padded, padded]).segment.tolist() == [[1, 1, 0], [2, 2, 2], [3, 3, 0], [4, 4, 4]]
    assert joined([padded, padded]).samples is None


# Prototypes.


class Record(pl.Callback):
    """The prototypes before the first step and after each; what was scored and the queue in each
    step."""

    def __init__(self) -> None:
        self.prototypes: list[Tensor] = []
        self.scored: list[list[Tensor]] = []
        self.queue: list[Tensor] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.prototypes.append(pl_module.prototypes.weight.detach().clone())
        pl_module.prototypes.register_forward_hook(
            lambda module, args, out: self.scored[-1].append(args[0].detach().clone())
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.scored.append([])
        if pl_module.queue is not None:
            self.queue.append(pl_module.queue.features.clone())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.prototypes.append(pl_module.prototypes.weight.detach().clone())


@pytest.mark.parametrize(
    ("optimizer", "freeze_epochs", "steps"),
    [("adamw", 1.0, 4), ("sgd", 0.5, 2), ("lars", 1.3, 6), ("sgd", 0.0, 0), ("adamw", 0.01, 1)],
)
def test_prototypes_rest_exactly_as_long_as_told_and_keep_length_1(
    optimizer: str, freeze_epochs: float, steps: int
) -> None:
    record = Record()
    trained(method(optimizer=optimizer, freeze_epochs=freeze_epochs, weight_decay=0.5, lr=1.0), record)
    assert len(record.prototypes) == 2 * EPOCH + 1
    for step, (before, after) in enumerate(zip(record.prototypes, record.prototypes[1:], strict=False)):
        assert torch.equal(before, after) == (step < steps), step
        assert_close(after.norm(dim=1), torch.ones(10))


def test_accumulated_batches_are_refused_with_the_reason() -> None:
    with pytest.raises(
        MisconfigurationException,
        match=r"accumulate_grad_batches=2 changes the loss of SwAV: the prototypes are shared out",
    ):
        trained(method(), Record(), accumulate_grad_batches=2)


def test_prototypes_decay_no_less_than_other_weights() -> None:
    """They are weights, not norms; normalising them afterwards is what keeps their length."""
    model = method()
    decayed, _ = parameter_groups(model, 0.1)
    assert any(parameter is model.prototypes.weight for parameter in decayed["params"])


# The queue.


@pytest.mark.parametrize(("queue_epochs", "first"), [(0.0, 2), (0.75, 3), (1.0, 4), (1.1, 5)])
def test_the_queue_is_used_from_its_epoch_on_each_view_with_its_own_half(queue_epochs: float, first: int) -> None:
    """But not before it is full: 24 features are two steps of 16."""
    record = Record()
    model = trained(method(queue_length=24, queue_epochs=queue_epochs), record)
    for step, scored in enumerate(record.scored):
        views, earlier = scored[:4], scored[4:]
        assert [len(z) for z in views] == [16] * 4
        assert [len(z) for z in earlier] == ([24, 24] if step >= first else [])
        for view, z in enumerate(earlier):
            assert torch.equal(z, record.queue[step][:, 6 * view : 6 * view + 6])
    assert model.queue is not None
    latest = torch.cat([torch.cat(scored[:2], dim=1) for scored in record.scored])  # [8 * 16, 12]: no local views
    place = len(latest) % 24
    assert int(model.queue.place) == place
    assert torch.equal(model.queue.features.roll(-place, dims=0), latest[-24:]), "the latest samples, the oldest first"


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit_with_its_queue(run: Run, tmp_path: Path) -> None:
    """Killed while the prototypes rest, and in mid-epoch while the queue is used; its ring is then
    at a place of its own."""
    spec = {
        "method": "swav",
        "samples": 70,
        "watch": False,
        "init_args": {
            "prototypes": 10,
            "output_dim": 6,
            "local_views": 1,
            "queue_length": 21,
            "queue_epochs": 1.25,
            "freeze_epochs": 0.75,
        },
    }
    straight = finished(run(tmp_path / "straight", **spec))
    kill(run, tmp_path / "killed", "start", 4, save_at=[3, 7], **spec)
    kill(run, tmp_path / "killed", "start", 8, save_at=[3, 7], ckpt_path="auto", **spec)
    resumed = finished(run(tmp_path / "killed", ckpt_path="auto", **spec))
    assert resumed["resumed from"].endswith("step-00000007.ckpt")
    assert int(straight["end"]["weights"]["queue.place"]) == 12 * 16 % 21
    assert_same(resumed, straight)


# Views and encoders.


def test_the_conformance_kit_passes_with_queue_and_without_local_views() -> None:
    """bf16, batches of 2 and 13, any order of samples, resume."""
    check_method("swav", local_views=0, queue_length=24, queue_epochs=0.5, prototypes=10)


def test_local_views_are_asked_for_and_their_lack_is_told() -> None:
    class Whole(TinyImages):
        serves_local = False

    assert (SwAV(TinyEncoder()).views.full, SwAV(TinyEncoder()).views.local) == (2, 6)
    with pytest.raises(ValueError, match="SwAV asks for 6 local views; Whole has none"):
        Whole().serve(SwAV(TinyEncoder()))
    Whole().serve(method(local_views=0))


VIT = {"channels": 1, "image_size": 32, "patch_size": 8}


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: ConvEncoder(channels=1, width=4, depth=3),
        lambda: TimmEncoder("resnet18", small_images=True, channels=1),
        lambda: TimmEncoder("vit_tiny_patch16_224", dynamic_image_size=True, **VIT),
    ],
    ids=["conv", "resnet", "vit of any size"],
)
def test_encoders_take_local_views(encoder: Callable[[], Encoder]) -> None:
    model = method(encoder())
    loss = model.step(batch_for(model, samples=2, size=32, local=16))["loss"]
    loss.backward()
    assert bool(loss.isfinite())


def test_a_vision_transformer_of_one_size_says_what_to_set() -> None:
    model = method(TimmEncoder("vit_tiny_patch16_224", **VIT))
    with pytest.raises(
        ValueError, match=r"takes images of 32x32 pixels, got 16x16: .* for local views .* dynamic_image_size=true"
    ):
        model.step(batch_for(model, samples=2, size=32, local=16))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prototypes": 1}, "prototypes=1: at least 2"),
        ({"epsilon": 0.0}, r"SwAV\(epsilon=0.0\) must be above 0"),
        ({"temperature": -0.1}, r"SwAV\(temperature=-0.1\) must be above 0"),
        ({"iterations": 0}, r"SwAV\(iterations=0\) must be at least 1"),
        ({"queue_length": -1}, "length=-1"),
        ({"local_views": -1}, "local_views=-1"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        method(**change)
