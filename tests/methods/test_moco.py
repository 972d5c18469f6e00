"""MoCo is Algorithm 1 of its paper, step by step, and hides a batch's statistics as it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightly.loss import NTXentLoss
from lightning_fabric.utilities.exceptions import MisconfigurationException
from proofs import assert_same_run, cosine, exact, gradients, plain_loop, remembered, tiny
from ssl_lightning.methods.bert import BERT
from ssl_lightning.methods.moco import SHUFFLE, MoCo
from ssl_lightning.methods.wav2vec2 import Wav2Vec2
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning import Batch, Encoder, TextEncoder, View
from ssl_lightning.augment.random import fold
from ssl_lightning.encoders.base import pooled
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.nn.batch_norm import Parts
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyText, TinyWaves
from ssl_lightning.testing.methods import tiny_encoder
from ssl_lightning.types import Tokens

TAU = 0.2


def equation_1(q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
    """arXiv 1911.05722: the mean over queries of -log(exp(q k+ / tau) / (exp(q k+ / tau) + sum over
    the queue))."""
    loss = q.new_zeros(())
    for i in range(len(q)):
        s = torch.stack([cosine(q[i], k[i]), *(q[i] / q[i].norm() @ key for key in queue)]) / TAU
        loss = loss - torch.log(s[0].exp() / s.exp().sum())
    return loss / len(q)


def queries_and_keys(method: Any, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Of the first view and of the second, each by both networks."""
    fast, slow = nn.Sequential(method.encoder, method.projector), method.teacher.module
    with torch.no_grad():
        keys = [slow(view) for view in batch["views"]]
    return [fast(view) for view in batch["views"]], keys


