"""The product quantizer chooses, learns and counts as transformers' does, by noise that follows
from keys.

Run as a script this file is one of two processes: `test_quantizer.py FOLDER`.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.distributed import rank
from ssl_lightning.nn.quantizer import ProductQuantizer, Quantized, gumbel, perplexity, usage

FEATURES, GROUPS, ENTRIES, DIM = 12, 3, 7, 9


def quantizer() -> ProductQuantizer:
    torch.manual_seed(0)
    return ProductQuantizer(FEATURES, GROUPS, ENTRIES, DIM)


def features(count: int = 40) -> Tensor:
    return 0.3 * torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(1))


def twins() -> tuple[ProductQuantizer, Any]:
    """Ours, and transformers' with the same weights."""
    wav2vec2: Any = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    ours = quantizer()
    config = SimpleNamespace(
        num_codevector_groups=GROUPS, num_codevectors_per_group=ENTRIES, codevector_dim=DIM, conv_dim=[FEATURES]
    )
    theirs = wav2vec2.Wav2Vec2GumbelVectorQuantizer(config)
    theirs.load_state_dict(
        {
            "codevectors": ours.codebooks.flatten(0, 1)[None],
            "weight_proj.weight": ours.score.weight,
            "weight_proj.bias": ours.score.bias,
        }
    )
    return ours, theirs


def test_without_noise_it_is_transformers_in_eval_mode() -> None:
    """Vectors, and the perplexity of the codes over the places that are real."""
    ours, theirs = twins()
    x, real = features(), torch.arange(40) % 3 > 0
    vector, counted = theirs.eval()(x[None], real[None])
    made = ours(x)
    assert_close(made.vector, vector[0])
    assert_close(usage(made, real).chosen, counted)
    assert_close(perplexity(nn.functional.one_hot(made.code[real], ENTRIES).float().mean(0)).sum(), counted)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_with_the_same_noise_it_is_transformers_in_training(monkeypatch: pytest.MonkeyPatch, progress: float) -> None:
    """Values, and the straight-through gradient at the temperature of the moment, of the choice and
    of what keeps entries in use."""
    ours, theirs = twins()
    keys, real = sample_keys(0, 0, torch.arange(40)), torch.arange(40) % 3 > 0
    noise = gumbel(keys, GROUPS * ENTRIES)
    theirs.temperature = ours.temperature_at(progress)
    exponential = Tensor.exponential_
    # transformers takes -log of exponential numbers
    monkeypatch.setattr(Tensor, "exponential_", lambda self, *args: self.copy_((-noise).exp().view_as(self)))
    one, other = features().requires_grad_(), features().requires_grad_()
    vector, counted = theirs.train()(other[None], real[None])
    monkeypatch.setattr(Tensor, "exponential_", exponential)
    made = ours(one, progress, keys)
    used = usage(made, real)
    assert_close(made.vector, vector[0])
    assert_close(used.probable, counted.detach())
    assert_close(used.unused, 1 - counted / (GROUPS * ENTRIES))
    weights = torch.randn(40, DIM, generator=torch.Generator().manual_seed(2))
    ((made.vector * weights).sum() + 30 * used.unused).backward()
    ((vector[0] * weights).sum() - 30 * counted / (GROUPS * ENTRIES)).backward()
    for mine, yours in (
        (one, other),
        (ours.score.weight, theirs.weight_proj.weight),
        (ours.score.bias, theirs.weight_proj.bias),
        (ours.codebooks.flatten(0, 1)[None], theirs.codevectors),
    ):
        mine_grad = ours.codebooks.grad.flatten(0, 1)[None] if mine.ndim == 3 else mine.grad  # type: ignore[union-attr]
        assert mine_grad is not None and yours.grad is not None and yours.grad.abs().max() > 1e-3
        assert_close(mine_grad, yours.grad, rtol=1e-4, atol=1e-5)


def test_the_noise_is_gumbel() -> None:
    """Its distribution function is exp(-exp(-x)): Kolmogorov and Smirnov's distance, beyond 1.95 in
    one of a thousand cases; finite at both ends of the uniform numbers that it is made of."""
    noise = gumbel(sample_keys(0, 0, torch.arange(400)), 100).flatten().double().sort().values
    distance = ((-(-noise).exp()).exp() - torch.arange(1, len(noise) + 1) / len(noise)).abs().max()
    assert distance * len(noise) ** 0.5 < 1.95
    assert abs(noise.mean() - 0.5772) < 0.03 and noise.isfinite().all()


