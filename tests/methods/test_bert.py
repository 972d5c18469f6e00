"""BERT's loss and its gradients are the paper's, token by token; its runs go on exactly, and it
learns a language."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from resuming import Run, assert_same, finished, kill
from ssl_lightning.methods.bert import BERT, ORDER
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, TextTransformer, Trainer, View
from ssl_lightning.augment.random import fold, sample_keys, uniform
from ssl_lightning.data.peek import evaluating
from ssl_lightning.evaluation.probes.held_out import HeldOut, batches
from ssl_lightning.nn.packing import Ragged, swap_halves, unpacked
from ssl_lightning.nn.packing import pack as pack_rows
from ssl_lightning.nn.vocabulary import Vocabulary
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import MethodKit, TinyEncoder, TinyText
from ssl_lightning.testing.tiny import ROW_LENGTH, VOCAB_SIZE

LENGTHS = [5, 14, 3, 9, 16, 4, 2, 12, 7, 5]
"""Of samples that share rows of 16 places, with [CLS] and [SEP]; the seventh holds nothing else."""


def samples(below: int = VOCAB_SIZE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.cat([torch.tensor([2]), torch.randint(5, below, (n - 2,), generator=generator), torch.tensor([3])])
        for n in LENGTHS
    ]


def batch_of(texts: list[Tensor], numbers: Tensor | None = None) -> Batch:
    index = torch.arange(len(texts)) if numbers is None else numbers
    view = pack_rows(Ragged(torch.cat(texts), torch.tensor([len(text) for text in texts])), 16)
    return {"views": [view], "index": index, "key": sample_keys(0, 0, index)}


def exact(**init_args: Any) -> BERT:
    """In float64, without dropout, and away from where it starts."""
    method: Any = MethodKit(BERT, **init_args).method().double()
    method.read_vocabulary(Vocabulary(torch.arange(VOCAB_SIZE) < 5, torch.arange(VOCAB_SIZE) >= 25))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    assert isinstance(method, BERT)
    return method


def written_out(method: BERT, text: Tensor, key: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Of one sample by itself: the negative log-likelihood of each token that is to be predicted,
    -log p(w | what is seen) with p = softmax over the vocabulary (arXiv 1810.04805, Section 3.1 and
    Appendix A.2), its contextual tokens, and its text."""
    if method.order is not None and uniform(fold(key, ORDER), 1)[0, 0] < 0.5:
        inner = text[1:-1]
        half = math.ceil(len(inner) / 2)
        text = torch.cat([text[:1], inner[half:], inner[:half], text[-1:]])
    view = View(text[None])
    hidden = method.masks.choose(view, key, method.mask_ratio)
    seen = method.masks.corrupt(view, key, hidden)
    h = method.encoder.mix(method.encoder.tokenize(seen))[0]
    head: Any = method.head
    linear, norm = head[0], head[2]
    terms = []
    for place in hidden.positions[hidden.chosen].tolist():
        z = linear.weight @ h[place] + linear.bias
        z = z * (1 + torch.erf(z / math.sqrt(2))) / 2
        z = (z - z.mean()) / (z.var(unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
        scores = torch.stack(
            [z @ word + bias for word, bias in zip(method.encoder.embedding.weight, method.bias, strict=True)]
        )
        terms.append(-torch.log(scores[text[place]].exp() / scores.exp().sum()))
    return terms, h, text


@pytest.mark.parametrize(
    "init_args",
    [{}, {"mask_ratio": 0.4, "whole_words": True}, {"sentence_order": True}],
    ids=["plain", "words", "order"],
)
def test_loss_and_gradient_are_the_papers_token_by_token(init_args: dict[str, Any]) -> None:
    """Of a packed batch, against one sample after the other in a row of its own."""
    method, batch = exact(**init_args), batch_of(samples())
    found = [written_out(method, text, batch["key"][place : place + 1]) for place, text in enumerate(samples())]
    terms = [term for each, _, _ in found for term in each]
    assert len(terms) > 6
    loss = mlm = torch.stack(terms).mean()
    if method.order is not None:
        logits = torch.stack([method.order.weight[0] @ h[0] + method.order.bias[0] for _, h, _ in found])
        swapped = uniform(fold(batch["key"], ORDER), 1)[:, 0] < 0.5
        p = torch.where(swapped, logits.sigmoid(), 1 - logits.sigmoid())
        loss = mlm - p.log().mean()
    step = method.step(batch)
    assert_close(step["loss"], loss, rtol=1e-7 if method.order is not None else 1e-12, atol=0, check_dtype=False)
    assert step["weight"] == len(terms)
    parameters = dict(method.named_parameters())
    ours, theirs = (
        torch.autograd.grad(each, list(parameters.values()), allow_unused=True) for each in (step["loss"], loss)
    )
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert one is not None and other is not None, name
        assert_close(
            one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()), msg=lambda text, name=name: f"{name}: {text}"
        )
    assert_close(step["logs"]["mlm"], mlm.detach())
    assert_close(step["logs"]["perplexity"], mlm.detach().exp())


def test_accuracy_counts_the_tokens_that_are_guessed() -> None:
    """A bias that no score outweighs guesses one word everywhere."""
    method, texts = exact(mask_ratio=0.5), samples(below=9)
    with torch.no_grad():
        method.bias[6] = 1e6
    batch = batch_of(texts)
    hidden = method.masks.choose(batch["views"][0], batch["key"], 0.5)
    truth = hidden.take(batch["views"][0].x)[hidden.chosen]
    assert_close(method.step(batch)["logs"]["accuracy"], (truth == 6).double().mean(), check_dtype=False)
    assert 0 < (truth == 6).sum() < len(truth)


def test_the_order_of_samples_changes_nothing() -> None:
    method, texts = exact(), samples()
    order = torch.tensor([3, 1, 4, 9, 0, 2, 8, 6, 5, 7])
    straight, shuffled = method.step(batch_of(texts)), method.step(batch_of([texts[place] for place in order], order))
    assert_close(straight["loss"], shuffled["loss"])
    assert_close(straight["embeddings"][order], shuffled["embeddings"])


def test_a_batch_with_nothing_to_predict_has_no_loss_and_no_weight() -> None:
    method = exact()
    step = method.step(batch_of([torch.tensor([2, 3])] * 3))
    assert step["loss"] == 0 and step["weight"] == 0 and step["logs"]["accuracy"] == 0
    step["loss"].backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in method.parameters())
    scores = method.scores(iter([batch_of([torch.tensor([2, 3])] * 3)]))
    assert scores["mlm"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_other_dtypes(dtype: torch.dtype) -> None:
    method, batch = exact(sentence_order=True), batch_of(samples())
    expected = method.step(batch)["loss"]
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            step = method.float().step(batch) if autocast else method.to(dtype).step(batch)
        step["loss"].backward()
        assert step["loss"].dtype == torch.float32
        assert_close(step["loss"].double(), expected.double(), rtol=0.03, atol=0.03)


# Scores and pictures.


def test_scores_are_at_15_percent_whatever_is_trained_and_weigh_tokens_alike() -> None:
    """Over batches of unequal size."""
    methods = [exact(mask_ratio=ratio) for ratio in (0.15, 0.6)]
    texts = samples()
    batches = [batch_of(texts[:7], torch.arange(7)), batch_of(texts[7:], torch.arange(7, 10))]
    with torch.no_grad():
        first, second = (method.scores(iter(batches)) for method in methods)
        terms = [
            term
            for batch, part in zip(batches, (texts[:7], texts[7:]), strict=True)
            for place, text in enumerate(part)
            for term in written_out(methods[0], text, batch["key"][place : place + 1])[0]
        ]
    assert first == second
    mlm = torch.stack(terms).mean()
    assert_close(first["mlm"], mlm.float())
    assert_close(first["perplexity"], mlm.exp().float(), rtol=1e-5, atol=0)


def test_pictures_are_the_text_what_was_seen_and_the_guesses() -> None:
    method, texts = exact(), samples()
    shown = method.pictures(batch_of(texts))
    assert list(shown) == ["text", "seen", "guessed"]
    for place, text in enumerate(texts):
        whole, seen, guessed = (each[place, : len(text)] for each in shown.values())
        assert torch.equal(whole, text)
        hidden = seen != whole
        assert (seen[hidden] == 4).all() and torch.equal(guessed[~hidden], whole[~hidden])
    assert (shown["seen"] == 4).sum() > 5 and not (shown["guessed"] == 4).all()
    with torch.no_grad():
        method.bias[17] = 1e6
    assert (method.pictures(batch_of(texts))["guessed"][shown["seen"] == 4] == 17).all()


@pytest.mark.parametrize("sentence_order", [False, True])
def test_what_is_shown_as_seen_is_what_the_step_reads(sentence_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method, texts = exact(mask_ratio=0.4, sentence_order=sentence_order), samples()
    read: list[View] = []
    tokenize = method.encoder.tokenize
    monkeypatch.setattr(method.encoder, "tokenize", lambda view: (read.append(view), tokenize(view))[1])
    method.step(batch_of(texts))
    shown, (view,) = method.corrupted(batch_of(texts))["seen"], read
    assert torch.equal(shown, unpacked(view))
    whole = unpacked(batch_of(texts)["views"][0])
    assert (shown == 4).sum() > 10, "hidden at the ratio of the training"
    moved = [sorted(a) != sorted(b) for a, b in zip(shown.tolist(), whole.tolist(), strict=True)]
    assert any(moved)


# Which half comes first.


def test_halves_are_swapped_between_the_first_and_last_token() -> None:
    """Of those samples that are to be, in packed rows and in rows of their own; twice is as before
    where the number is even."""
    texts = samples()
    swapped = torch.arange(len(texts)) % 3 > 0
    (view,) = batch_of(texts)["views"]
    once = swap_halves(view, swapped)
    assert view.segment is not None and torch.equal(once.x[view.segment == 0], view.x[view.segment == 0])
    for place, text in enumerate(texts):
        now = once.x[view.segment == place + 1]
        inner = text[1:-1]
        half = math.ceil(len(inner) / 2)
        expected = torch.cat([text[:1], inner[half:], inner[:half], text[-1:]]) if swapped[place] else text
        assert torch.equal(now, expected)
        assert torch.equal(swap_halves(View(text[None]), swapped[place : place + 1]).x[0], expected)
        twice = swap_halves(once, swapped).x[view.segment == place + 1]
        assert torch.equal(twice, text) or (swapped[place] and len(inner) % 2)
    assert torch.equal(once.segment if once.segment is not None else view.x, view.segment)


def test_half_of_the_samples_are_swapped_and_their_own_key_decides() -> None:
    swapped = uniform(fold(sample_keys(0, 0, torch.arange(4000)), ORDER), 1)[:, 0] < 0.5
    assert abs(int(swapped.sum()) - 2000) < 4 * 1000**0.5


# Runs.


BERT_RUN: dict[str, Any] = {"method": "bert", "samples": 70, "trainer": {"max_epochs": 2}}
"""Two epochs of 4 steps of 16 samples; the last 6 of a pass come with the next."""


def rows(result: dict[str, Any]) -> list[dict[str, str]]:
    lines = [line.split(",") for line in (Path(result["folder"]) / "metrics.csv").read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def killed_like_straight(run: Run, root: Path, place: str, number: int, **spec: Any) -> dict[str, Any]:
    straight = finished(run(root / "straight", **spec))
    kill(run, root / "killed", place, number, save_at=[3, 5], **spec)
    resumed = finished(run(root / "killed", ckpt_path="auto", **spec))
    assert_same(resumed, straight)
    return straight


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(run: Run, tmp_path: Path) -> None:
    """With dropout, and with its scores on samples that are held out."""
    straight = killed_like_straight(run, tmp_path, "backward", 7, **BERT_RUN)
    looks = [row for row in rows(straight) if row.get("held_out/mlm")]
    assert [int(row["step"]) for row in looks] == [3, 6, 8]
    assert all(row["held_out/accuracy"] and row["held_out/perplexity"] for row in looks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"init_args": {"sentence_order": True, "whole_words": True, "mask_ratio": 0.3}},
        {"trainer": {"max_epochs": 2, "precision": "bf16-mixed"}},
        {"samples": 83, "trainer": {"max_epochs": 4, "accumulate_grad_batches": 2}},
        {"samples": 90, "workers": 2, "augment_on": "worker"},
    ],
    ids=["order", "bf16", "accumulated", "workers"],
)
@pytest.mark.parametrize("place", ["start", "backward", "end"])
def test_so_it_does_with(run: Run, tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    killed_like_straight(run, tmp_path, place, 6, **{**BERT_RUN, **changes})


# Learning.


def topical(seed: int, steps: int) -> dict[str, float]:
    """Scores on samples that were withheld, of a run on texts of one of 4 topics, each with 8 words
    of its own."""
    torch.manual_seed(seed)
    data = TinyText(samples=1024, batch_size=64, seed=seed)
    encoder = TextTransformer(
        vocab_size=VOCAB_SIZE, dim=32, depth=1, heads=2, max_length=ROW_LENGTH, dropout=0.0, std=None
    )
    method = BERT(encoder, lr=0.01, warmup_epochs=0, mask_ratio=0.3)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, datamodule=data)
    probe = HeldOut(samples=512)
    probe.index = torch.arange(512)
    with evaluating(method), torch.no_grad():
        return {
            name: float(value) for name, value in method.scores(batches(data, probe.index, torch.device("cpu"))).items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns_the_topic_from_the_words_around(seed: int) -> None:
    """All words are equally frequent: who knows no more than that has a loss of log 32; who knows
    the topic, log 8, and a little less, for what is neither hidden nor replaced."""
    scores = topical(seed, 50)
    assert 0.8 * math.log(8) < scores["mlm"] < math.log(8) + 0.3 and scores["accuracy"] > 1 / 12


# Mistakes.


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"BERT\(mask_ratio={ratio}\) must be above 0 and below 1"):
        MethodKit(BERT, mask_ratio=ratio).method()


def test_an_encoder_of_images_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"BERT needs an ssl_lightning\.TextEncoder, such as TextTransformer, got a TinyEncoder"
    ):
        BERT(TinyEncoder())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_that_hides_nothing_stops_and_says_so(tmp_path: Path) -> None:
    """Its loss would be 0 to the end."""
    data = TinyText(batch_size=8)
    trainer = Trainer(
        max_steps=40, accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
        callbacks=[Health(every_n_steps=2)],
    )  # fmt: skip
    encoder = TextTransformer(vocab_size=VOCAB_SIZE, dim=8, depth=1, heads=2, max_length=ROW_LENGTH, dropout=0.0)
    with pytest.warns(UserWarning, match=r"no token is hidden, .* \(train/hidden 0, healthy is at least 1\)"):
        trainer.fit(BERT(encoder, mask_ratio=1e-9), data)
    assert trainer.global_step == 4
