"""What the framework does around `step` is what a plain loop would do."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn

import ssl_lightning
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod
from ssl_lightning.nn.ema import EMA
from ssl_lightning.optim.recipes import OptimizerSpec
from ssl_lightning.run.folder.metrics import Metrics
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import Batch, Step, View, ViewSpec


class Predicts(SSLMethod):
    """Predicts the teacher's features of the other view: a loss that is a mean over samples."""

    views = ViewSpec(full=2)
    optimizer_specs: ClassVar = {"sgd": OptimizerSpec("sgd", lr=1.0, weight_decay=0.1, momentum=0.5, warmup_epochs=1)}

    def __init__(self, encoder: Encoder, *, dropout: float = 0.0, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.scale = scale
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoder.dim, encoder.dim))
        self.teacher = EMA(self.encoder, decay=0.8)
        self.states: list[list[Any]] = []
        self.kept: list[Tensor] = []  # weights, as after_update finds them

    def step(self, batch: Batch) -> Step:
        one, two = batch["views"]
        z = self.head(self.encoder(one))
        return {
            "loss": self.scale * (z - self.teacher(two)).square().mean(),
            "embeddings": z.detach(),
            "state": batch["index"],
        }

    def after_update(self, states: list[Any]) -> None:
        assert not torch.is_grad_enabled()
        self.states.append(states)
        self.kept.append(self.head[1].weight.detach().clone())


class Watch(pl.Callback):
    """Notes learning rate, weights and loss of every batch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.weights: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.weights.append(
            pl_module.head[1].weight.detach().clone() if isinstance(pl_module, Predicts) else torch.empty(0)
        )


def bare(**settings: Any) -> pl.Trainer:
    """Lightning's own Trainer."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**{"accelerator": "cpu", "max_epochs": 2, **quiet, **settings})


def build(cls: type[Any] = Predicts, **init_args: Any) -> Any:
    torch.manual_seed(0)
    return cls(TinyEncoder(dim=4), **init_args)


def batches(data: TinyImages, method: SSLMethod, count: int) -> list[Batch]:
    """The first batches of a run."""
    data.serve(method)
    stream = data.train_dataloader()
    return [data.make_batch(next(stream)) for _ in range(count)]


def expected_rate(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


# Construction.


def test_what_is_no_encoder_is_refused_by_name() -> None:
    for wrong, name in ((nn.Linear(2, 2), "Linear"), ("resnet18", "str"), (None, "NoneType")):
        with pytest.raises(
            TypeError,
            match=(
                r"Predicts.*Linear"
                if name == "Linear"
                else rf"Predicts needs an ssl_lightning\.Encoder, such as ConvEncoder, got a {name}"
            ),
        ):
            Predicts(wrong)  # type: ignore[arg-type]


def test_an_unknown_optimizer_is_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"SimCLR has no settings for optimizer 'sdg'; choose from adamw, sgd"):
        build(SimCLR, optimizer="sdg")


def test_the_papers_settings_hold_where_nothing_else_is_asked() -> None:
    first = next(iter(SimCLR.optimizer_specs.values()))
    assert build(SimCLR).optimizer_spec == first
    changed = build(SimCLR, lr=0.5, weight_decay=0.0).optimizer_spec
    assert (changed.lr, changed.weight_decay, changed.warmup_epochs) == (0.5, 0.0, first.warmup_epochs)
    assert build(SimCLR, optimizer="sgd").optimizer_spec.name == "sgd"


def test_further_settings_of_the_optimizer_are_plain_values_by_their_names() -> None:
    method = build(SimCLR, optimizer_args={"betas": [0.9, 0.95], "reference_batch": None}, lr=0.5)
    spec = method.optimizer_spec
    assert (spec.betas, spec.reference_batch, spec.lr) == ((0.9, 0.95), None, 0.5)
    resolved = method.resolved_args()
    assert resolved["optimizer"] == "adamw" and resolved["lr"] == 0.5 and resolved["hidden_dim"] == 4
    assert build(SimCLR, **{key: resolved[key] for key in resolved if key != "encoder"}).optimizer_spec == spec
    with pytest.raises(ValueError, match=r"no 'beta'\. Did you mean 'betas'\?"):
        build(SimCLR, optimizer_args={"beta": 1})


def test_forward_is_the_network_to_keep() -> None:
    method, view = build(SimCLR), View(torch.rand(3, 1, 16, 16))
    assert torch.equal(method(view), method.encoder(view)) and method.backbone is method.encoder


def test_teachers_are_found_wherever_they_sit() -> None:
    method = build()
    method.more = nn.ModuleDict({"deep": EMA(method.head)})
    assert method.teachers == [method.teacher, method.more["deep"]]
    assert build(SimCLR).teachers == []


