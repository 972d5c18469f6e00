"""Losses equal their papers' formulas and lightly's losses; NT-Xent, however it is cut into chunks
and over processes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_lightning.nn.losses import contrastive, vocabulary
from ssl_lightning.nn.losses.contrastive import batch_nce, nt_xent, queue_nce
from ssl_lightning.nn.losses.prediction import regression
from ssl_lightning.nn.losses.vocabulary import vocabulary_nll


def views(samples: int, dim: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    z1, z2 = (3 * torch.randn(samples, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return z1.to(dtype).requires_grad_(), z2.to(dtype).requires_grad_()


def equation_1(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """arXiv 2002.05709, Equation 1 and Algorithm 1, one pair at a time."""
    z = [row for pair in zip(z1, z2, strict=True) for row in pair]
    s = [[(a @ b) / (a.norm() * b.norm()) for b in z] for a in z]
    loss = z1.new_zeros(())
    for i in range(len(z)):
        j = i + 1 if i % 2 == 0 else i - 1
        others = torch.stack([(s[i][k] / temperature).exp() for k in range(len(z)) if k != i])
        loss = loss - torch.log((s[i][j] / temperature).exp() / others.sum())
    return loss / len(z)


def gradients(loss: Tensor, z1: Tensor, z2: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, (z1, z2)))


@pytest.mark.parametrize("samples", [2, 7, 16])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
def test_value_and_gradient_are_the_papers(samples: int, temperature: float) -> None:
    z1, z2 = views(samples)
    loss, slow = nt_xent(z1, z2, temperature), equation_1(z1, z2, temperature)
    assert_close(loss, slow, rtol=1e-12, atol=0)
    assert_close(gradients(loss, z1, z2), gradients(slow, z1, z2), rtol=1e-9, atol=1e-13)


def test_gradient_equals_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda z1, z2: nt_xent(z1, z2, 0.3), views(5))


def test_value_and_gradient_are_those_of_lightly() -> None:
    z1, z2 = views(33, 16, torch.float32)
    loss, theirs = nt_xent(z1, z2, 0.2), NTXentLoss(temperature=0.2)(z1, z2)
    assert_close(loss, theirs, rtol=1e-6, atol=0)
    assert_close(gradients(loss, z1, z2), gradients(theirs, z1, z2), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 3, 5, 25])
def test_chunks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z1, z2 = views(13)  # an odd batch: 26 anchors, so chunks split pairs and the last one is shorter
    whole = nt_xent(z1, z2, 0.5)
    monkeypatch.setattr(contrastive, "CHUNK", rows * 26)
    cut = nt_xent(z1, z2, 0.5)
    assert_close(cut, whole, rtol=1e-13, atol=0)
    assert_close(gradients(cut, z1, z2), gradients(whole, z1, z2), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("sizes", [[5, 5], [3, 7], [1, 9], [4, 0, 6]])
def test_mean_over_processes_is_the_joint_loss(sizes: list[int]) -> None:
    z1, z2 = views(10)
    joint = nt_xent(z1, z2, 0.5)
    shares = torch.stack([nt_xent(z1, z2, 0.5, sizes, rank) for rank in range(len(sizes))])
    assert_close(shares.mean(), joint, rtol=1e-12, atol=0)
    assert_close(gradients(shares.mean(), z1, z2), gradients(joint, z1, z2), rtol=1e-10, atol=1e-14)


def test_a_process_sees_the_loss_of_its_own_samples() -> None:
    z1, z2 = views(10)
    moved = z1.detach().clone()
    moved[7] = -moved[7]  # of the second process: there the positive pair falls apart
    before, after = ([nt_xent(z, z2, 0.5, [5, 5], rank).item() for rank in range(2)] for z in (z1, moved))
    assert abs(after[1] - before[1]) > 5 * abs(after[0] - before[0]) > 0


@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_features_are_compared_in_float32(autocast: bool) -> None:
    z1, z2 = views(64, 32, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = nt_xent(z1, z2, 0.1)
    exact = nt_xent(z1.double(), z2.double(), 0.1)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert_close(gradients(loss, z1, z2), gradients(exact, z1, z2), rtol=2**-7, atol=1e-7)  # rounded to bfloat16


def test_the_gradient_is_scaled_by_what_follows() -> None:
    z1, z2 = views(6)
    assert_close(
        gradients(-3 * nt_xent(z1, z2, 0.5), z1, z2), [-3 * grad for grad in gradients(nt_xent(z1, z2, 0.5), z1, z2)]
    )


def test_a_single_sample_has_no_loss() -> None:
    z1, z2 = views(1)
    loss = nt_xent(z1, z2, 0.5)
    assert loss == 0
    assert all((grad == 0).all() for grad in gradients(loss, z1, z2))


def test_a_small_temperature_does_not_overflow() -> None:
    z1, z2 = views(16, 8, torch.float32)
    exact = nt_xent(z1.double(), z2.double(), 1e-3)
    assert_close(nt_xent(z1, z2, 1e-3).double(), exact, rtol=1e-5, atol=0)


def test_identical_views_of_orthogonal_samples() -> None:
    eye = torch.eye(4)
    assert_close(nt_xent(eye, 5 * eye, 1.0), torch.tensor(math.log(math.e + 6) - 1))


def test_value_needs_no_gradient() -> None:
    z1, z2 = views(6)
    with torch.no_grad():
        loss = nt_xent(z1, z2, 0.5)
    assert not loss.requires_grad and loss == nt_xent(z1, z2, 0.5)


# The losses with a slow encoder: queries of one network, keys or targets of the other, which get no
# gradient.


def queue(length: int = 11, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(
        torch.randn(length, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
    ).to(dtype)


def info_nce(q: Tensor, k: Tensor, others: list[list[Tensor]], temperature: float) -> Tensor:
    """arXiv 1911.05722, Equation 1: -log(exp(q k+ / tau) / sum over k+ and the others), one query
    at a time."""
    loss = q.new_zeros(())
    for i in range(len(q)):
        s = [(q[i] @ key) / (q[i].norm() * key.norm()) / temperature for key in (k[i], *others[i])]
        loss = loss - torch.log(s[0].exp() / torch.stack(s).exp().sum())
    return loss / len(q)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_queue_nce_is_equation_1_and_lightlys_loss_with_its_memory_bank(temperature: float) -> None:
    (q, k), negatives = views(7), queue()
    loss = queue_nce(q, k, negatives, temperature)
    slow = info_nce(q, k.detach(), [list(negatives)] * 7, temperature)
    theirs = NTXentLoss(temperature, memory_bank_size=(11, 8)).double()
    theirs.memory_bank.bank = negatives.clone()
    for other in (slow, theirs(q, k.detach())):
        assert_close(loss, other, rtol=1e-12, atol=0)
        assert_close(
            torch.autograd.grad(loss, q, retain_graph=True), torch.autograd.grad(other, q), rtol=1e-9, atol=1e-13
        )


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_batch_nce_is_the_papers_loss_of_each_process(temperature: float) -> None:
    """arXiv 2104.02057, Algorithm 1: ctr, 2 tau times the InfoNCE over the keys of all
    processes."""
    (q, k), first = views(9), 4
    for own in (slice(0, first), slice(first, 9)):
        loss = batch_nce(q[own], k, temperature, own.start)
        others = [[key for j, key in enumerate(k.detach()) if j != i] for i in range(own.start, own.stop)]
        slow = 2 * temperature * info_nce(q[own], k.detach()[own], others, temperature)
        assert_close(loss, slow, rtol=1e-12, atol=0)
        assert_close(torch.autograd.grad(loss, q), torch.autograd.grad(slow, q), rtol=1e-9, atol=1e-13)


def test_regression_is_equation_2_and_lightlys_similarity() -> None:
    """arXiv 2006.07733, Equation 2: the squared distance of the normalised vectors."""
    p, z = views(6)
    loss, target = regression(p, z), z.detach()
    slow = torch.stack([(a / a.norm() - b / b.norm()).square().sum() for a, b in zip(p, target, strict=True)]).mean()
    for other in (slow, 2 + 2 * NegativeCosineSimilarity()(p, target)):
        assert_close(loss, other, rtol=1e-12, atol=0)
        assert_close(
            torch.autograd.grad(loss, p, retain_graph=True), torch.autograd.grad(other, p), rtol=1e-9, atol=1e-13
        )


ASYMMETRIC = {
    "queue_nce": lambda q, k: queue_nce(q, k, queue(dtype=torch.float32), 0.1),
    "batch_nce": lambda q, k: batch_nce(q, k, 0.1),
    "regression": regression,
}


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_keys_and_targets_get_no_gradient(name: str) -> None:
    q, k = views(6)
    of_q, of_k = torch.autograd.grad(ASYMMETRIC[name](q, k), (q, k), allow_unused=True)
    assert of_q.abs().sum() > 0 and of_k is None


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ASYMMETRIC)
def test_bf16_queries_and_keys_are_compared_in_float32(name: str, autocast: bool) -> None:
    q, k = views(64, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = ASYMMETRIC[name](q, k)
    exact = ASYMMETRIC[name](q.double(), k.double())
    assert (loss.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert_close(loss.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"z2": torch.ones(3, 8)}, r"\(4, 8\) and \(3, 8\)"),
        ({"temperature": 0.0}, "positive, got 0.0"),
        ({"sizes": [4, 4]}, r"4 samples for sizes=\[4, 4\].*gather"),
        ({"sizes": [2, 2], "rank": 2}, "rank=2"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nt_xent(**{"z1": torch.ones(4, 8), "z2": torch.ones(4, 8), "temperature": 0.5} | arguments)  # type: ignore[arg-type]


# The loss of a language model.


def words(
    dtype: torch.dtype = torch.float64, tokens: int = 13, vocabulary: int = 29
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """What is projected, the table and the bias, all with gradient; the true tokens, and their
    weights, some of them 0."""
    generator = torch.Generator().manual_seed(tokens)
    inputs = [
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((tokens, 8), (vocabulary, 8), (vocabulary,))
    ]
    weight = torch.rand(tokens, generator=generator, dtype=torch.float64) * (torch.arange(tokens) % 3 > 0)
    target = torch.randint(0, vocabulary, (tokens,), generator=generator)
    h, table, bias = (each.to(dtype).requires_grad_() for each in inputs)
    return (h, table, bias), target, weight


@pytest.mark.parametrize("rows", [1, 5, 13, 100])
def test_vocabulary_nll_is_torchs_cross_entropy_however_it_is_cut(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, gradient and correct guesses; places without weight count for nothing."""
    inputs, target, weight = words()
    target[:6] = (inputs[0] @ inputs[1].T + inputs[2]).argmax(dim=1)[:6]
    scores = F.linear(*inputs)
    expected = (weight * F.cross_entropy(scores, target, reduction="none")).sum()
    monkeypatch.setattr(vocabulary, "CHUNK", rows * 29 + 5)
    nll, correct = vocabulary_nll(*inputs, target, weight)
    assert_close(nll, expected, rtol=1e-13, atol=0)
    assert_close(
        torch.autograd.grad(3 * nll, inputs), torch.autograd.grad(3 * expected, inputs), rtol=1e-11, atol=1e-13
    )
    assert_close(correct, (weight * (scores.argmax(dim=1) == target)).sum())
    assert float(weight[:6].sum()) <= correct < weight.sum() and not correct.requires_grad


