"""WaveTransformer is transformers' wav2vec 2.0, layer by layer; padding changes no feature."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from wav2vec2_twins import STEM, recordings, twin

from ssl_lightning import View
from ssl_lightning.encoders.wave import WaveTransformer, _Convolution
from ssl_lightning.nn.ema import EMA
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.pretrained import load_encoder
from ssl_lightning.types import Tokens

SIZES: dict[str, Any] = {"dim": 32, "depth": 3, "heads": 2, "dropout": 0.0, **STEM}
VARIANTS = [("layer", "pre"), ("group", "post")]
LENGTHS = [700, 431, 75, 700, 260]
"""Samples of recordings in rows of 700; the third has a single token."""


def encoder_of(stem: Any = "layer", norm: Any = "pre", **changes: Any) -> WaveTransformer:
    """In float64, with weights that are nowhere zero or one by construction."""
    torch.manual_seed(0)
    encoder = WaveTransformer(**{**SIZES, "stem": stem, "norm": norm, **changes}).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    return encoder


def view_of(lengths: list[int], row: int = 700, loud: float = 30.0) -> View:
    x, real = recordings(lengths, row, loud)
    sample = torch.arange(1, len(lengths) + 1)[:, None]
    return View(x, real * sample, torch.arange(row).expand(len(lengths), row), len(lengths))


def states_of(encoder: WaveTransformer, view: View) -> tuple[Tokens, list[Tensor]]:
    tokens = encoder.tokenize(view)
    return tokens, list(encoder.trunk.states(encoder._placed(tokens), tokens.segment))


@pytest.mark.parametrize(("stem", "norm"), VARIANTS)
def test_it_is_transformers_wav2vec2(stem: str, norm: str) -> None:
    """What the stem finds, and every layer; the last one of transformers is without the norm that
    follows it."""
    pytest.importorskip("transformers")
    encoder = encoder_of(stem, norm)
    model, view = twin(encoder), View(recordings([700] * 3, 700)[0])
    theirs = model(view.x, output_hidden_states=True)
    tokens, states = states_of(encoder, view)
    assert_close(encoder.normed(encoder.stem(view)).x, theirs.extract_features, rtol=0, atol=1e-9)
    expected = [*theirs.hidden_states[:-1], theirs.last_hidden_state]
    assert len(states) == 4
    for number, (one, other) in enumerate(zip(states, expected, strict=True)):
        assert_close(one, other, rtol=0, atol=1e-9, msg=partial("layer {}: {}".format, number))
    assert_close(encoder.mix(tokens), theirs.last_hidden_state, rtol=0, atol=1e-9)
    assert_close(encoder.layer_features(view), torch.stack(expected, dim=1).mean(2), rtol=0, atol=1e-9)
    assert_close(encoder(view), encoder.layer_features(view)[:, -1])


def test_it_is_so_with_padding() -> None:
    """With its attention mask; it knows that of the stem with norms of layers alone."""
    pytest.importorskip("transformers")
    encoder, view = encoder_of(), view_of(LENGTHS)
    assert view.segment is not None
    theirs = twin(encoder)(view.x, attention_mask=(view.segment > 0).long(), output_hidden_states=True)
    tokens, states = states_of(encoder, view)
    assert tokens.segment is not None and (tokens.segment > 0).sum(1).tolist() == [encoder.tokens(n) for n in LENGTHS]
    for one, other in zip(states, [*theirs.hidden_states[:-1], theirs.last_hidden_state], strict=True):
        assert_close(one[tokens.segment > 0], other[tokens.segment > 0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("stem", "norm"), VARIANTS)
def test_padding_and_the_batch_change_nothing(stem: str, norm: str) -> None:
    """The features of a recording alone are those in a batch, in a longer row, and whatever is
    behind it; so is their gradient."""
    encoder, view = encoder_of(stem, norm), view_of(LENGTHS)
    features, layers = encoder(view), encoder.layer_features(view)
    assert encoder.reads_padding and layers.shape == (5, 4, 32)
    for row, n in enumerate(LENGTHS):
        alone = View(view.x[row : row + 1, :n])
        assert_close(encoder(alone), features[row : row + 1], rtol=0, atol=1e-9)
        assert_close(encoder.layer_features(alone), layers[row : row + 1], rtol=0, atol=1e-9)
    quiet = view_of(LENGTHS, loud=-2.0)
    assert_close(encoder(quiet), features, rtol=0, atol=1e-12)
    wider = view_of(LENGTHS, 1100)._replace(x=torch.nn.functional.pad(view.x, (0, 400), value=7.0))
    assert_close(encoder(wider), features, rtol=0, atol=1e-9)
    one, other = (
        torch.autograd.grad(each.square().sum(), list(encoder.parameters())) for each in (features, encoder(wider))
    )
    for mine, yours in zip(one, other, strict=True):
        assert_close(mine, yours, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("channels", "kernel", "stride"), [(1, 10, 5), (6, 3, 2), (6, 2, 2), (6, 5, 1)])
def test_the_convolution_of_gpus_is_that_of_cpus(channels: int, kernel: int, stride: int) -> None:
    """Values and gradients, and no transposition: the output's channels are adjacent in memory."""
    torch.manual_seed(0)
    layer = _Convolution(channels, 8, kernel, stride, "layer").double()
    x = torch.randn(3, 41, channels, dtype=torch.float64, requires_grad=True)
    one, other = layer.by_windows(x), layer.by_kernel(x)
    assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert one.is_contiguous() and other.is_contiguous()
    inputs = [x, layer.convolution.weight, layer.convolution.bias]
    for mine, yours in zip(*(torch.autograd.grad(each.square().sum(), inputs) for each in (one, other)), strict=True):
        assert_close(mine, yours, rtol=1e-8, atol=1e-10)


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_a_cpu() -> None:
    encoder, view = encoder_of(), view_of(LENGTHS)
    assert_close(encoder.cuda()(view.each(Tensor.cuda)).cpu(), encoder.cpu()(view), rtol=0, atol=1e-8)