# What `step` returns.


@pytest.mark.parametrize("returned", [{"loss": torch.zeros(()), "extra": 1}, {"logs": {}}, {}])
def test_other_keys_than_those_of_a_step_are_refused(returned: dict[str, Any]) -> None:
    method = build()
    method.step = lambda batch: returned
    with pytest.raises(
        ValueError,
        match=r"Predicts\.step returned the keys .*; it must return 'loss', and may return 'embeddings', 'logs'",
    ):
        bare().fit(method, datamodule=TinyImages())


class Node(torch.autograd.Function):
    """The identity; its node in the graph holds an object, which lives as long as the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: object) -> Tensor:
        ctx.held = held
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Attached(Predicts):
    """Returns all it may with its graph, which `graphs` refers to."""

    def step(self, batch: Batch) -> Step:
        held = Watch()  # any object that can be referred to weakly
        self.graphs.append(weakref.ref(held))
        z = Node.apply(self.head(self.encoder(batch["views"][0])), held)
        pair = View(z, position=z.sum())
        state = {"one": z, "several": [z, (z.sum(), 3)], "view": pair, "number": 2}
        return {
            "loss": z.square().mean(),
            "embeddings": z,
            "logs": {"tensor": z.mean(), "number": 0.25},
            "state": state,
        }

    def after_update(self, states: list[Any]) -> None:
        self.states.append(states)


class Outputs(pl.Callback):
    """Keeps what callbacks are given, and how many graphs stand at the end of each batch."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.standing: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)
        self.standing.append(sum(graph() is not None for graph in pl_module.graphs))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_graph_outlives_its_step(accumulate: int) -> None:
    """What `step` returns may hang on the graph; what callbacks, metrics and `after_update` are
    given and keep does not."""
    method, metrics, outputs = build(Attached), Metrics(), Outputs()
    method.graphs = []
    bare(
        max_steps=4 // accumulate,
        accumulate_grad_batches=accumulate,
        log_every_n_steps=1000,
        callbacks=[outputs, metrics],
    ).fit(method, datamodule=TinyImages())
    assert outputs.standing == [0] * 4
    for each in outputs.outputs:
        assert each["embeddings"].shape == (16, 4) and each["embeddings"].grad_fn is None
        assert each["logs"]["tensor"].grad_fn is None and each["logs"]["number"] == 0.25
    states = [state for several in method.states for state in several]
    assert len(states) == 4
    for state in states:
        assert isinstance(state["view"], View) and state["number"] == state["several"][1][1] - 1 == 2
        several = [state["one"], state["several"][0], state["several"][1][0], state["view"].x, state["view"].position]
        assert all(part.grad_fn is None for part in several)


def test_a_method_without_a_step_says_so() -> None:
    class Empty(SSLMethod):
        """Nothing."""

    with pytest.raises(NotImplementedError, match=r"Empty must define step\(batch\)"):
        bare().fit(Empty(TinyEncoder()), datamodule=TinyImages())


