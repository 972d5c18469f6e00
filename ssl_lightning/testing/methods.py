"""The claims that every method must satisfy, as checks."""

from __future__ import annotations

import copy
import inspect
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..encoders.base import Encoder
from ..encoders.frames import FrameTransformer
from ..encoders.kinds import KINDS, needed_encoder
from ..encoders.text import TextTransformer
from ..encoders.wave import WaveTransformer
from ..evaluation.supervised import Supervised
from ..method import SSLMethod
from ..plugins.rebuild import rebuild
from ..plugins.record import config_of
from ..run.checkpoints.checkpoint import AtomicIO
from ..run.pretrained import load
from ..run.training import STEP_KEYS
from ..types import Batch, ViewSpec
from .runner import check_numbers, class_of, numpy_state, run_checks
from .tiny import ROW_LENGTH, VOCAB_SIZE, WAVE_STEM, TinyEncoder, TinyImages, TinyText, TinyTokenEncoder, TinyWaves

CLASSES = 4
"""The number of classes of `TinyImages`, `TinyText` and `TinyWaves`."""


def tiny_encoder(method: type[SSLMethod]) -> Encoder:
    """A small encoder of the kind that a method class needs."""
    kind = needed_encoder(method)
    if kind == "TextEncoder":
        return TextTransformer(vocab_size=VOCAB_SIZE, dim=8, depth=1, heads=2, max_length=ROW_LENGTH)
    if kind == "WaveEncoder":
        return WaveTransformer(maps=8, dim=16, depth=1, heads=2, **WAVE_STEM)
    if kind == "SequenceEncoder":
        return FrameTransformer(mels=16, dim=8, depth=1, heads=2, **method.suited_encoder_args)
    return TinyTokenEncoder() if kind == "TokenEncoder" else TinyEncoder()


def tiny_data(method: type[SSLMethod], **init_args: Any) -> SSLDataModule:
    """A small datamodule whose samples the encoder of `tiny_encoder` reads."""
    by_kind: dict[str, type[SSLDataModule]] = {"TextEncoder": TinyText, "WaveEncoder": TinyWaves}
    return by_kind.get(needed_encoder(method), TinyImages)(**init_args)


def _without_dropout(method: SSLMethod) -> SSLMethod:
    for module in method.modules():
        if "Drop" in type(module).__name__:
            module.eval()
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return method