def test_choices_follow_their_keys_and_their_probabilities() -> None:
    """Of one vector, with many keys: each entry as often as its softmax says, whatever the
    temperature."""
    ours = quantizer()
    x, keys = features(1).expand(20_000, -1), sample_keys(5, 0, torch.arange(20_000))
    made = ours(x, 0.5, keys)
    assert torch.equal(made.code, ours(x, 1.0, keys).code)
    assert torch.equal(made.code[100:200], ours(x[100:200], 0.5, keys[100:200]).code)
    for group in range(GROUPS):
        share = made.code[:, group].bincount(minlength=ENTRIES) / 20_000
        assert_close(share, made.probability[0, group], atol=0.015, rtol=0)


def test_the_temperature_falls_until_seven_tenths_of_the_run() -> None:
    ours = quantizer()
    assert [ours.temperature_at(progress) for progress in (0, 0.35, 0.7, 0.9, 1)] == pytest.approx(
        [2.0, 1.0, 0.5, 0.5, 0.5]
    )


def test_it_computes_in_float32_under_autocast() -> None:
    ours, keys = quantizer(), sample_keys(0, 0, torch.arange(40))
    with torch.autocast("cpu", torch.bfloat16):
        made = ours(features().bfloat16(), 0.0, keys)
    assert made.vector.dtype == made.probability.dtype == torch.float32
    assert_close(made.vector, ours(features().bfloat16().float(), 0.0, keys).vector)


@pytest.mark.parametrize(
    "wrong",
    [{"groups": 0}, {"entries": 1}, {"dim": 10}, {"dim": 0}, {"temperature": (2.0, 0.0)}],
    ids=lambda wrong: str(wrong),
)
def test_mistakes_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ProductQuantizer\("):
        ProductQuantizer(FEATURES, **{"groups": GROUPS, "entries": ENTRIES, "dim": DIM, **wrong})


# How much is in use.

COUNTS = [13, 27]
"""Vectors of each of two processes."""


def used_by(part: slice) -> tuple[Any, Tensor, Any]:
    ours = quantizer()
    x, keys, real = features(), sample_keys(0, 0, torch.arange(40)), torch.arange(40) % 4 > 0
    made = ours(x[part], 0.0, keys[part])
    found = usage(made, real[part])
    (gradient,) = torch.autograd.grad(found.unused, ours.score.weight)
    return tuple(value.detach() for value in found), gradient, made


def test_usage_is_its_formula() -> None:
    found, gradient, made = used_by(slice(40))
    real = torch.arange(40) % 4 > 0
    assert isinstance(made, Quantized)
    p = made.probability[real].detach().double().requires_grad_()
    mean = p.mean(0)  # [G, V]
    entropy = -(mean * mean.log()).sum(1)
    unused, probable, chosen, share = found
    assert_close(unused.double(), (1 - entropy.exp().sum() / (GROUPS * ENTRIES)).detach())
    assert_close(probable.double(), entropy.exp().sum().detach())
    counts = [[made.code[real][:, group].eq(entry).sum().item() for entry in range(ENTRIES)] for group in range(GROUPS)]
    expected = sum(math.exp(-sum(n / 30 * math.log(n / 30) for n in each if n)) for each in counts)
    assert float(chosen) == pytest.approx(expected) and 1 < expected < GROUPS * ENTRIES
    assert float(share) == pytest.approx(sum(n > 0 for each in counts for n in each) / (GROUPS * ENTRIES))
    assert gradient.abs().max() > 1e-4


def process(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=2)
    part = slice(13) if rank() == 0 else slice(13, 40)
    found, gradient, _ = used_by(part)
    torch.save({"usage": found, "gradient": gradient}, folder / f"{rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_counts_use_what_one_does(run: Any, tmp_path: Path) -> None:
    """And the mean of their gradients is its gradient."""
    ended = run(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    two = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2)]
    found, gradient, _ = used_by(slice(40))
    for each in two:
        assert_close(tuple(each["usage"]), found)
    assert_close((two[0]["gradient"] + two[1]["gradient"]) / 2, gradient, rtol=1e-4, atol=1e-7)


if __name__ == "__main__":
    process(Path(sys.argv[1]))