# Training.


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_is_a_plain_loop(accumulate: int) -> None:
    """SGD with momentum, decay of weights alone, warm-up and cosine, gradients averaged over
    accumulated batches, and the teacher moved exactly once an update, along its own schedule."""
    epochs, spe = 6, 4 // accumulate
    method, ours = build(), build()
    data = TinyImages()
    bare(max_epochs=epochs, accumulate_grad_batches=accumulate).fit(method, datamodule=data)

    total = epochs * spe
    warmup = min(spe, total // 10)
    velocity = {name: torch.zeros_like(p) for name, p in ours.named_parameters() if p.requires_grad}
    assert not any(name.startswith("teacher") for name in velocity)
    stream = iter(batches(TinyImages(), ours, epochs * 4))
    for k in range(total):
        ours.zero_grad()
        for _ in range(accumulate):
            (ours.step(next(stream))["loss"] / accumulate).backward()
        lr = 1.0 * 16 * accumulate / 256 * expected_rate(k, warmup, total)
        with torch.no_grad():
            for name, p in ours.named_parameters():
                if p.requires_grad:
                    velocity[name] = 0.5 * velocity[name] + p.grad + (0.1 * p if p.ndim > 1 else 0)
                    p -= lr * velocity[name]
            tau = 1 - (1 - 0.8) * (math.cos(math.pi * k / total) + 1) / 2
            for mine, theirs in zip(ours.teacher.module.parameters(), ours.encoder.parameters(), strict=True):
                mine.copy_(tau * mine + (1 - tau) * theirs)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(
            method.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(("accumulate", "limit"), [(1, None), (2, None), (2, 3)])
def test_after_update_comes_once_an_update_sees_the_new_weights_and_every_batch(
    accumulate: int, limit: int | None
) -> None:
    """With 3 batches to accumulate by 2, the epoch's last one is an update of its own. No batch's
    state is lost or comes twice."""
    method, watch = build(), Watch()
    bare(accumulate_grad_batches=accumulate, limit_train_batches=limit, callbacks=[watch]).fit(
        method, datamodule=TinyImages()
    )
    of_epoch = 4 if limit is None else limit
    ends = [
        batch
        for batch in range(2 * of_epoch)
        if (batch % of_epoch + 1) % accumulate == 0 or batch % of_epoch + 1 == of_epoch
    ]
    assert len(method.states) == len(ends) == method.trainer.global_step
    for batch, kept, states, before in zip(ends, method.kept, method.states, [-1, *ends[:-1]], strict=True):
        assert torch.equal(kept, watch.weights[batch]), "called before the update"
        assert len(states) == batch - before
    seen = torch.cat([index for states in method.states for index in states])
    assert len(seen) == 2 * of_epoch * 16
    if limit is None:
        assert torch.equal(seen.sort().values, torch.arange(64).repeat_interleave(2))
    assert len({kept.sum().item() for kept in method.kept}) == len(ends)


@pytest.mark.by_default(3)
@pytest.mark.parametrize(
    ("settings", "batch_size", "warmup", "total", "batch"),
    [
        ({"max_epochs": 20}, 16, 4, 80, 16),
        ({"max_epochs": 5}, 16, 2, 20, 16),  # at most a tenth
        ({"max_epochs": 2}, 16, 0, 8, 16),
        ({"max_epochs": 20}, 64, 1, 20, 64),
        ({"max_steps": 50, "max_epochs": -1}, 16, 4, 50, 16),
        ({"max_steps": 30, "max_epochs": -1}, 16, 3, 30, 16),
        ({"max_steps": 6, "max_epochs": 20}, 16, 0, 6, 16),  # the shorter of the two
        ({"max_epochs": 15, "limit_train_batches": 2}, 16, 2, 30, 16),
        ({"max_epochs": 10, "limit_train_batches": 0.5}, 16, 2, 20, 16),
        ({"max_epochs": 30, "accumulate_grad_batches": 2}, 16, 2, 60, 32),
        ({"max_epochs": 20, "accumulate_grad_batches": 4, "limit_train_batches": 3}, 16, 1, 20, 64),
    ],
)
def test_the_learning_rate_follows_its_formula(
    settings: dict[str, Any], batch_size: int, warmup: int, total: int, batch: int
) -> None:
    """Linear in the batch of an update, warmed up for an epoch, zero after the last step of the run
    as it was limited."""
    method, watch = build(lr=0.1), Watch()
    trainer = bare(callbacks=[watch], **settings)
    trainer.fit(method, datamodule=TinyImages(batch_size=batch_size))
    expected = [0.1 * batch / 256 * expected_rate(step, warmup, total) for step in range(total)]
    torch.testing.assert_close(watch.rates, expected)
    assert abs(trainer.optimizers[0].param_groups[0]["lr"]) < 1e-12


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(Exception, match="set max_epochs or max_steps"):
        bare(max_epochs=-1).fit(build(), datamodule=TinyImages())


def test_biases_norms_and_teachers_have_no_weight_decay() -> None:
    method = build()
    trainer = bare(max_steps=1)
    trainer.fit(method, datamodule=TinyImages())
    decays = {id(p): group["weight_decay"] for group in trainer.optimizers[0].param_groups for p in group["params"]}
    found = {name: decays.get(id(p)) for name, p in method.named_parameters()}
    assert {name for name, decay in found.items() if decay == 0.1} == {"encoder.conv.weight", "head.1.weight"}
    assert {name for name, decay in found.items() if decay == 0.0} == {
        "encoder.conv.bias",
        "encoder.norm.weight",
        "encoder.norm.bias",
        "head.1.bias",
    }
    assert all(name.startswith("teacher.") for name, decay in found.items() if decay is None)


def test_accumulation_is_refused_where_samples_are_coupled_and_says_why() -> None:
    with pytest.raises(
        Exception,
        match=(
            r"accumulate_grad_batches=2 changes the loss of SimCLR: the negatives of a sample are the others of its"
            r" batch\. Use a larger"
        ),
    ):
        bare(accumulate_grad_batches=2).fit(build(SimCLR), datamodule=TinyImages())


def test_accumulated_batches_equal_one_large_batch() -> None:
    weights = []
    for batch_size, accumulate in ((32, 1), (16, 2), (8, 4)):
        method = build()
        bare(max_epochs=3, accumulate_grad_batches=accumulate).fit(method, datamodule=TinyImages(batch_size=batch_size))
        assert method.trainer.global_step == 6
        weights.append(method.state_dict())
    for other in weights[1:]:
        for name, value in weights[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_each_batch_has_random_numbers_of_its_own_and_a_repeated_run_the_same() -> None:
    """Also under accumulation, where two batches share a step; whatever state the generators were
    in."""

    def masks(seed: int, before: int, **settings: Any) -> list[Tensor]:
        method = build(dropout=0.5)
        kept: list[Tensor] = []
        method.head[0].register_forward_hook(lambda module, args, out: kept.append(out.detach() == 0))
        torch.manual_seed(before)
        bare(**settings).fit(method, datamodule=TinyImages(seed=seed))
        return kept

    first, second, other, accumulated = masks(0, 7), masks(0, 8), masks(1, 7), masks(0, 9, accumulate_grad_batches=2)
    assert len(first) == 8
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(first, accumulated, strict=True)), (
        "counted by steps, not batches"
    )
    for each in (first, accumulated):
        assert len({tuple(mask.flatten().tolist()) for mask in each}) == 8
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(precision: Any) -> None:
    """Without momentum and decay an update is as long as the learning rate times the clipped
    norm."""

    def length(clip: float | None) -> float:
        method = build(scale=100.0, weight_decay=0.0)
        method.optimizer_spec = method.optimizer_spec.with_changes(momentum=0.0)
        before = [p.detach().clone() for p in method.parameters() if p.requires_grad]
        bare(max_steps=1, gradient_clip_val=clip, precision=precision).fit(method, datamodule=TinyImages())
        after = [p.detach() for p in method.parameters() if p.requires_grad]
        return float(torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]).norm())

    lr = 16 / 256
    assert length(None) > 1.5 * lr
    assert length(1.0) == pytest.approx(lr, rel=1e-3)


