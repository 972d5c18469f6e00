"""The host waits nowhere in a training step: no number is read back, and nothing is copied between
host and device.

The first half runs on a pretended accelerator (torch's fake tensors have a device and no values, so
that reading one raises); the second half is a real run on the CPU in which every way to read a
tensor's values is watched.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.memory import recursive_detach
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ssl_lightning import Trainer
from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.data.datamodule import SSLDataModule
from ssl_lightning.data.loaders import Fetch, Stream
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.report import Report
from ssl_lightning.method import SSLMethod
from ssl_lightning.nn.ema import EMA
from ssl_lightning.optim.finite import gradients_of, not_finite
from ssl_lightning.optim.recipes import OptimizerName, OptimizerSpec
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.numbers.guard import Guard
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyWaves
from ssl_lightning.testing.methods import MethodKit, tiny_data
from ssl_lightning.testing.runner import class_of
from ssl_lightning.types import Batch, Step, View, ViewSpec


def place() -> str:
    """Who called: the innermost lines of this project, of Lightning and of timm."""
    ours = [
        line
        for line in traceback.extract_stack()
        if any(part in line.filename for part in ("ssl_lightning", "/methods/", "lightning", "timm"))
    ]
    return (
        " < ".join(f"{line.filename.rpartition('/')[2]}:{line.lineno} {line.line}" for line in reversed(ours[-3:]))
        or "the test"
    )


def by_truth(func: Any, args: Any) -> bool:
    """Whether an operation indexes by truth values, whose number it must know."""
    if func.overloadpacket not in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
        return False
    return any(leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor))


# On a pretended accelerator.


class OneDevice(TorchDispatchMode):
    """Notes each operation between host and device, which copies and so waits, and each index by
    truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.offences: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if by_truth(func, args) or len({tensor.device.type for tensor in tensors}) > 1:
            self.offences.append(f"{func} at {place()}")
        return out


def pretend(module: nn.Module, device: str) -> None:
    """Puts a module's parameters and buffers on a pretended device. Within a FakeTensorMode."""
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[name] = nn.Parameter(like(parameter, device), parameter.requires_grad)
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = like(buffer, device)


def like(tensor: Tensor, device: str) -> Tensor:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)


def integers(device: str) -> Tensor:
    return torch.empty(8, dtype=torch.int64, device=device)


@pytest.mark.parametrize(
    "offend",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.__setitem__(x > 0, x[0]),
        lambda x: x[torch.arange(3)],
        lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device),
    ],
    ids=[
        "item",
        "bool",
        "tolist",
        "nonzero",
        "choice",
        "cpu",
        "assignment",
        "index from the host",
        "constant from the host",
    ],
)
def test_the_pretended_accelerator_sees_what_would_wait(offend: Callable[[Tensor], Any]) -> None:
    """The tools of the claims below."""
    with FakeTensorMode():
        x = torch.empty(3, device="cuda")
        try:
            with OneDevice() as seen:
                offend(x)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return
    assert seen.offences


