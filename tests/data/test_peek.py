"""Embedding beside a training leaves no trace in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn

from ssl_lightning.data.peek import BATCH, embed, embed_to_host, evaluating, peek, sample
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View


class Normed(TinyEncoder):
    """With what is easily disturbed: running statistics, one of them frozen, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm, self.frozen, self.drop = nn.BatchNorm1d(self.dim), nn.BatchNorm1d(self.dim), nn.Dropout(0.5)
        self.train()
        self.frozen.eval()

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.drop(self.frozen(self.batch_norm(super().forward(view))))
        return features


def modes(network: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in network.named_modules()}


@pytest.fixture
def data() -> TinyImages:
    return TinyImages(samples=40)


@pytest.mark.parametrize("fails", [False, True])
def test_each_module_gets_back_the_mode_that_it_had(fails: bool, data: TinyImages) -> None:
    """Also a norm layer that was frozen before, and also where the network raises."""
    network = Normed()
    before, seen = modes(network), []

    def look(module: nn.Module, *args: object) -> None:
        seen.append(modes(network))
        if fails:
            raise RuntimeError("broken on purpose")

    network.drop.register_forward_hook(look)
    assert not before["frozen"] and before["batch_norm"]
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            embed(network, data, data.split("train"))  # type: ignore[arg-type]
    else:
        embed(network, data, data.split("train"))  # type: ignore[arg-type]
    assert seen and not any(seen[0].values())
    assert modes(network) == before


def test_weights_statistics_gradients_and_random_numbers_stay_as_they_were(data: TinyImages) -> None:
    network = Normed()
    network(View(torch.randn(8, 1, 16, 16))).sum().backward()
    state, gradients = (
        copy.deepcopy(network.state_dict()),
        [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None],
    )
    random = torch.get_rng_state()
    features = embed(network, data, data.split("train"))  # type: ignore[arg-type]
    assert not features.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    now = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(gradients) == len(now) > 0 and all(torch.equal(a, b) for a, b in zip(gradients, now, strict=True))


def test_features_are_those_of_the_test_transform_in_the_order_that_was_asked_for(data: TinyImages) -> None:
    network, source, index = TinyEncoder(), data.source("val"), torch.tensor([7, 3, 3, 39])
    assert source is not None
    by_hand = network(View(data.transform("none")(source.fetch(index), torch.zeros(4, dtype=torch.int64))))
    assert torch.equal(embed(network, data, source, index), by_hand)


def test_more_samples_than_a_batch_are_embedded_in_pieces() -> None:
    """Sizes around the piece's own: nothing is lost or doubled."""
    data, sizes = TinyImages(samples=BATCH + 1), []
    network, source = TinyEncoder(), data.source("train")
    assert source is not None
    network.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    features = embed(network, data, source)
    assert sizes == [BATCH, 1] and features.shape == (BATCH + 1, 8)
    assert torch.equal(features[-1:], embed(network, data, source, torch.tensor([BATCH])))


def test_features_for_the_host_leave_the_device_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of `embed`; so are raw features, which need no network."""
    data, moved, cpu = TinyImages(samples=2 * BATCH + 1), [], Tensor.cpu
    network, source = TinyEncoder(), data.source("train")
    assert source is not None
    index, expected = torch.arange(len(source)).flip(0), embed(network, data, source).flip(0)
    monkeypatch.setattr(Tensor, "cpu", lambda self: moved.append(len(self)) or cpu(self))
    assert torch.equal(embed_to_host(network, data, source, index), expected)
    assert moved == [BATCH, BATCH, 1]
    raw = embed_to_host(None, data, source, index[:5])
    assert torch.equal(raw, data.raw_features(source.fetch(index[:5])))


@pytest.mark.parametrize("enter", [lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_forward_pass_runs_in_the_precision_of_the_training_and_features_are_float32(
    enter: Callable[[], torch.autocast], data: TinyImages
) -> None:
    network, source, seen = TinyEncoder(), data.source("train"), []
    assert source is not None
    network.conv.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    assert embed(network, data, source, context=enter).dtype == torch.float32
    assert seen == [torch.bfloat16]


def test_a_sample_is_fixed_without_repeats_and_in_order() -> None:
    assert torch.equal(sample(5, None), torch.arange(5)) and torch.equal(sample(5, 5), torch.arange(5))
    some = sample(1000, 100)
    assert torch.equal(some, sample(1000, 100)) and len(some.unique()) == 100
    assert torch.equal(some, some.sort().values) and int(some.max()) < 1000 and int(some.max()) > 900


def test_evaluating_may_be_nested() -> None:
    network = Normed()

    @contextmanager
    def twice() -> Iterator[None]:
        with evaluating(network), evaluating(network.drop):
            yield

    before = modes(network)
    with twice():
        assert not any(modes(network).values())
    assert modes(network) == before


class Multiplied(nn.Module):
    """Images as a product with a matrix, which autocast would round."""

    def forward(self, raw: Tensor, key: Tensor) -> Tensor:
        x = raw.float().flatten(1) / 255
        return x @ torch.linspace(-1, 1, x.shape[1] ** 2).view(x.shape[1], -1)


class Matrices(TinyImages):
    """Its views are made by a product of matrices."""

    def transform(self, strength: str, local_size: int | None = None) -> nn.Module:
        return Multiplied()


@pytest.mark.parametrize("augment_on", ["device", "worker"])
def test_views_are_made_in_full_precision_whoever_looks_and_wherever_they_are_made(augment_on: str) -> None:
    data, index = Matrices(samples=8, batch_size=4, augment_on=augment_on), torch.arange(4)
    data.setup("fit")
    data.serve(SimCLR(TinyEncoder()))
    expected = Multiplied()(data.training_split.fetch(index), index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Multiplied()(data.training_split.fetch(index), index).dtype == torch.bfloat16
        looked = peek(data, data.training_split, index, "cpu", data.maker)
        clean = peek(data, data.training_split, index, "cpu")
        trained = data.make_batch({"raw": data.training_split.fetch(index), "index": index, "pass": index * 0})
    for view in (*looked["views"], *clean["views"], *trained["views"]):
        assert torch.equal(view.x, expected)
    assert "label" not in looked and torch.equal(looked["key"], trained["key"])
