"""The probe on a weighted sum of layers: it finds the layer that knows, with the labels of its own
cell alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.layers import has_layers, layer_weights, layered_row
from ssl_lightning.evaluation.protocol import closing_row


def layered(samples: int, seed: int, knowing: int = 1, layers: int = 4, classes: int = 5) -> tuple[Tensor, Tensor]:
    """[M, L, D] of which one layer knows the class, and all others are noise of ten times its
    size."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % classes
    x = torch.randn(samples, layers, 12, generator=generator) * 10
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    x[:, knowing] = centres[y] + 0.7 * torch.randn(samples, 12, generator=generator)
    return x, y


@pytest.mark.parametrize("knowing", range(4))
def test_the_layer_that_knows_gets_the_weight(knowing: int) -> None:
    x, y = layered(300, 0, knowing)
    x = (x - x.mean(0)) / x.std(0)
    weights = layer_weights(x, y)
    assert weights.sum() == pytest.approx(1, abs=1e-5) and int(weights.argmax()) == knowing and weights[knowing] > 0.6


def test_it_reads_what_the_last_layer_has_lost() -> None:
    (x, y), (test, answers) = layered(300, 0), layered(200, 1)
    row = layered_row(x, y, test, answers, draws=3)
    last = closing_row(x[:, -1], y, test[:, -1], answers, draws=3)
    knows = closing_row(x[:, 1], y, test[:, 1], answers, draws=3)
    assert last["linear"]["mean"] < 0.35  # chance is 0.2
    assert row["linear"]["mean"] > knows["linear"]["mean"] - 0.05
    assert row["linear_10"]["mean"] > last["linear_10"]["mean"] + 0.3 and row["linear_10"]["n"] == 3


def test_the_labels_of_the_test_part_teach_it_nothing() -> None:
    (x, y), (test, answers) = layered(100, 0), layered(100, 1)
    one, other = (layered_row(x, y, test, labels, draws=2) for labels in (answers, answers.roll(1)))
    assert (
        one["linear"]["mean"] + other["linear"]["mean"] <= 1
    )  # the same guesses, of which each is right under one labelling at most


def test_numbers_that_never_vary_do_no_harm() -> None:
    (x, y), (test, answers) = layered(100, 0), layered(100, 1)
    x[:, :, 0], test[:, :, 0] = 3.0, 3.0
    assert layered_row(x, y, test, answers, draws=2)["linear"]["mean"] > 0.5


def test_an_encoder_without_layers_is_left_out() -> None:
    assert not has_layers(ConvEncoder(channels=1)) and not has_layers(None)
