"""Views, losses and gradients on a GPU are those of a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from lightning_fabric.utilities import move_data_to_device
from ssl_lightning.datamodules.tones import Tones
from torch import Tensor

from ssl_lightning import ImagePolicy, batch_nce, nt_xent, queue_nce
from ssl_lightning.augment.random import normal, sample_keys, uniform
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import MethodKit
from ssl_lightning.types import Strength, ViewSpec

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
METHODS = Registry("ssl_lightning.methods")
KEYS = sample_keys(0, 0, torch.arange(64))


@dataclass
class Asks:
    """Asks a datamodule for views."""

    views: ViewSpec


def close(here: Any, there: Any, tolerance: float, what: str = "") -> None:
    torch.testing.assert_close(there.cpu(), here, rtol=tolerance, atol=tolerance, msg=lambda text: f"{what}: {text}")


def test_random_numbers() -> None:
    assert torch.equal(uniform(KEYS.to(DEVICE), 100).cpu(), uniform(KEYS, 100))
    close(normal(KEYS, 100), normal(KEYS.to(DEVICE), 100), 1e-5)


@pytest.mark.parametrize("strength", get_args(Strength))
@pytest.mark.parametrize(("source", "size", "channels"), [(32, 32, 3), (48, 72, 3), (40, 32, 1)])
def test_images(strength: Strength, source: int, size: int, channels: int, full_float32: None) -> None:
    jitter = (0.8, 0.8, 0.8, 0.2)
    recipe = ImagePolicy(rotation=12, shear=10, jitter=jitter, blur_p=0.5, solarize_p=0.5, mean=(0.0,), std=(1.0,))
    view = recipe.build(strength, size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, channels, source, source), dtype=torch.uint8, generator=generator)
    here = view(images, KEYS)
    close(here, copy.deepcopy(view).to(DEVICE)(images.to(DEVICE), KEYS.to(DEVICE)), 1e-5)


@pytest.mark.parametrize(("features", "tolerance"), [("wave", 1e-5), ("log_mel", 5e-3)])
@pytest.mark.parametrize("strength", ["none", "weak", "strong"])
def test_sounds(features: Any, tolerance: float, strength: Strength, full_float32: None) -> None:
    """The logarithm enlarges what rounding does to quiet bands."""
    data = Tones(features=features, batch_size=32)
    data.serve(Asks(ViewSpec(full=1, strength=strength)))
    fetched = next(iter(data.train_dataloader()))
    here, there = (
        data.make_batch(data.transfer_batch_to_device(fetched, torch.device(device), 0))["views"][0]
        for device in ("cpu", DEVICE)
    )
    assert there.x.device.type == DEVICE
    close(here.x, there.x, tolerance)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda z, other: nt_xent(z, other, 0.2),
    "queue_nce": lambda z, other: queue_nce(z, other.detach(), torch.nn.functional.normalize(other.roll(1)), 0.2),
    "batch_nce": lambda z, other: batch_nce(z, other.detach(), 0.2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(300, 32, generator=generator) for _ in range(2)]
    results = []
    for device in ("cpu", DEVICE):
        z, other = (each.to(device).requires_grad_() for each in pair)
        loss = LOSSES[name](z, other)
        results.append((loss.detach(), torch.autograd.grad(loss, z)[0]))
    for here, there in zip(*results, strict=True):
        close(here, there, 1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_and_gradient_of_a_method(name: str, full_float32: None) -> None:
    kit = MethodKit(METHODS[name])
    method, batch = kit.method(), kit.batch()
    twin, moved = copy.deepcopy(method).to(DEVICE), move_data_to_device(batch, torch.device(DEVICE))
    here, there = kit.loss(batch, method), kit.loss(moved, twin)
    close(here.detach(), there.detach(), 1e-4)
    here.backward()
    there.backward()
    for (weight, mine), other in zip(method.named_parameters(), twin.parameters(), strict=True):
        if mine.grad is not None:
            close(mine.grad, other.grad, 1e-3, weight)
