"""infill tells what is missing from what is around it, and from nothing else; its skill is against
a straight line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recordings import LENGTHS, batch_of
from ssl_lightning.methods.infill import Filled, Infill
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, View
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.encoders.base import SequenceEncoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.nn.masks.gaps import interpolated, random_gaps
from ssl_lightning.testing import TinyTokenEncoder


def exact(encoder: SequenceEncoder | None = None, **init_args: Any) -> Infill:
    torch.manual_seed(0)
    method = Infill(
        encoder or FrameTransformer(mels=4, frames_per_token=2, dim=8, depth=2, heads=2), **init_args
    ).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return method.eval()


def waves() -> tuple[SequenceEncoder, Batch]:
    """Tokens of 8 samples each whose windows are 17 long."""
    encoder = WaveTransformer(maps=8, dim=16, depth=1, heads=2, kernels=(5, 3, 3), strides=(2, 2, 2))
    x = torch.randn(3, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index = torch.arange(3)
    return encoder, {"views": [View(x)], "index": index, "key": sample_keys(0, 0, index)}


def written_out(method: Infill, x: Tensor, key: Tensor) -> list[Tensor]:
    """Of a recording alone: blank frames in the gap, a learned token added to what they give, and
    of each hidden token the mean of |W h + b - content|."""
    n = x.shape[-1] // 2
    hidden = random_gaps(key, torch.tensor([n]), n, method.span, method.gaps)[0]
    heard = x.clone()
    for t in hidden.nonzero()[:, 0].tolist():
        heard[:, :, 2 * t : 2 * t + 2] = 0
    tokens = method.encoder.tokenize(View(heard[None])).x[0]
    tokens = torch.stack(
        [token + method.mask_token if gone else token for token, gone in zip(tokens, hidden, strict=True)]
    )
    h = method.encoder.mix(method.encoder.tokenize(View(heard[None]))._replace(x=tokens[None]))[0]
    content = method.encoder.content(View(x[None]))[0]
    return [
        (method.head.weight @ h[t] + method.head.bias - content[t]).abs().mean()
        for t in hidden.nonzero()[:, 0].tolist()
    ]


@pytest.mark.parametrize("init_args", [{}, {"span": 0.5, "gaps": 2}], ids=["one", "two"])
def test_loss_and_gradient_are_those_of_each_recording_alone(init_args: dict[str, Any]) -> None:
    method, batch = exact(**init_args), batch_of()
    terms = [
        term
        for number, (x, length) in enumerate(zip(batch["views"][0].x, LENGTHS, strict=True))
        for term in written_out(method, x[..., :length], batch["key"][number : number + 1])
    ]
    loss, step = torch.stack(terms).mean(), method.step(batch)
    assert step["weight"] == len(terms) > 4
    assert_close(step["loss"], loss, rtol=1e-9, atol=0)
    parameters = dict(method.named_parameters())
    ours, theirs = (torch.autograd.grad(each, list(parameters.values())) for each in (step["loss"], loss))
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert_close(
            one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()), msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", ["frames", "waves"])
def test_nothing_of_the_gap_reaches_what_is_filled_in(kind: str) -> None:
    """Of waves neither, whose windows overlap; what is around the gap does."""
    encoder, batch = waves() if kind == "waves" else (None, batch_of())
    method = exact(encoder)
    (view,), key = batch["views"], batch["key"]
    x = view.x.clone().requires_grad_()
    made = method.fill(view._replace(x=x), key, 0.3, 1)
    (gradient,) = torch.autograd.grad((made.predicted * made.hidden).square().sum(), x)
    per_token = method.encoder.content(view._replace(x=gradient)).abs().sum(2)
    hidden = made.hidden[:, :, 0] > 0
    assert hidden.sum() > 3 and not per_token[hidden].any()
    if view.segment is not None:
        assert not gradient[(view.segment == 0)[:, None, None].expand_as(gradient)].any()
    beside = (hidden.roll(1, 1) | hidden.roll(-1, 1)) & ~hidden
    assert (per_token[beside] > 0).all()


def test_gaps_leave_a_token_on_either_side_and_padding_changes_none() -> None:
    key, lengths = sample_keys(0, 0, torch.arange(2000)), torch.full((2000,), 20)
    hidden = random_gaps(key, lengths, 20, 0.3)
    assert (hidden.sum(1) == 6).all() and not hidden[:, [0, -1]].any() and hidden[:, 1:-1].any(0).all()
    assert ((hidden[:, 1:] != hidden[:, :-1]).sum(1) == 2).all(), "one stretch"
    starts = hidden.int().argmax(1).bincount(minlength=20)[1:14].double()
    assert (starts - 2000 / 13).abs().max() < 5 * (2000 / 13) ** 0.5, "anywhere"
    assert (
        torch.equal(random_gaps(key, lengths, 33, 0.3)[:, :20], hidden)
        and not random_gaps(key, lengths, 33, 0.3)[:, 20:].any()
    )
    several = random_gaps(key, lengths, 20, 0.6, gaps=3)
    assert ((several[:, 1:] & ~several[:, :-1]).sum(1) == 3).all() and not several[:, [0, -1]].any()
    short = random_gaps(key[:6], torch.arange(6), 8, 0.9)
    assert short.sum(1).tolist() == [0, 0, 0, 1, 2, 3]


def test_interpolation_is_a_straight_line() -> None:
    """In every band of its own, between what is left."""
    x = torch.randn(2, 1, 3, 9, generator=torch.Generator().manual_seed(0))
    hidden = (
        torch.tensor([[0, 1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 0]])
        .bool()[:, None, None]
        .expand(2, 1, 3, 9)
    )
    found = interpolated(x.masked_fill(hidden, 1e9), hidden)
    assert_close(found[~hidden], x[~hidden])
    assert_close(found[0, ..., 1], x[0, ..., 0] * 2 / 3 + x[0, ..., 3] / 3)
    assert_close(found[0, ..., 5], (x[0, ..., 4] + x[0, ..., 6]) / 2)
    for place in range(2, 8):
        assert_close(found[1, ..., place], x[1, ..., 1] + (x[1, ..., 8] - x[1, ..., 1]) * (place - 1) / 7)
    wave, gone = torch.arange(9.0)[None], torch.arange(9)[None].remainder(3) == 1
    assert_close(interpolated(wave.masked_fill(gone, -5.0), gone), wave)


def test_the_skill_is_0_for_a_straight_line_and_1_for_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = exact(), batch_of()
    made = method.fill(batch["views"][0], batch["key"], 0.3, 1)

    def scored(filled: Tensor) -> float:
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(method, "fill", lambda *_: Filled(made.content, made.interpolated, filled, *made[3:]))
            score, logged = method.scores([batch])["skill"], method.step(batch)["logs"]["skill"]
        assert_close(score.double(), logged, rtol=1e-5, atol=1e-6)
        return float(score)

    assert scored(made.interpolated) == 0 and scored(made.content) == 1
    assert abs(scored((made.interpolated + made.content) / 2) - 0.5) < 1e-6
    wide, narrow = (exact(span=span, gaps=gaps).scores([batch]) for span, gaps in ((0.2, 1), (0.7, 2)))
    assert wide == narrow, "one gap of 0.3, whatever is trained with"


@pytest.mark.parametrize("kind", ["frames", "waves"])
def test_pictures_differ_in_the_gap_alone(kind: str) -> None:
    encoder, batch = waves() if kind == "waves" else (None, batch_of([16] * 5))
    method = exact(encoder)
    (view,) = batch["views"]
    shown = method.pictures(batch)
    assert list(shown) == ["original", "gap", "interpolated", "infilled"] and torch.equal(shown["original"], view.x)
    original, gap, *filled = (method.encoder.content(view._replace(x=x)) for x in shown.values())
    hidden = (gap != original).any(2)
    assert gap[hidden].isnan().all() and all(torch.equal(each[~hidden], original[~hidden]) for each in filled)
    assert all(not torch.isclose(each, original)[hidden].all() for each in filled)


@pytest.mark.parametrize("kind", ["frames", "waves"])
def test_what_is_shown_as_a_gap_is_what_the_step_does_not_hear(kind: str) -> None:
    encoder, batch = waves() if kind == "waves" else (None, batch_of([16] * 5))
    method = exact(encoder, span=0.4, gaps=2)
    (view,) = batch["views"]
    shown = method.corrupted(batch)["gap"]

    def heard(gap: float, rest: float) -> Tensor:
        x = torch.where(shown.isnan(), gap, view.x + rest)
        return method.step({**batch, "views": [view._replace(x=x)]})["embeddings"]

    assert 0.3 < shown.isnan().double().mean() <= 0.5
    assert_close(heard(7.0, 0.0), heard(-3.0, 0.0))
    assert not torch.allclose(heard(7.0, 0.5), heard(7.0, 0.0))


def test_mistakes_are_named() -> None:
    for change, message in (
        ({"span": 0.0}, r"Infill\(span=0.0\) must be above 0 and below 1"),
        ({"span": 1.0}, r"Infill\(span=1.0\) must be above 0 and below 1"),
        ({"gaps": 0}, r"Infill\(gaps=0\) must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            exact(**change)
    with pytest.raises(TypeError, match="such as FrameTransformer, got a TinyTokenEncoder"):
        Infill(TinyTokenEncoder())  # type: ignore[arg-type]