@pytest.mark.parametrize(
    ("channels", "source", "size"),
    [(3, 100, 32), *(pytest.param(*each, marks=pytest.mark.slow) for each in
     ((1, 32, 32), (3, 32, 96), (3, 32, 32), (1, 100, 32), (1, 100, 96), (3, 100, 96), (1, 32, 96)))],
)  # fmt: skip
def test_views_are_made_on_the_device_alone(channels: int, source: int, size: int) -> None:
    policy = ImagePolicy(rotation=10, shear=5, blur_p=0.5, solarize_p=0.2)
    data = TinyImages()
    with FakeTensorMode():
        data.transforms = [
            policy.build(strength, size) for strength in ("none", "weak", "strong", "strong_a", "strong_b")
        ]
        data.transforms.append(policy.build("strong", size // 2, local=True))
        raw = torch.empty(8, channels, source, source, dtype=torch.uint8, device="cuda")
        seen = OneDevice()
        for _ in range(2):  # the first batch moves the operations' constants
            seen.offences.clear()
            with seen:
                batch = data.make_batch(
                    {"raw": raw, "index": integers("cuda"), "pass": integers("cuda"), "label": integers("cuda")}
                )
        assert [view.x.device.type for view in batch["views"]] == ["cuda"] * 6
    assert not seen.offences, seen.offences


@pytest.mark.parametrize(
    ("features", "settings"),
    [("wave", {"seconds": 0.1}), ("wave", {"seconds": None}), ("log_mel", {"seconds": 0.1})],
    ids=["waves", "whole waves", "log-mels"],
)
def test_views_of_sound_are_made_on_the_device_alone(features: str, settings: dict[str, Any]) -> None:
    """The workers cut the waves; whole ones have padding."""

    class Asks:
        views = ViewSpec(full=2, strength=("weak", "weak") if settings["seconds"] is None else ("strong_a", "strong_b"))

    data = TinyWaves(features=features, **settings)
    data.serve(Asks())
    fetched = Fetch(data.training_split, data.maker.cut).__getitems__(range(8))
    seen = OneDevice()
    with FakeTensorMode():
        for transform in data.transforms:
            pretend(transform, "cuda")
        moved = tree_map(lambda leaf: like(leaf, "cuda") if isinstance(leaf, Tensor) else leaf, fetched)
        with seen:
            batch = data.make_batch(moved)
        assert [view.x.device.type for view in batch["views"]] == ["cuda"] * 2
    assert not seen.offences, "\n".join(sorted(set(seen.offences)))


@pytest.mark.parametrize(
    "encoder", [ConvEncoder(width=8, depth=3), TimmEncoder("resnet18", small_images=True)], ids=["conv", "resnet18"]
)
def test_simclr_steps_on_the_device_alone(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, loss, backward, LARS and the teacher. The accelerator is called "lazy": the backward
    pass of a fake "cuda" asks the driver for its stream. No autocast is known for that name."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    method, teacher = SimCLR(encoder, optimizer="lars"), EMA(encoder)
    with FakeTensorMode():
        pretend(method, "lazy")
        pretend(teacher, "lazy")
        optimizer, schedule = method.optimizer_spec.build(method, 8, 10, 10)
        images = [torch.empty(8, 3, 32, 32, device="lazy") for _ in range(2)]
        with OneDevice() as seen:
            for step in range(2):
                optimizer.zero_grad()
                out = method.step(
                    {"views": [View(x) for x in images], "index": integers("lazy"), "key": integers("lazy")}
                )
                out["loss"].backward()
                optimizer.step()
                schedule.step()
                teacher.update(step / 2)
                teacher(View(images[0]))
        assert out["loss"].device.type == "lazy" and all(
            parameter.grad is not None for parameter in method.parameters()
        )
    assert not seen.offences, seen.offences


METHODS = sorted(Registry("ssl_lightning.methods"))


def train(method: SSLMethod, batch: Batch, optimizer: torch.optim.Optimizer, steps: int = 5) -> Tensor:
    """All that the optimizer steps of a method consist of, without the trainer."""
    for step in range(steps):
        out = method.step(batch)
        optimizer.zero_grad()
        out["loss"].backward()
        method.on_before_optimizer_step(optimizer)
        optimizer.step()
        for teacher in method.teachers:
            teacher.update(step / 10)
        with torch.no_grad():
            method.after_update([recursive_detach({"state": out.get("state")})["state"]])
    return out["loss"]


@pytest.mark.parametrize("steps", [2, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_steps_on_the_device_alone(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method that is installed, with the kit's encoder and data, on the device called "lazy"
    (see above), which no fused optimizer knows."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    kit = MethodKit(class_of("ssl_lightning.methods", name))
    method, samples = kit.method(dropout=True), kit.batch()
    with FakeTensorMode():
        pretend(method, "lazy")
        batch = tree_map(lambda leaf: like(leaf, "lazy") if isinstance(leaf, Tensor) else leaf, samples)
        method.step(batch)  # moves the tables of positions
        with OneDevice() as seen:
            loss = train(method, batch, torch.optim.SGD(method.parameters(), 0.1, foreach=True), steps)
        assert loss.device.type == "lazy"
    assert not seen.offences, "\n".join(sorted(set(seen.offences)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_steps_on_a_gpu_without_waiting(name: str) -> None:
    """torch raises where the host waits for the device; the second round, when constants have
    moved and kernels are chosen."""
    kit = MethodKit(class_of("ssl_lightning.methods", name))
    method = kit.method(dropout=True).cuda()
    batch = tree_map(lambda leaf: leaf.cuda() if isinstance(leaf, Tensor) else leaf, kit.batch())
    optimizer = method.optimizer_spec.build(method, 16, 10, 10)[0]
    train(method, batch, optimizer)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = train(method, batch, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["adamw", "lars"])  # torch has no fake of the fused SGD
def test_optimizers_step_on_the_device_alone(name: OptimizerName) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with FakeTensorMode():
        pretend(module, "cuda")
        optimizer, schedule = OptimizerSpec(name).build(module, 8, 10, 10)
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter)
        with OneDevice() as seen:
            for _ in range(2):
                flag: Any = not_finite(gradients_of(optimizer), torch.device("cuda"))
                optimizer.found_inf = flag  # type: ignore[attr-defined]  # a step that is not finite changes nothing
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    assert not seen.offences, seen.offences


# In a real run.

READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select, torch.ops.aten.equal)
"""What `item`, `bool`, `float`, `int` and `equal` come down to, and what asks how many there
are."""


class Watch(TorchDispatchMode):
    """Notes, while it is `on`, who reads a tensor's values."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.on = False
        self.offences: list[str] = []
        self.operations = 0
        for name in ("tolist", "numpy", "cpu", "__array__"):  # no operations on a CPU
            monkeypatch.setattr(Tensor, name, self.noted(name, getattr(Tensor, name)))

    def noted(self, name: str, method: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.note(name)
            return method(*args, **kwargs)

        return wrapper

    def note(self, what: str) -> None:
        if self.on:
            self.offences.append(f"{what} at {place()}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += self.on
        if func.overloadpacket in READS or by_truth(func, args):
            self.note(str(func))
        return func(*args, **(kwargs or {}))

    @contextmanager
    def off(self) -> Iterator[None]:
        was, self.on = self.on, False
        yield
        self.on = was


class Teaches(SSLMethod):
    """All that the core does in a step: a teacher, `logs`, `after_update`."""

    views = ViewSpec(full=2)
    centre: Tensor

    def __init__(self, encoder: TinyEncoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.head = nn.Linear(encoder.dim, 4)
        self.teacher = EMA(nn.Sequential(encoder, self.head))
        self.register_buffer("centre", torch.zeros(4))

    def step(self, batch: Batch) -> Step:
        first, second = batch["views"]
        z = self.head(self.encoder(first))
        loss = (z - self.teacher(second).detach()).square().mean()
        return {"loss": loss, "embeddings": z, "logs": {"spread": z.detach().std()}, "state": z.detach()}

    def after_update(self, states: list[Any]) -> None:
        self.centre.lerp_(torch.cat(states).float().mean(dim=0), 0.1)


class Rhythm(pl.Callback):
    """Stops before step 20, where the run would log, probe and report its progress once more."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.steps += 1
        trainer.should_stop = self.steps >= 19


def watched(
    method: SSLMethod,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    root: Any,
    data: SSLDataModule | None = None,
    **settings: Any,
) -> None:
    """Trains with every standing callback, and watches from the 12th batch to the 19th: all that a
    step does besides what is logged, probed and printed every ten steps or more. Whether a step is
    finite is looked at as on an accelerator."""
    monkeypatch.setattr(Guard, "looks_at_once", False)
    fetch, make_batch, fetched = Stream.__next__, SSLDataModule.make_batch, iter(range(1, 1000))

    def fetch_unwatched(self: Stream) -> Any:
        watch.on = False  # the order and the fetching are the host's work wherever the model is
        batch = fetch(self)
        watch.on = 12 <= next(fetched) < 19
        return batch

    def make_unwatched(self: SSLDataModule, raw: dict[str, Any]) -> Batch:
        with (
            watch.off()
        ):  # on purpose a CPU picks out the samples that change; an accelerator's part is the first half's
            return make_batch(self, raw)

    monkeypatch.setattr(Stream, "__next__", fetch_unwatched)
    monkeypatch.setattr(SSLDataModule, "make_batch", make_unwatched)
    standing = [
        OnlineLinearProbe(every_n_steps=10),
        KNNProbe(every_n_steps=10),
        CollapseMonitor(every_n_steps=10),
        Spectrum(every_n_steps=10, samples=16, lidar_samples=8),
        Report(enabled=False),
    ]
    rhythm = Rhythm()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=200,
        log_every_n_steps=10,
        default_root_dir=root,
        callbacks=[*standing, rhythm],
        **settings,
    )
    with watch:
        trainer.fit(method, datamodule=data or TinyImages(samples=640))
    assert rhythm.steps == 19


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (SimCLR, {"optimizer": "lars"}),
        pytest.param(SimCLR, {"optimizer": "sgd"}, marks=pytest.mark.slow),
        (Teaches, {"precision": "bf16-mixed", "gradient_clip_val": 1.0}),
        pytest.param(Teaches, {"accumulate_grad_batches": 2}, marks=pytest.mark.slow),
    ],
    ids=["lars", "sgd", "teacher, clipped, bf16", "accumulated"],
)
def test_a_run_reads_nothing_back_between_its_rows(
    cls: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    settings = {"precision": "32-true", **settings}
    watch = Watch(monkeypatch)
    method = cls(TinyEncoder(), optimizer=settings.pop("optimizer", None))
    watched(method, watch, monkeypatch, tmp_path, **settings)
    assert watch.operations > 300
    assert not watch.offences, "\n".join(sorted(set(watch.offences)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_a_run_of_any_method_reads_nothing_back_between_its_rows(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cls = class_of("ssl_lightning.methods", name)
    watch = Watch(monkeypatch)
    data = tiny_data(cls, samples=640)
    watched(MethodKit(cls).method(dropout=True), watch, monkeypatch, tmp_path, data, precision="32-true")
    assert watch.operations > 200
    assert not watch.offences, "\n".join(sorted(set(watch.offences)))


@pytest.mark.parametrize(
    "offend",
    [
        lambda x: x.sum().item(),
        lambda x: x.any() and None,
        lambda x: range(x.long().argmax()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
    ],
    ids=["item", "bool", "index", "tolist", "numpy", "cpu", "choice", "nonzero"],
)
def test_the_watch_sees_who_reads(offend: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool of the claim above."""
    with Watch(monkeypatch) as watch:
        x = torch.ones(3)
        offend(x)
        assert not watch.offences
        watch.on = True
        offend(x)
    assert watch.offences
