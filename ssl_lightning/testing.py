"""The public conformance kit: the claims that every method and every datamodule must meet, as small named checks.

    from ssl_lightning.testing import check_method, check_datamodule
    check_method("simclr")              # a name, or a class
    check_datamodule(MyData, root=...)

Each check states one claim and raises what broke. `METHOD_CHECKS` and `DATAMODULE_CHECKS` list them, so that a test suite can
run them one by one.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn

from .augment.image import ImagePolicy
from .checkpoint import AtomicIO, load
from .datamodule import Split, SSLDataModule
from .encoder import Encoder, TokenEncoder
from .method import STEP_KEYS, SSLMethod
from .names import Names
from .record import config_of, rebuild
from .registry import Registry
from .sources import InMemory, Source
from .types import Batch, Strength, Tokens, View, ViewSpec

KINDS = {"Encoder": Encoder, "TokenEncoder": TokenEncoder}


class TinyEncoder(Encoder):
    """A convolution and a mean: grey images to 8 features, in next to no time.

    Args:
        dim: number of features.
    """

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim
        self.conv = nn.Conv2d(1, dim, 5, stride=2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.norm(self.conv(view.x).mean(dim=(2, 3)))
        return features


class TinyTokenEncoder(TokenEncoder):
    """Patches of 4x4 pixels, one transformer layer, a mean over tokens.

    Args:
        dim: width of a token, and number of features.
    """

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Linear(16, dim)
        self.position = nn.Parameter(torch.randn(1, 64, dim) * 0.02)
        self.layer = nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.0, batch_first=True)

    def content(self, view: View) -> Tensor:
        return nn.functional.unfold(view.x, 4, stride=4).transpose(1, 2)

    def tokenize(self, view: View) -> Tokens:
        content = self.content(view)
        return Tokens(self.embed(content) + self.position[:, : content.shape[1]])

    def mix(self, tokens: Tokens) -> Tensor:
        mixed: Tensor = self.layer(tokens.x)
        return mixed

    def forward(self, view: View) -> Tensor:
        return self.mix(self.tokenize(view)).mean(dim=1)


class TinyImages(SSLDataModule):
    """Random grey images of 16x16 in 4 classes of brightness: for tests.

    Args:
        samples: how many there are.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        "Encoder": {"class_path": "ssl_lightning.testing.TinyEncoder"},
        "TokenEncoder": {"class_path": "ssl_lightning.testing.TinyTokenEncoder"},
    }
    default_epochs = 2
    serves_local = True

    def __init__(self, *, samples: int = 64, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.samples = samples
        self.policy = ImagePolicy(jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, mean=(0.5,), std=(0.25,))

    def source(self, split: Split) -> Source | None:
        generator = torch.Generator().manual_seed(("train", "val", "test").index(split))
        labels = torch.arange(self.samples) % 4
        images = torch.randint(0, 128, (self.samples, 1, 16, 16), generator=generator) + 32 * labels.view(-1, 1, 1, 1)
        return InMemory(images.to(torch.uint8), labels)

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.policy.build(strength, local_size or 16, local=local_size is not None)

    def local_size(self, spec: ViewSpec) -> int | None:
        return spec.local_size or 8


def _class(group: str, name_or_class: str | type[Any]) -> type[Any]:
    return Registry(group)[name_or_class] if isinstance(name_or_class, str) else name_or_class


def _run(checks: Iterable[Callable[[Any], None]], kit: Any) -> None:
    """Runs checks in order; whatever the first broken claim raises becomes an `AssertionError` that names it."""
    for check in checks:
        try:
            check(kit)
        except Exception as error:
            what = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            raise AssertionError(f"{kit.cls.__name__} fails {check.__name__}: {what}\nThe claim: {check.__doc__}") from error


def needed_encoder(method: type[SSLMethod]) -> str:
    """The kind of encoder that a method class asks for: `Encoder` or `TokenEncoder`."""
    annotation = inspect.signature(method).parameters["encoder"].annotation
    return "TokenEncoder" if "TokenEncoder" in str(annotation) else "Encoder"


def _numpy_state() -> bytes:
    return pickle.dumps(np.random.get_state())  # holds an array, which `==` would not reduce to one answer


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
        """A method in training mode; without dropout, the one thing that may draw from torch's default generator."""
        torch.manual_seed(0)
        encoder = TinyTokenEncoder() if needed_encoder(self.cls) == "TokenEncoder" else TinyEncoder()
        method = self.cls(encoder, **self.init_args).train()
        return method if dropout else _without_dropout(method)

    def batch(self, samples: int = 16) -> Batch:
        data = TinyImages(samples=max(samples, 32))
        data.batch_size = samples
        data.serve(self.method())
        source = data.split("train")
        assert source is not None and source.labels is not None
        index = torch.arange(samples)
        return data.make_batch({"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index), "label": source.labels[index]})

    def loss(self, batch: Batch, method: SSLMethod | None = None, seed: int = 1) -> Tensor:
        method = method or self.method()
        torch.manual_seed(seed)
        return method.step(batch)["loss"]


def arguments_have_defaults(kit: MethodKit) -> None:
    """`Method(encoder)` builds: what follows `encoder` is keyword-only and has a default."""
    for name, parameter in list(inspect.signature(kit.cls).parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{kit.cls.__name__}.__init__: {name} must be keyword-only."
        assert parameter.default is not inspect.Parameter.empty, f"{kit.cls.__name__}.__init__: {name} needs a default."
    kit.method()


def says_what_encoder_it_needs(kit: MethodKit) -> None:
    """The first argument is `encoder`, annotated as `Encoder` or `TokenEncoder`: the command line chooses a default by it."""
    first = next(iter(inspect.signature(kit.cls).parameters.values()), None)
    assert first is not None and first.name == "encoder", f"the first argument of {kit.cls.__name__}.__init__ must be encoder."
    stated = getattr(first.annotation, "__name__", str(first.annotation)).rpartition(".")[2]
    assert stated in KINDS, f"{kit.cls.__name__}.__init__ must annotate encoder as Encoder or TokenEncoder."


def asks_for_views(kit: MethodKit) -> None:
    """`views` is a `ViewSpec`."""
    assert isinstance(kit.method().views, ViewSpec), f"{kit.cls.__name__}.views is no ViewSpec."


def says_what_it_is(kit: MethodKit) -> None:
    """The class has a docstring, whose first line is the summary that lists show."""
    assert (kit.cls.__doc__ or "").strip(), f"{kit.cls.__name__} has no docstring."


def loss_is_a_finite_scalar(kit: MethodKit) -> None:
    """`step` returns a finite scalar, and no key but loss, embeddings, logs."""
    step = kit.method().step(kit.batch())
    assert "loss" in step, f"step returned {sorted(step)} and no loss."
    assert set(step) <= STEP_KEYS, f"step returned {sorted(set(step) - STEP_KEYS)}; allowed: {sorted(STEP_KEYS)}."
    loss = step["loss"]
    assert loss.ndim == 0 and bool(loss.isfinite()), f"the loss is {loss}; it must be a finite scalar."


def odd_and_small_batches_work(kit: MethodKit) -> None:
    """Batches of 2 and of 13 samples give a finite loss."""
    for samples in (2, 13):
        loss = kit.loss(kit.batch(samples))
        assert bool(loss.isfinite()), f"the loss of {samples} samples is {loss}."


def every_parameter_learns(kit: MethodKit) -> None:
    """Each trainable parameter gets a gradient, and none reaches a teacher."""
    method = kit.method()
    kit.loss(kit.batch(), method).backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} is trainable and gets no gradient: freeze it, or use it."
    for teacher in method.teachers:
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters()), "a gradient reaches a teacher."


def labels_are_not_read(kit: MethodKit) -> None:
    """The loss is the same without labels."""
    batch = kit.batch()
    without = copy.copy(batch)
    del without["label"]
    assert torch.equal(kit.loss(batch), kit.loss(without)), "the loss changes when the labels are deleted."


def loss_is_reproducible(kit: MethodKit) -> None:
    """The same batch gives the same loss, whatever the state of the default generators; dropout may draw from torch's."""
    before = (random.getstate(), _numpy_state())
    first, again = kit.loss(kit.batch()), kit.loss(kit.batch())
    assert torch.equal(first, again), f"the same batch gave {first} and {again}."
    assert before == (random.getstate(), _numpy_state()), "step draws from Python's or numpy's generator; use batch['key']."
    one, two = (kit.loss(kit.batch(), seed=seed) for seed in (1, 2))
    assert torch.equal(one, two), "step draws from torch's default generator; use batch['key']."


def order_of_samples_does_not_matter(kit: MethodKit) -> None:
    """The samples in another order give the same loss."""
    batch = kit.batch()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled: Batch = {
        "views": [View(*(None if part is None else part[order] for part in view)) for view in batch["views"]],  # type: ignore[arg-type]
        "index": batch["index"][order],
        "key": batch["key"][order],
        "label": batch["label"][order],
    }
    torch.testing.assert_close(kit.loss(shuffled), kit.loss(batch), rtol=1e-4, atol=1e-5)


def bf16_is_close(kit: MethodKit) -> None:
    """Under bfloat16 autocast the loss is finite and within 5 % of float32's."""
    exact = kit.loss(kit.batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = kit.loss(kit.batch())
    assert bool(rough.isfinite()), f"the loss in bfloat16 is {rough}."
    torch.testing.assert_close(rough.float(), exact.float(), rtol=0.05, atol=0.05)


def config_rebuilds_it(kit: MethodKit) -> None:
    """What was recorded builds a method with the same parameters, and is plain."""
    method = kit.method()
    twin = rebuild(config_of(method), trust=[kit.cls.__module__.partition(".")[0]])
    assert type(twin) is kit.cls, f"the config rebuilds a {type(twin).__name__}."
    twin.load_state_dict(method.state_dict())


def resume_is_exact(kit: MethodKit) -> None:
    """A run that goes on from its checkpoint in mid-epoch ends bitwise where it would have; `load` rebuilds the method."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step-4.ckpt"
        straight, resumed = kit.method(dropout=True), kit.method(dropout=True)
        _train(straight, folder, [_SaveAt(4, path)])
        _train(resumed, folder, [], ckpt_path=path)
        for name, value in straight.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), f"{name} differs after a resume: keep all state in buffers."
        loaded = load(path, trust=[kit.cls.__module__.partition(".")[0]])
        assert type(loaded) is kit.cls, f"load(checkpoint) gives a {type(loaded).__name__}."
        assert loaded(kit.batch()["views"][0]).shape == (16, loaded.backbone.dim), "load(checkpoint) gives no features [S, dim]."


class _SaveAt(pl.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


def _train(method: SSLMethod, folder: str, callbacks: list[pl.Callback], ckpt_path: Path | None = None) -> None:
    """Two epochs of three steps by Lightning's bare Trainer."""
    trainer = pl.Trainer(
        max_epochs=2, limit_train_batches=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=callbacks,
    )  # fmt: skip
    trainer.strategy.checkpoint_io = AtomicIO()
    trainer.fit(method, datamodule=TinyImages(), ckpt_path=ckpt_path)


METHOD_CHECKS: tuple[Callable[[MethodKit], None], ...] = (
    says_what_encoder_it_needs,
    arguments_have_defaults,
    asks_for_views,
    says_what_it_is,
    loss_is_a_finite_scalar,
    odd_and_small_batches_work,
    every_parameter_learns,
    loss_is_reproducible,
    labels_are_not_read,
    order_of_samples_does_not_matter,
    bf16_is_close,
    config_rebuilds_it,
    resume_is_exact,
)


def check_method(name_or_class: str | type[SSLMethod], **init_args: Any) -> None:
    """Runs every check of `METHOD_CHECKS` on a method, on tiny images.

    Args:
        name_or_class: an entry-point name, or the class.
        init_args: arguments of the method besides `encoder`.

    Raises:
        AssertionError: a claim does not hold; the message says which and how.
    """
    _run(METHOD_CHECKS, MethodKit(_class("ssl_lightning.methods", name_or_class), **init_args))


class DataKit:
    """Builds equal copies of a datamodule that serves a method which asks for two views and a clean one."""

    class Asks:
        views = ViewSpec(full=2, clean=True)

    def __init__(self, cls: type[SSLDataModule], **init_args: Any) -> None:
        self.cls, self.init_args = cls, init_args

    def data(self, **changes: Any) -> SSLDataModule:
        data = self.cls(**{"batch_size": 8, **self.init_args, **changes})
        data.prepare_data()
        data.serve(self.Asks())
        return data

    def batch(self, index: list[int], pass_: int = 0, data: SSLDataModule | None = None) -> Batch:
        data = data or self.data()
        train, place = data.split("train"), torch.tensor(index)
        assert train is not None, f"{self.cls.__name__}.source('train') is None."
        return data.make_batch({"raw": train.fetch(place), "index": place, "pass": torch.full_like(place, pass_)})


def names_what_it_holds(kit: DataKit) -> None:
    """The class has a docstring, whose first line is the summary that lists show."""
    assert (kit.cls.__doc__ or "").strip(), f"{kit.cls.__name__} has no docstring."


def views_are_batches(kit: DataKit) -> None:
    """Three views were asked for, three come, each of S samples and finite."""
    batch = kit.batch([0, 1, 2, 3, 4])
    assert len(batch["views"]) == 3, f"asked for two views and a clean one, got {len(batch['views'])}."
    for view in batch["views"]:
        assert len(view.x) == 5, f"a view of 5 samples has the shape {tuple(view.x.shape)}."
        assert not view.x.is_floating_point() or bool(view.x.isfinite().all()), "a view holds NaN or infinity."


def a_sample_is_alone_with_its_key(kit: DataKit) -> None:
    """A sample's views do not depend on the batch it is in."""
    alone, among = kit.batch([3]), kit.batch([5, 3, 0])
    for one, many in zip(alone["views"], among["views"], strict=True):
        torch.testing.assert_close(one.x[0], many.x[1], rtol=1e-5, atol=1e-5)


def passes_and_views_differ(kit: DataKit) -> None:
    """A pass repeats exactly; another pass, and the other view, look different; the clean view does not."""
    index, data = list(range(8)), kit.data()
    first, again, later = (kit.batch(index, pass_, data) for pass_ in (0, 0, 1))
    for one, two in zip(first["views"], again["views"], strict=True):
        assert torch.equal(one.x, two.x), "the same pass gave other views: draw from the key alone."
    assert not torch.equal(first["views"][0].x, later["views"][0].x), "two passes gave the same views."
    assert not torch.equal(first["views"][0].x, first["views"][1].x), "the two views are the same."
    assert torch.equal(first["views"][2].x, later["views"][2].x), "the clean view changes from pass to pass."


def no_global_generator_is_used(kit: DataKit) -> None:
    """Views draw nothing from torch's, numpy's or Python's generator."""
    data = kit.data()
    before = (torch.random.get_rng_state().tolist(), _numpy_state(), random.getstate())
    kit.batch([0, 1], data=data)
    after = (torch.random.get_rng_state().tolist(), _numpy_state(), random.getstate())
    assert before == after, "views draw from a global generator; use the key."


def workers_change_nothing(kit: DataKit) -> None:
    """One worker that augments gives the batches of none."""
    loaders = [kit.data(workers=0, augment_on="worker").train_dataloader(), kit.data(workers=1, augment_on="worker").train_dataloader()]
    for _ in range(2):
        one, two = (next(loader) for loader in loaders)
        assert torch.equal(one["index"], two["index"]), "workers change the order of the samples."
        for a, b in zip(one["views"], two["views"], strict=True):
            torch.testing.assert_close(a.x, b.x, rtol=1e-5, atol=1e-5)


def a_pass_holds_each_sample_once(kit: DataKit) -> None:
    """The first n draws of the endless order are the n samples."""
    data = kit.data()
    train = data.split("train")
    assert train is not None
    loader, count = data.train_dataloader(), min(len(train), 4096)
    index = torch.empty(0, dtype=torch.int64)
    while len(index) < count:
        index = torch.cat((index, next(loader)["index"]))
    index = index[:count]
    assert len(index.unique()) == len(index), "a sample comes twice in one pass."


def refuses_views_it_has_not(kit: DataKit) -> None:
    """Local views are served, smaller than full ones, or refused by a sentence."""

    class AsksLocal:
        views = ViewSpec(full=2, local=2, local_size=8)

    data = kit.data()
    try:
        data.serve(AsksLocal())
    except ValueError as error:
        assert not data.serves_local, f"serves_local is true, yet local views are refused: {error}"
    else:
        full, _, *local = kit.batch([0, 1], data=data)["views"]
        assert len(local) == 2, f"asked for two local views, got {len(local)}."
        assert all(view.x[0].numel() < full.x[0].numel() for view in local), "a local view is as large as a full one."


def default_encoder_fits(kit: DataKit) -> None:
    """There is a default encoder; that of each kind builds, is of this kind, and takes the clean view."""
    names = Names(yaml.safe_load)
    known = kit.cls.default_encoders
    assert known and known.keys() <= KINDS.keys(), f"default_encoders has the keys {sorted(known)}; give Encoder, TokenEncoder or both."
    for kind, short in known.items():
        config = names.expand(short, ("model", "encoder"))
        encoder = rebuild(config, trust=[config["class_path"].partition(".")[0]])
        assert isinstance(encoder, KINDS[kind]), f"the default {kind} is a {type(encoder).__name__}."
        features = encoder.eval()(kit.batch([0, 1])["views"][2])
        assert tuple(features.shape) == (2, encoder.dim), f"the default {kind} gives {tuple(features.shape)}, not (2, {encoder.dim})."


def raw_features_are_numbers(kit: DataKit) -> None:
    """`raw_features` gives one finite vector a sample."""
    data = kit.data()
    train = data.split("train")
    assert train is not None
    raw = data.raw_features(train.fetch(torch.arange(3)))
    assert raw.ndim == 2 and len(raw) == 3 and bool(raw.isfinite().all()), f"raw_features of 3 samples has the shape {tuple(raw.shape)}."


def it_travels_to_workers(kit: DataKit) -> None:
    """Its transforms and config survive pickling, as workers and checkpoints need."""
    data = kit.data()
    pickle.loads(pickle.dumps(data.transforms))
    rebuild(config_of(data), trust=[kit.cls.__module__.partition(".")[0]])


DATAMODULE_CHECKS: tuple[Callable[[DataKit], None], ...] = (
    names_what_it_holds,
    views_are_batches,
    a_sample_is_alone_with_its_key,
    passes_and_views_differ,
    no_global_generator_is_used,
    workers_change_nothing,
    a_pass_holds_each_sample_once,
    refuses_views_it_has_not,
    default_encoder_fits,
    raw_features_are_numbers,
    it_travels_to_workers,
)


def check_datamodule(name_or_class: str | type[SSLDataModule], **init_args: Any) -> None:
    """Runs every check of `DATAMODULE_CHECKS` on a datamodule.

    Args:
        name_or_class: an entry-point name, or the class.
        init_args: arguments of the datamodule, such as where its files are.

    Raises:
        AssertionError: a claim does not hold; the message says which and how.
    """
    _run(DATAMODULE_CHECKS, DataKit(_class("ssl_lightning.datamodules", name_or_class), **init_args))
