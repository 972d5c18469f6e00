"""The linear probe by SGD: its heads against PyTorch's optimizer, and what chooses the rate."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from ssl_lightning.augment.random import permutation
from ssl_lightning.data.sources import stratified_split
from ssl_lightning.evaluation.measures import balanced, class_weights
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.classes import Linear
from ssl_lightning.evaluation.protocols.sgd import DEVIATION, RATES, SGD

from .test_classes import clouds


def by_torch(x, y, rate, decay, epochs, size, seed):
    """One head by `torch.optim.SGD` with `CosineAnnealingLR`."""
    head = nn.Linear(x.shape[1], 3)
    with torch.no_grad():
        head.weight.copy_(DEVIATION * torch.randn(x.shape[1], 3, generator=torch.Generator().manual_seed(seed)).T)
        head.bias.zero_()
    optimizer = torch.optim.SGD(head.parameters(), rate * size / 256, momentum=0.9, weight_decay=decay)
    steps = epochs * (len(x) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss = nn.CrossEntropyLoss(class_weights(y), reduction="none")
    for epoch in range(epochs):
        for part in permutation(seed, epoch, len(x)).split(size)[: len(x) // size]:
            optimizer.zero_grad()
            loss(head(x[part]), y[part]).mean().backward()
            optimizer.step()
            schedule.step()
    return head.weight.T, head.bias


@pytest.mark.parametrize(("rate", "decay"), [(0.5, 0.0), (5.0, 0.01)])
def test_each_of_many_heads_is_that_of_pytorch_s_optimizer(rate, decay):
    train = clouds(50)
    train = train._replace(target=torch.where(train.target == 2, 1, train.target).index_fill(0, torch.arange(5), 2))
    protocol = SGD(rates=(1e-3, rate, 0.1), weight_decay=decay, epochs=3, batch_size=16)
    weight, bias = protocol.trained(train.x, train.target, 3, seed=4)
    expected_weight, expected_bias = by_torch(train.x, train.target, rate, decay, 3, 16, 4)
    assert torch.allclose(weight[:, 1], expected_weight, atol=1e-6)
    assert torch.allclose(bias[1], expected_bias, atol=1e-6)
    (alone, _) = SGD(rates=(rate,), weight_decay=decay, epochs=3, batch_size=16).trained(train.x, train.target, 3, 4)
    assert torch.allclose(weight[:, 1:2], alone, atol=1e-7), "heads do not touch each other"


def test_the_rate_is_chosen_on_a_held_out_part_and_never_on_the_judged_samples():
    train, test = clouds(200), clouds(100, seed=1)
    protocol = SGD(rates=(1e-6, 0.1, 100.0), epochs=5, batch_size=16)
    result = protocol.judge(train, test)
    size = train.x.square().mean().sqrt()
    train, test = train._replace(x=train.x / size), test._replace(x=test.x / size)
    kept, out = stratified_split(train.target, 20, 0)
    weight, bias = protocol.trained(train.x[kept], train.target[kept], 3, 0)
    held_out = [
        balanced((train.x[out] @ weight[:, each] + bias[each]).argmax(1) == train.target[out], train.target[out])
        for each in range(3)
    ]
    best = max(range(3), key=held_out.__getitem__)
    assert f"learning rate {protocol.rates[best]:g} " in result.remarks[0]
    hits = (test.x @ weight[:, best] + bias[best]).argmax(1) == test.target
    assert result.scores["accuracy"].value == pytest.approx(balanced(hits, test.target))
    shifted = protocol.judge(train, Samples(-test.x, test.target))
    assert shifted.remarks == result.remarks and shifted.scores != result.scores


def test_the_sweep_is_that_of_dinov2_and_reaches_the_regression():
    assert len(RATES) == 13 and RATES[0] == 1e-5 and RATES[-1] == 0.1
    assert all(1.9 < b / a < 2.6 for a, b in pairwise(RATES))
    accuracy = SGD(epochs=30).judge(clouds(600), clouds(300, seed=1)).scores["accuracy"].value
    regression = Linear(labels_per_class=0).judge(clouds(600), clouds(300, seed=1)).scores["accuracy"].value
    assert accuracy == pytest.approx(regression, abs=0.02)


def test_the_size_of_features_does_not_matter():
    train, test = clouds(200), clouds(100, seed=1)
    results = [
        SGD(epochs=5).judge(train._replace(x=size * train.x), test._replace(x=size * test.x)) for size in (1, 2.0**-10)
    ]
    assert results[0] == results[1] and results[0].scores["accuracy"].value > 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": ()}, r"rates=\(\) is out of its range"),
        ({"rates": (-1.0,)}, "rates"),
        ({"momentum": 1.0}, "momentum=1.0 is out of its range; its default is 0.9"),
        ({"held_out": 1.0}, "held_out"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_settings_out_of_range_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        SGD(**settings)
