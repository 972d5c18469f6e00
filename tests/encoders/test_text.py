"""TextTransformer: samples that share a row are as in rows of their own; and methods made for
images train on it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import TextTransformer, View
from ssl_lightning.encoders.base import pooled
from ssl_lightning.method import SSLMethod
from ssl_lightning.nn import attention
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import TinyText
from ssl_lightning.testing.tiny import ROW_LENGTH, VOCAB_SIZE
from ssl_lightning.types import Tokens

LENGTHS = [3, 24, 7, 1, 16, 2, 9, 23, 5, 12, 2]
"""Of samples in rows of 24 places: two fill a row, or nearly; others share one."""
KINDS = list(product(("pre", "post"), ("learned", "rotary"), ("gelu", "geglu"), (False, True), ("mean", "first")))


def samples(lengths: list[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 50, (length,), generator=generator) for length in lengths]


def packed(texts: list[Tensor], row_length: int = 24) -> View:
    return pack(Ragged(torch.cat(texts), torch.tensor([len(text) for text in texts])), row_length)


def encoder(
    norm: Any = "pre", position: Any = "learned", activation: Any = "gelu", causal: bool = False, pooling: Any = "mean"
) -> Any:
    """Away from where it starts, so that nothing is nearly zero."""
    torch.manual_seed(0)
    made = TextTransformer(
        vocab_size=50,
        dim=16,
        depth=2,
        heads=2,
        max_length=200,
        norm=norm,
        position=position,
        activation=activation,
        causal=causal,
        pooling=pooling,
        dropout=0.1,
    ).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return made


@pytest.mark.parametrize("plain", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["plain", "torch's"])
def test_packed_equals_separate(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features, and every contextual token, for all kinds of trunks, whichever way attention is
    computed."""
    monkeypatch.setattr(attention, "plain_is_faster", lambda *_: plain)
    texts = samples()
    view = packed(texts)
    assert len(view.x) < len(texts) and view.segment is not None
    for kind in KINDS:
        model = encoder(*kind)
        tokens, features = model.mix(model.tokenize(view)), model(view)
        for place, text in enumerate(texts):
            own = View(text[None])
            assert_close(
                tokens[view.segment == place + 1],
                model.mix(model.tokenize(own))[0],
                rtol=1e-5,
                atol=1e-5,
                msg=f"{kind}",
            )
            assert_close(features[place], model(own)[0], rtol=1e-5, atol=1e-5, msg=f"{kind}")


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_so_it_does_in_long_rows_in_bfloat16_and_in_float64(position: str) -> None:
    """In rows beyond 64 places torch's fused attention is at work."""
    texts, model = samples([90, 3, 150, 7, 40, 60]), encoder(position=position)
    view = packed(texts, 160)
    own = torch.cat([model(View(text[None])) for text in texts])
    assert_close(model(view), own, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert (model(view).float() - own).norm() < 0.02 * own.norm()
    model.to(torch.bfloat16)
    found = model(view)
    assert found.dtype == torch.bfloat16 and (found.float() - own).norm() < 0.05 * own.norm()
    model.double()
    assert_close(model(view), torch.cat([model(View(text[None])) for text in texts]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_no_gradient_flows_from_one_sample_to_another(causal: bool) -> None:
    """Not even a small one; nor from padding. And within a sample it does: to all tokens, or those
    before."""
    model, view = encoder(causal=causal), packed(samples())
    assert view.segment is not None and view.position is not None
    embedded: Tokens = model.tokenize(view)
    x = embedded.x.detach().requires_grad_()
    mixed = model.mix(embedded._replace(x=x))
    for place in range(len(LENGTHS)):
        own = view.segment == place + 1
        (grad,) = torch.autograd.grad(pooled(mixed, view)[place].sum(), x, retain_graph=True)
        assert not grad[~own].any() and grad[own].abs().sum(dim=1).all()
    row, at = (view.position == 5).nonzero()[0].tolist()  # a token in the middle
    (grad,) = torch.autograd.grad(mixed[row, at, 0], x)
    after = (view.segment == view.segment[row, at]) & (view.position > 5)
    assert after.any() and bool(grad[after].any()) != causal


def test_padding_and_the_order_of_samples_change_no_feature() -> None:
    texts, model = samples(), encoder()
    view, features = packed(texts), model(packed(texts))
    assert view.segment is not None
    assert_close(model(view._replace(x=torch.where(view.segment == 0, 17, view.x))), features)
    assert_close(model(packed(texts, 61)), features, rtol=1e-5, atol=1e-6)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(1))
    assert_close(model(packed([texts[place] for place in order])), features[order], rtol=1e-5, atol=1e-6)


def test_a_row_without_segments_is_one_sample() -> None:
    model, x = encoder(), torch.randint(0, 50, (3, 9))
    everyone = View(x, torch.arange(1, 4)[:, None].expand(3, 9), torch.arange(9).expand(3, 9), 3)
    assert_close(model(View(x)), model(everyone))


def test_places_matter_to_learned_and_rotary_positions_alike() -> None:
    """A token elsewhere in its sample, with the same tokens around it, is another."""
    x = torch.tensor([[7, 8, 9, 8]])
    for position in ("learned", "rotary"):
        model = encoder(position=position)
        mixed = model.mix(model.tokenize(View(x)))[0]
        assert (mixed[1] - mixed[3]).abs().max() > 1e-3


def test_every_parameter_belongs_to_one_layer() -> None:
    for norm, position in product(("pre", "post"), ("learned", "rotary")):
        model = encoder(norm=norm, position=position)
        layers = model.layer_groups()
        found = [id(parameter) for layer in layers for parameter in layer]
        assert len(found) == len(set(found)) and set(found) == {id(parameter) for parameter in model.parameters()}
        assert len(layers) == (4 if norm == "pre" else 3)


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        ({"size": "huge"}, "size='huge'.* tiny, mini, small, medium, base"),
        ({"position": "sine"}, "position='sine'.*learned or rotary"),
        ({"pooling": "max"}, "pooling='max'.*mean or first"),
        ({"vocab_size": 0}, "vocab_size=0.*at least 1"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"dim": 6, "heads": 2, "position": "rotary"}, "odd number"),
    ],
)
def test_mistakes_are_named(init_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextTransformer(**{"vocab_size": 20, "dim": 8, "depth": 1, "heads": 2, **init_args})


@pytest.mark.parametrize("x", [torch.zeros(2, 5), torch.zeros(5, dtype=torch.int64)])
def test_what_is_no_token_and_rows_that_are_too_long_are_refused(x: Tensor) -> None:
    model = encoder()
    with pytest.raises(ValueError, match="takes token ids"):
        model(View(x))
    with pytest.raises(ValueError, match=r"max_length=200.*got rows of 201 tokens"):
        model(View(torch.zeros(1, 201, dtype=torch.int64)))


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.seen.append(float(outputs["loss"].detach()))


SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"hidden_dim": 16, "output_dim": 8, "norm": "layer"},
    "byol": {"hidden_dim": 16, "output_dim": 8, "norm": "layer", "momentum": 0.9},
    "moco": {"queue_length": 64, "output_dim": 8, "momentum": 0.9},
    "moco_v3": {"norm": "layer", "momentum": 0.9},
    "swav": {"local_views": 0, "output_dim": 8, "prototypes": 12, "norm": "layer"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_methods_of_images_train_on_text(name: str) -> None:
    """Two views by dropout and by the deletion of tokens; not a line of theirs knows."""
    cls: type[SSLMethod] = Registry("ssl_lightning.methods")[name]
    torch.manual_seed(0)
    method = cls(
        TextTransformer(vocab_size=VOCAB_SIZE, dim=16, depth=1, heads=2, max_length=ROW_LENGTH),
        optimizer="adamw" if "adamw" in cls.optimizer_specs else None, warmup_epochs=0, **SMALL[name],
    )  # fmt: skip
    losses = Losses()
    trainer = pl.Trainer(
        max_steps=40,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses],
    )
    trainer.fit(method, datamodule=TinyText(samples=128, batch_size=32))
    assert all(torch.tensor(losses.seen).isfinite())
    assert sum(losses.seen[-8:]) < 0.97 * sum(losses.seen[4:12])  # MoCo's begins low: its queue is random