def test_vocabulary_nll_has_the_gradient_of_finite_differences() -> None:
    inputs, target, weight = words(tokens=4, vocabulary=6)
    assert torch.autograd.gradcheck(lambda *each: vocabulary_nll(*each, target, weight)[0], inputs)


def test_vocabulary_nll_of_no_token_is_zero() -> None:
    (h, table, bias), target, weight = words()
    for several in (slice(0, 0), slice(0, 1)):  # none, and one without weight
        nll, correct = vocabulary_nll(h[several], table, bias, target[several], weight[several])
        assert nll == correct == 0
        assert all(not grad.any() for grad in torch.autograd.grad(nll, (h, table, bias)))
    with torch.no_grad():
        assert not vocabulary_nll(h, table, bias, target, weight)[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vocabulary_nll_sums_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """The products are in bfloat16; gradients come in the dtype of what they belong to."""
    exact, target, weight = words(tokens=300)
    h, table, bias = inputs = [each.detach().to(dtype).requires_grad_() for each in exact]
    with torch.autocast("cpu", torch.bfloat16):
        nll, _ = vocabulary_nll(h, table, bias, target, weight)
    expected, _ = vocabulary_nll(*exact, target, weight)
    assert nll.dtype == torch.float32
    assert_close(nll.double(), expected, rtol=2e-3, atol=0)
    found, wanted = torch.autograd.grad(nll, inputs), torch.autograd.grad(expected, exact)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype and (one.double() - other).norm() < 0.02 * other.norm()


class Largest(TorchDispatchMode):
    """Remembers the most numbers that any tensor has held."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(each, Tensor)]
        self.numel = max(self.numel, *(each.numel() for each in tensors), 0)
        return out


def test_vocabulary_nll_never_holds_the_scores_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the way forward nor back; cross-entropy does, so that it would be seen."""
    inputs, target, weight = words(tokens=600, vocabulary=50)
    monkeypatch.setattr(vocabulary, "CHUNK", 1000)
    with Largest() as ours:
        vocabulary_nll(*inputs, target, weight)[0].backward()
    with Largest() as torchs:
        (weight * F.cross_entropy(F.linear(*inputs), target, reduction="none")).sum().backward()
    assert ours.numel == 600 * 8 and torchs.numel == 600 * 50