class MethodKit:
    """Builds equal copies of a method and its batches for the checks."""

    def __init__(self, cls: type[SSLMethod], **init_args: Any) -> None:
        self.cls, self.init_args = cls, init_args

    def method(self, dropout: bool = False) -> SSLMethod:
        """A method in training mode, by default without dropout, which alone may draw from torch's
        default generator."""
        torch.manual_seed(0)
        method = self.cls(tiny_encoder(self.cls), **self.init_args).train()
        if isinstance(method, Supervised):
            # A new head is zero and gives the same loss for all samples.
            nn.init.normal_(method.size_head(CLASSES).weight)
        return method if dropout else _without_dropout(method)

    def batch(self, samples: int = 16, order: Tensor | None = None) -> Batch:
        data = tiny_data(self.cls, samples=max(samples, 32))
        data.batch_size = samples
        data.serve(self.method())
        source = data.split("train")
        assert source is not None and source.labels is not None
        index = torch.arange(samples) if order is None else order
        return data.make_batch(
            {"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index), "label": source.labels[index]}
        )

    def loss(self, batch: Batch, method: SSLMethod | None = None, seed: int = 1) -> Tensor:
        method = method or self.method()
        torch.manual_seed(seed)
        return method.step(batch)["loss"]


def arguments_have_defaults(kit: MethodKit) -> None:
    """`Method(encoder)` can be called: the arguments after `encoder` are keyword-only and have
    defaults."""
    for name, parameter in list(inspect.signature(kit.cls).parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, (
            f"{kit.cls.__name__}.__init__: {name} must be keyword-only."
        )
        assert parameter.default is not inspect.Parameter.empty, f"{kit.cls.__name__}.__init__: {name} needs a default."
    kit.method()


def says_what_encoder_it_needs(kit: MethodKit) -> None:
    """The first argument is `encoder`, annotated as `Encoder` or a kind of it; the command line
    chooses the default encoder by this annotation."""
    first = next(iter(inspect.signature(kit.cls).parameters.values()), None)
    assert first is not None and first.name == "encoder", (
        f"the first argument of {kit.cls.__name__}.__init__ must be encoder."
    )
    stated = getattr(first.annotation, "__name__", str(first.annotation)).rpartition(".")[2]
    assert stated in KINDS, f"{kit.cls.__name__}.__init__ must annotate encoder as {', '.join(KINDS)}."


def numbers_are_in_range(kit: MethodKit) -> None:
    """Each numeric argument refuses 0 and -1 in one line that says which, or gives a finite loss
    with them."""

    def build(changes: dict[str, Any]) -> None:
        changed = MethodKit(kit.cls, **{**kit.init_args, **changes})
        assert changed.loss(changed.batch()).isfinite(), f"the loss with {changes} is not finite."

    check_numbers(kit.cls, build)


def asks_for_views(kit: MethodKit) -> None:
    """`views` is a `ViewSpec`."""
    assert isinstance(kit.method().views, ViewSpec), f"{kit.cls.__name__}.views is not a ViewSpec."


def says_what_it_is(kit: MethodKit) -> None:
    """The class has a docstring; its first line is the summary that lists show."""
    assert (kit.cls.__doc__ or "").strip(), f"{kit.cls.__name__} has no docstring."


def loss_is_a_finite_scalar(kit: MethodKit) -> None:
    """`step` returns a loss that is a finite scalar, the sum of its `losses` if there are any, and
    no keys but those of `STEP_KEYS`."""
    step = kit.method().step(kit.batch())
    assert "loss" in step, f"step returned {sorted(step)} without a loss."
    assert set(step) <= STEP_KEYS, f"step returned {sorted(set(step) - STEP_KEYS)}; allowed: {sorted(STEP_KEYS)}."
    loss = step["loss"]
    assert loss.ndim == 0 and bool(loss.isfinite()), f"the loss is {loss}; it must be a finite scalar."
    if losses := step.get("losses"):
        whole = torch.stack([each for each, _ in losses.values()]).sum()
        assert torch.allclose(whole, loss, rtol=1e-4), f"the loss is {loss}, and its losses add up to {whole}."


def odd_and_small_batches_work(kit: MethodKit) -> None:
    """Batches of 2 and of 13 samples give a finite loss."""
    for samples in (2, 13):
        loss = kit.loss(kit.batch(samples))
        assert bool(loss.isfinite()), f"the loss of {samples} samples is {loss}."


def buffers_keep_their_shape(kit: MethodKit) -> None:
    """A step changes no buffer's shape: DistributedDataParallel broadcasts buffers, and the batches
    of processes differ."""
    method = kit.method()
    before = {name: buffer.shape for name, buffer in method.named_buffers()}
    for samples in (2, 13):
        method.step(kit.batch(samples))
    for name, buffer in method.named_buffers():
        assert buffer.shape == before.get(name), (
            f"a step made the buffer {name} one of {list(buffer.shape)}: keep what follows the batch in an attribute."
        )


def every_parameter_learns(kit: MethodKit) -> None:
    """Each trainable parameter gets a gradient, and no gradient reaches a teacher."""
    method = kit.method()
    kit.loss(kit.batch(), method).backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} is trainable but gets no gradient: freeze it, or use it."
    for teacher in method.teachers:
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters()), (
            "a gradient reaches a teacher."
        )


def labels_are_not_read(kit: MethodKit) -> None:
    """The loss is the same without labels; that of a supervised method depends on them."""
    batch = kit.batch()
    without = copy.copy(batch)
    if kit.cls.supervised:
        without["label"] = batch["label"].roll(1)
        assert not torch.equal(kit.loss(batch), kit.loss(without)), (
            "the loss is the same with other labels: set supervised = False."
        )
        return
    del without["label"]
    assert torch.equal(kit.loss(batch), kit.loss(without)), "the loss changes when the labels are deleted."