def test_a_recording_too_short_for_a_token_has_one() -> None:
    encoder = encoder_of()
    assert encoder.receptive_field == 60 and [encoder.tokens(n) for n in (59, 60, 99, 100)] == [0, 1, 1, 2]
    tokens = encoder.tokenize(view_of([700, 40, 3], loud=0.0))
    assert tokens.segment is not None and (tokens.segment > 0).sum(1).tolist() == [17, 1, 1]
    assert encoder(view_of([700, 40, 3], loud=0.0)).isfinite().all()
    paper = WaveTransformer(size="tiny")
    assert paper.receptive_field == 400 and paper.hop == 320 and paper.tokens(16_000) == 49, (
        "25 ms, 20 ms, 49 Hz (Section 4.2)"
    )


@pytest.mark.parametrize(("kernels", "strides"), [(STEM["kernels"], STEM["strides"]), ([4, 3], [4, 3]), ([5], [2])])
def test_content_and_its_inverse(kernels: list[int], strides: list[int]) -> None:
    """Each token's samples are those from its first one to the next token's; together they are the
    wave."""
    encoder = encoder_of(kernels=kernels, strides=strides)
    view = View(recordings([333] * 2, 333)[0])
    content = encoder.content(view)
    assert content.shape == (2, encoder.tokens(333), encoder.content_dim) and encoder.grid(view) == (content.shape[1],)
    assert torch.equal(content[:, 3], view.x[:, 3 * encoder.hop : 4 * encoder.hop])
    assert torch.equal(encoder.restore(content, view), view.x)
    (reached,) = torch.autograd.grad(encoder.stem(View(x := view.x.requires_grad_())).x[:, 3].sum(), x)
    places = reached[0].nonzero()[:, 0]
    assert (int(places.min()), int(places.max()) + 1) == (3 * encoder.hop, 3 * encoder.hop + encoder.receptive_field)


@pytest.mark.parametrize(("stem", "norm"), VARIANTS)
def test_it_is_copied_kept_and_shared_out(stem: str, norm: str, tmp_path: Path) -> None:
    """Its weight-normed convolution goes through copies, a slow teacher and a file; every parameter
    is of one layer and learns."""
    encoder, view = (
        encoder_of(stem, norm).float().eval(),
        view_of(LENGTHS).each(lambda part: part.float() if part.dtype == torch.float64 else part),
    )
    expected = encoder(view)
    assert torch.equal(copy.deepcopy(encoder)(view), expected)
    slow: Any = EMA(encoder, 0.5)
    with torch.no_grad():
        encoder.positions.convolution.parametrizations.weight.original0.mul_(3.0)  # type: ignore[union-attr, operator]
    before = slow.module.positions.convolution.weight.clone()
    slow.update(0.0)
    gain = slow.module.positions.convolution.parametrizations.weight.original0
    assert_close(slow.module.positions.convolution.weight, 2 * before)
    assert gain.shape == (1, 1, 128)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    assert torch.equal(load_encoder(tmp_path / "encoder.safetensors").eval()(view), encoder(view))
    groups = encoder.layer_groups()
    assert sorted(id(each) for group in groups for each in group) == sorted(id(each) for each in encoder.parameters())
    assert len(groups) == 4 + 1 + 3 + (norm == "pre")
    encoder.train()(view).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_a_position_is_told_from_another() -> None:
    """By the convolution: the same sound twice gives tokens that differ."""
    encoder = encoder_of()
    tokens = encoder.embed(Tokens(torch.ones(1, 40, 12, dtype=torch.float64)))
    mixed = encoder.mix(tokens)
    assert (tokens.x[0, 0] == tokens.x[0, 20]).all() and (mixed[0, 0] - mixed[0, 20]).abs().max() > 1e-3


def test_half_precision_is_close() -> None:
    for stem, norm in VARIANTS:
        encoder, view = (
            encoder_of(stem, norm).float(),
            view_of(LENGTHS, loud=0.0).each(lambda part: part.float() if part.dtype == torch.float64 else part),
        )
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(view)
        exact = encoder(view)  # the largest difference depends on the processor's bfloat16 (AMX or not)
        assert (rough.float() - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": "huge"}, "choose a size of tiny, small, base, large"),
        ({"stem": "batch"}, "and layer or group"),
        ({"kernels": [10, 3], "strides": [5]}, "as many of each"),
        ({"kernels": [2], "strides": [5]}, "at most its kernel"),
        ({"kernels": [], "strides": []}, "as many of each"),
        ({"dim": 40}, r"dim=40\) must be a multiple of 16"),
        ({"maps": 0}, r"maps=0\) must be at least 1"),
    ],
    ids=lambda value: str(value),
)
def test_mistakes_are_told(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WaveTransformer(**{**SIZES, **wrong})


def test_views_that_are_no_waves_are_refused() -> None:
    encoder = encoder_of()
    for x in (torch.rand(2, 1, 32, 32), torch.ones(2, 700, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"takes waves \[S, T\], got .* --data\.features wave"):
            encoder(View(x))
    with pytest.raises(ValueError, match="its first token of 60 samples, got waves of 59"):
        encoder(View(torch.zeros(2, 59, dtype=torch.float64)))