# Other trainers, other loaders.


def test_a_bare_trainer_ends_with_the_weights_of_ours(tmp_path: Path) -> None:
    ours, theirs = build(SimCLR), build(SimCLR)
    callbacks = [Report(enabled=False), KNNProbe(every_n_steps=2), OnlineLinearProbe(every_n_steps=2)]
    settings = {"max_epochs": 2, "accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False}
    ssl_lightning.Trainer(default_root_dir=tmp_path / "runs", callbacks=callbacks, **settings).fit(
        ours, datamodule=TinyImages()
    )  # type: ignore[arg-type]
    bare(default_root_dir=tmp_path / "bare").fit(theirs, datamodule=TinyImages())
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert not (tmp_path / "bare").exists()


class Ready:
    """Batches that are ready: no DataLoader, no datamodule."""

    def __init__(self, ready: list[Batch]) -> None:
        self.ready = ready

    def __len__(self) -> int:
        return len(self.ready)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.ready)


def test_ready_batches_train_it_without_a_datamodule() -> None:
    """The learning rate is the one at the reference batch, as the size of a batch is not known."""
    method, ours = build(SimCLR), build(SimCLR)
    ready = batches(TinyImages(), method, 4)
    watch = Watch()
    bare(max_epochs=3, callbacks=[watch]).fit(method, Ready(ready))
    torch.testing.assert_close(watch.rates, [1e-3 * expected_rate(step, 1, 12) for step in range(12)])
    assert not torch.equal(method.encoder.conv.weight, ours.encoder.conv.weight)


def test_our_trainer_takes_plain_loaders_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = build(SimCLR)
    trainer = ssl_lightning.Trainer(
        max_epochs=2, accelerator="cpu", precision="32-true", enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(method, Ready(batches(TinyImages(), method, 4)))
    assert "No labelled set: no closing table." in capsys.readouterr().out
    view = View(torch.rand(2, 1, 16, 16))
    assert torch.equal(ssl_lightning.load(trainer.run_folder)(view), method.eval()(view))
    assert torch.equal(ssl_lightning.load_encoder(trainer.run_folder)(view), method(view))


def test_a_bare_trainer_predicts_the_vectors_of_a_split() -> None:
    method = build(SimCLR)
    data = TinyImages(samples=40, predict_split="test")
    outputs = bare().predict(method, datamodule=data)
    assert outputs is not None
    index = torch.cat([out["index"] for out in outputs])  # type: ignore[call-overload]
    assert index.tolist() == list(range(40))
    images = data.split("test").fetch(index).float() / 255  # type: ignore[union-attr]
    features = torch.cat([out["features"] for out in outputs])  # type: ignore[call-overload]
    torch.testing.assert_close(features, method.eval()(View((images - 0.5) / 0.25)), rtol=1e-4, atol=1e-5)