def loss_is_reproducible(kit: MethodKit) -> None:
    """The same batch gives the same loss, whatever the state of the default generators; only
    dropout may draw from torch's."""
    before = (random.getstate(), numpy_state())
    first, again = kit.loss(kit.batch()), kit.loss(kit.batch())
    assert torch.equal(first, again), f"the same batch gave {first} and {again}."
    assert before == (random.getstate(), numpy_state()), (
        "step draws from Python's or numpy's generator; use batch['key']."
    )
    one, two = (kit.loss(kit.batch(), seed=seed) for seed in (1, 2))
    assert torch.equal(one, two), "step draws from torch's default generator; use batch['key']."


def order_of_samples_does_not_matter(kit: MethodKit) -> None:
    """The loss does not depend on the order of the samples."""
    shuffled = kit.batch(order=torch.randperm(16, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(kit.loss(shuffled), kit.loss(kit.batch()), rtol=1e-4, atol=1e-5)


def bf16_is_close(kit: MethodKit) -> None:
    """Under bfloat16 autocast the loss is finite and within 5 % of float32's."""
    exact = kit.loss(kit.batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = kit.loss(kit.batch())
    assert bool(rough.isfinite()), f"the loss in bfloat16 is {rough}."
    torch.testing.assert_close(rough.float(), exact.float(), rtol=0.05, atol=0.05)


def config_rebuilds_it(kit: MethodKit) -> None:
    """The recorded config holds plain values and rebuilds a method with the same parameters."""
    method = kit.method()
    twin = rebuild(config_of(method), trust=[kit.cls.__module__.partition(".")[0]])
    assert type(twin) is kit.cls, f"the config rebuilds a {type(twin).__name__}."
    twin.load_state_dict(method.state_dict())


def resume_is_exact(kit: MethodKit) -> None:
    """A run resumed from a checkpoint in mid-epoch ends with bitwise the same state as an
    uninterrupted one; `load` rebuilds the method."""
    at = 1 if kit.cls.solved else 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"step-{at}.ckpt"
        straight, resumed = kit.method(dropout=True), kit.method(dropout=True)
        _train(straight, folder, [_SaveAt(at, path)])
        _train(resumed, folder, [], ckpt_path=path)
        for name, value in straight.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), (
                f"{name} differs after a resume: keep all state in buffers."
            )
        loaded = load(path, trust=[kit.cls.__module__.partition(".")[0]])
        assert type(loaded) is kit.cls, f"load(checkpoint) gives a {type(loaded).__name__}."
        assert loaded(kit.batch()["views"][0]).shape == (16, loaded.backbone.dim), (
            "load(checkpoint) does not give features [S, dim]."
        )


class _SaveAt(Checkpoint):
    """Saves a checkpoint after a step's other callbacks: Lightning calls a `Checkpoint` last."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


def _train(method: SSLMethod, folder: str, callbacks: list[pl.Callback], ckpt_path: Path | None = None) -> None:
    """Trains for two epochs of three steps with Lightning's plain Trainer."""
    trainer = pl.Trainer(
        max_epochs=2, limit_train_batches=3, accelerator="cpu", logger=False, enable_checkpointing=bool(callbacks),
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, callbacks=callbacks,
    )  # fmt: skip
    trainer.strategy.checkpoint_io = AtomicIO()
    trainer.fit(method, datamodule=tiny_data(type(method)), ckpt_path=ckpt_path)


METHOD_CHECKS: tuple[Callable[[MethodKit], None], ...] = (
    says_what_encoder_it_needs,
    arguments_have_defaults,
    asks_for_views,
    says_what_it_is,
    loss_is_a_finite_scalar,
    odd_and_small_batches_work,
    buffers_keep_their_shape,
    every_parameter_learns,
    loss_is_reproducible,
    labels_are_not_read,
    order_of_samples_does_not_matter,
    bf16_is_close,
    config_rebuilds_it,
    resume_is_exact,
    numbers_are_in_range,
)


def check_method(name_or_class: str | type[SSLMethod], **init_args: Any) -> None:
    """Runs every check of `METHOD_CHECKS` on a method: on tiny texts if it needs a `TextEncoder`,
    on tiny waves if it needs a `WaveEncoder`, else on tiny images.

    Args:
        name_or_class: an entry-point name, or the class.
        init_args: arguments of the method besides `encoder`.

    Raises:
        AssertionError: a claim does not hold; the message says which one and why.
    """
    run_checks(METHOD_CHECKS, MethodKit(class_of("ssl_lightning.methods", name_or_class), **init_args))