@pytest.mark.parametrize("symmetric", [True, False])
def test_one_step_is_equation_1_and_lightlys_loss(symmetric: bool) -> None:
    """Loss, and its gradient with respect to every parameter; float64."""
    method, batch = exact(MoCo, symmetric=symmetric, queue_length=11, output_dim=8, hidden_dim=6)
    queue = method.queue.features.clone()
    loss = method.step(batch)["loss"]
    (q1, q2), (k1, k2) = queries_and_keys(method, batch)
    theirs = NTXentLoss(TAU, memory_bank_size=(11, 8)).double()

    def lightly(q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        theirs.memory_bank.bank = queue.clone()
        return theirs(q, k)

    for one in (equation_1, lightly):
        slow = one(q1, k2, queue)
        if symmetric:
            slow = (slow + one(q2, k1, queue)) / 2
        assert_close(loss, slow, rtol=1e-12, atol=0)
        assert_close(gradients(loss, method), gradients(slow, method), rtol=1e-8, atol=1e-14)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(("symmetric", "length"), [(True, 24), (True, 40), (False, 24)])
def test_a_run_is_algorithm_1(symmetric: bool, length: int) -> None:
    """Keys of the slow encoder before its update, enqueued after it, in the order of samples; a
    queue shorter than a step's 32 keys and others whose length they do not divide. And accumulated
    batches are one large one."""
    init_args: dict[str, Any] = {
        "symmetric": symmetric,
        "queue_length": length,
        "output_dim": 8,
        "optimizer": "sgd",
        "lr": 3.0,
    }
    method = tiny(MoCo, **init_args, momentum=0.8)
    keys: list[Tensor] = list(method.queue.features.double())  # all that ever were, the oldest first
    new: list[Tensor] = []

    def loss_of(method: Any, batch: Batch) -> Tensor:
        (q1, q2), (k1, k2) = queries_and_keys(method, batch)
        queue = torch.stack(keys[-length:])
        new[:] = [key for pair in zip(k2, k1, strict=True) for key in pair] if symmetric else list(k2)
        first = equation_1(q1, k2, queue)
        return (first + equation_1(q2, k1, queue)) / 2 if symmetric else first

    def enqueue() -> None:
        keys.extend(key / key.norm() for key in new)
        for number in range(max(length, len(keys) - len(new)), len(keys)):
            method.queue.features[number % length] = keys[number]
        method.queue.place.fill_(len(keys) % length)

    expected = plain_loop(method, loss_of, 0.8, enqueue, steps=4)
    for accumulate in (1, 2):
        assert_same_run(remembered(tiny(MoCo, **init_args, momentum=0.8), 4, 16 // accumulate, accumulate), expected)


class Standardised(Encoder):
    """One feature, a sample's number, and a BatchNorm that shows which samples came together."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 1
        self.norm = nn.BatchNorm1d(1, affine=False)

    def forward(self, view: View) -> Tensor:
        normed: Tensor = self.norm(view.x)
        return normed


def standardised(numbers: Tensor) -> Tensor:
    return F.batch_norm(numbers[:, None], None, None, training=True)[:, 0]


@pytest.mark.parametrize("samples", [16, 13])
def test_split_keys_have_the_statistics_of_other_samples_and_come_back_to_their_queries(samples: int) -> None:
    method = MoCo(Standardised(), batch_norm="split", parts=3).train()
    network: Any = method.teacher.module
    network[1] = nn.Identity()
    numbers, key = torch.arange(samples).square().float(), torch.arange(100, 100 + samples)
    order = fold(key, SHUFFLE).argsort()
    expected = torch.empty(samples)
    expected[order] = torch.cat([standardised(part) for part in numbers[order].tensor_split(3)])
    assert_close(method.keys(View(numbers[:, None]), key)[:, 0], expected)
    queries = method.encoder(View(numbers[:, None]))[:, 0]
    assert_close(queries, torch.cat([standardised(part) for part in numbers.tensor_split(3)]))
    assert all(
        set(part.tolist()) != set(other.tolist())
        for part in torch.arange(samples).tensor_split(3)
        for other in order.tensor_split(3)
    )


class Words(TextEncoder):
    """The mean of each sample's token ids, and a BatchNorm that shows which samples came
    together."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = self.content_dim = 1
        self.norm = nn.BatchNorm1d(1, affine=False)
        self.table = nn.Embedding(2, 1)

    @property
    def embedding(self) -> nn.Embedding:
        return self.table

    def tokenize(self, view: View) -> Tokens:
        return Tokens(view.x[:, :, None].float(), *view[1:])

    def mix(self, tokens: Tokens) -> Tensor:
        return tokens.x

    def content(self, view: View) -> Tensor:
        return view.x[:, :, None]

    def forward(self, view: View) -> Tensor:
        normed: Tensor = self.norm(pooled(self.mix(self.tokenize(view)), view))
        return normed


@pytest.mark.parametrize("batch_norm", ["split", "shuffle"])
def test_keys_of_packed_texts_come_back_to_their_queries(batch_norm: Any) -> None:
    """Several samples in a row: a row is no sample."""
    lengths, key = torch.tensor([3, 5, 2, 4, 1, 6, 2, 3]), torch.arange(100, 108)
    means = torch.arange(8).square() + 1
    view = pack(Ragged(means.repeat_interleave(lengths), lengths), 8)
    assert len(view.x) < len(lengths)
    method = MoCo(Words(), batch_norm=batch_norm, parts=2).train()
    network: Any = method.teacher.module
    network[1] = nn.Identity()
    order = fold(key, SHUFFLE).argsort()
    parts = order.tensor_split(2) if batch_norm == "split" else [order]
    expected = torch.empty(8)
    expected[order] = torch.cat([standardised(means.float()[part]) for part in parts])
    assert_close(method.keys(view, key)[:, 0], expected)


@pytest.mark.parametrize("batch_norm", ["whole", "shuffle", "split"])
@pytest.mark.parametrize("make", [TinyText, TinyWaves], ids=["packed", "padded"])
def test_a_run_on_packed_and_on_padded_rows(make: Any, batch_norm: Any) -> None:
    kind = BERT if make is TinyText else Wav2Vec2
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    method = MoCo(tiny_encoder(kind), norm="batch", batch_norm=batch_norm, parts=2, queue_length=48)
    trainer.fit(method, datamodule=make())
    assert method.queue.features.isfinite().all()


@pytest.mark.parametrize(
    ("data", "named"),
    [(TinyText(), "TinyText"), (TinyWaves(), "TinyWaves"), (TinyWaves(seconds=0.05), "TinyWaves"), (TinyImages(), "")],
)
def test_several_processes_move_no_rows_that_differ(data: Any, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MoCo(TinyEncoder(), batch_norm="shuffle")
    trainer = SimpleNamespace(
        datamodule=data, world_size=2, precision="32-true", accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    monkeypatch.setattr(MoCo, "trainer", trainer)
    monkeypatch.setattr("ssl_lightning.run.training.try_encoder", lambda *args, **kwargs: None)
    monkeypatch.setattr(type(data), "meet", lambda *args: None)
    if named:
        with pytest.raises(MisconfigurationException, match=rf"MoCo moves rows.* {named} .*--model\.batch_norm split"):
            method.setup("fit")
    else:
        method.setup("fit")
    method.setup("test")


def test_split_reaches_every_batch_norm_of_both_networks_and_no_name() -> None:
    encoder = ConvEncoder(channels=1, width=4, depth=2)
    plain, split = (
        MoCo(encoder, norm="batch"),
        MoCo(ConvEncoder(channels=1, width=4, depth=2), norm="batch", batch_norm="split", parts=2),
    )
    norms = [module for module in split.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 6 and all(isinstance(module, Parts) and module.parts == 2 for module in norms)
    assert not any(isinstance(module, Parts) for module in plain.modules())
    assert plain.state_dict().keys() == split.state_dict().keys()


def test_shuffling_in_one_process_changes_nothing_and_is_warned_of() -> None:
    encoders = [Standardised(), Standardised()]
    torch.manual_seed(0)
    view, key = View(torch.randn(9, 1)), torch.arange(9)
    keys = []
    for encoder, batch_norm in zip(encoders, ("whole", "shuffle"), strict=True):
        torch.manual_seed(0)
        keys.append(MoCo(encoder, batch_norm=batch_norm, norm="batch").train().keys(view, key))  # type: ignore[arg-type]
    assert_close(keys[1], keys[0])
    with pytest.warns(UserWarning, match=r"hides nothing in a single process: --model\.batch_norm split does"):
        remembered(tiny(MoCo, batch_norm="shuffle"), 1)


@pytest.mark.parametrize("batch_norm", ["whole", "split"])
@pytest.mark.parametrize("samples", [2, 5])
def test_small_batches_of_convolutions(batch_norm: Any, samples: int) -> None:
    method = MoCo(ConvEncoder(channels=1, width=4, depth=2), batch_norm=batch_norm, queue_length=7)
    x = torch.randn(samples, 1, 8, 8)
    step = method.step({"views": [View(x), View(x + 1)], "index": torch.arange(samples), "key": torch.arange(samples)})
    method.after_update([step["state"]])
    assert step["loss"].isfinite() and method.queue.place == 2 * samples % 7


def test_under_bf16_autocast_loss_queue_and_slow_encoder_are_float32() -> None:
    (method, batch), (other, _) = (exact(MoCo, samples=32, queue_length=50) for _ in range(2))
    exact_loss = other.step(batch)["loss"]
    method, views = method.float(), [view.each(Tensor.float) for view in batch["views"]]
    with torch.autocast("cpu", torch.bfloat16):
        step = method.step({**batch, "views": views})
    step["loss"].backward()
    method.teacher.update(0.5)
    method.after_update([step["state"]])
    assert step["state"].dtype == torch.bfloat16 and step["loss"].dtype == torch.float32
    assert_close(step["loss"].double(), exact_loss, rtol=0.01, atol=0)
    assert method.queue.features.dtype == torch.float32
    assert_close(method.queue.features.norm(dim=1), torch.ones(50), rtol=0, atol=1e-6)
    assert {parameter.dtype for parameter in method.teacher.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queue_length": 0}, r"FeatureQueue\(length=0\) must be at least 1"),
        ({"queue_length": -5}, r"FeatureQueue\(length=-5\) must be at least 1"),
        ({"momentum": 1.5}, r"EMA\(decay=1.5\) must be at least 0 and at most 1"),
        ({"temperature": 0.0}, r"MoCo\(temperature=0\.0\) must be above 0"),
        ({"batch_norm": "spilt"}, "batch_norm='spilt'.* whole, shuffle, split"),
        ({"batch_norm": "split", "parts": 1}, r"split_batch_norm\(parts=1\) must be at least 2"),
        ({"norm": "group"}, "norm='group'.* batch, layer, none"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoCo(TinyEncoder(), **arguments)
