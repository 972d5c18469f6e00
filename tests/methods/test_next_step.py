"""next_step predicts from the past alone what comes n steps later in the same recording, and knows
what that is worth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recordings import LENGTHS, batch_of
from ssl_lightning.methods.next_step import Ahead, NextStep
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, View
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.testing import TinyTokenEncoder


class OnAGrid(FrameTransformer):
    """Takes two tokens for one step of time, as of a video with two patches a picture."""

    def grid(self, view: View) -> tuple[int, ...]:
        return super().grid(view)[0] // 2, 2


def exact(cls: type[FrameTransformer] = FrameTransformer, **init_args: Any) -> NextStep:
    torch.manual_seed(0)
    method = NextStep(
        cls(mels=4, frames_per_token=2, dim=8, depth=2, heads=2, causal=True), **{"steps": 2, **init_args}
    ).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return method


def written_out(method: NextStep, batch: Batch, lengths: list[int], n: int = 2) -> Tensor:
    """Of one recording after the other, of each token the mean of |x_(t+n) - (W h_t + b)| (arXiv
    1904.03240, Section 2.2), where h_t is the last contextual token of the recording cut off behind
    t."""
    terms = []
    for x, length in zip(batch["views"][0].x, lengths, strict=True):
        frames = x[0].T
        for t in range(length // 2 - n):
            heard = View(x[None, :, :, : 2 * t + 2])
            h = method.encoder.mix(method.encoder.tokenize(heard))[0, -1]
            future = torch.cat([frames[2 * (t + n)], frames[2 * (t + n) + 1]])
            terms.append((future - (method.head.weight @ h + method.head.bias)).abs().sum() / 8)
    return torch.stack(terms)


def test_loss_and_gradient_are_those_of_each_recording_heard_up_to_each_token() -> None:
    """So nothing of the future, of padding, or of another recording goes in."""
    method, batch = exact(), batch_of()
    terms = written_out(method, batch, LENGTHS)
    step = method.step(batch)
    assert len(terms) == 6 + 2 + 4 + 1 == step["weight"]
    assert_close(step["loss"], terms.mean(), rtol=1e-9, atol=0)
    parameters = dict(method.named_parameters())
    ours, theirs = (torch.autograd.grad(loss, list(parameters.values())) for loss in (step["loss"], terms.mean()))
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert_close(
            one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()), msg=lambda text, name=name: f"{name}: {text}"
        )


def test_padding_changes_nothing() -> None:
    method = exact()
    one, other = (method.step(batch_of(loud=loud)) for loud in (50.0, -3.0))
    assert torch.equal(one["loss"], other["loss"]) and torch.equal(one["embeddings"], other["embeddings"])
    assert torch.equal(one["logs"]["skill"], other["logs"]["skill"])
    nothing = method.step(batch_of([3, 2, 0]))
    assert nothing["loss"] == 0 and nothing["weight"] == 0 and nothing["logs"]["skill"] == 0


def test_on_a_grid_a_step_ahead_is_the_same_place_later() -> None:
    """In the order of time, with two tokens a step: one step ahead is two tokens on."""
    batch = batch_of([16])
    assert_close(exact(OnAGrid, steps=1).step(batch)["loss"], exact(steps=2).step(batch)["loss"])


def test_the_skill_is_0_for_repeating_and_1_for_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = exact(), batch_of()
    ahead, embeddings = method.predict(batch["views"][0])
    mean = (ahead.future * ahead.real).sum((0, 1), keepdim=True) / ahead.real.sum()

    def scored(predicted: Tensor) -> dict[str, float]:
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(method, "predict", lambda _: (Ahead(predicted, *ahead[1:]), embeddings))
            found = {name: float(value) for name, value in method.scores([batch]).items()}
            assert_close(float(method.step(batch)["logs"]["skill"]), found["skill"], rtol=1e-5, atol=1e-6)
        return found

    assert scored(ahead.now)["skill"] == 0
    assert scored(ahead.future) == {"skill": 1.0, "explained": 1.0}
    assert abs(scored(mean.expand_as(ahead.now))["explained"]) < 1e-6
    half = scored((ahead.now + ahead.future) / 2)
    assert abs(half["skill"] - 0.5) < 1e-6


def test_scores_weigh_tokens_alike_over_batches() -> None:
    method, batch = exact(), batch_of()
    (view,) = batch["views"]
    assert view.segment is not None
    parts: list[Batch] = []
    for rows in (slice(0, 4), slice(4, 5)):
        real = view.segment[rows] > 0
        parts.append({**batch, "views": [View(view.x[rows], real * torch.arange(1, len(real) + 1)[:, None])]})
    with torch.no_grad():
        assert_close(method.scores(iter(parts)), method.scores([batch]))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"FrameTransformer sees the future: set --model.encoder.causal true"):
        NextStep(FrameTransformer(mels=4, dim=8, heads=2))
    with pytest.raises(TypeError, match=r"SequenceEncoder, such as FrameTransformer, got a TinyTokenEncoder"):
        NextStep(TinyTokenEncoder())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"NextStep\(steps=0\) must be at least 1"):
        exact(steps=0)
    with pytest.raises(ValueError, match=r"NextStep\(steps=8\) looks beyond the end of views of 8 time steps"):
        exact(steps=8).step(batch_of())
