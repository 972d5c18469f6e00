"""The second step: what fine-tuning and the linear probe learn from, what they leave alone, and
what they end with."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import timm
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.linear_probe import LinearProbe
from ssl_lightning.methods.simclr import SimCLR
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

import ssl_lightning
from ssl_lightning import ConvEncoder, TextTransformer, TimmEncoder, View, WaveTransformer, load, load_encoder
from ssl_lightning.cli.command import run as command
from ssl_lightning.cli.names import UsageError
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import InMemory, Source, labels_of
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.evaluation.protocol import linear_accuracy
from ssl_lightning.evaluation.supervised import Score
from ssl_lightning.evaluation.validation import Validation
from ssl_lightning.method import SSLMethod
from ssl_lightning.nn.batch_norm import unsettled
from ssl_lightning.optim.recipes import OptimizerSpec
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.lightning import updated
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.tiny import WAVE_STEM


class Watched(TinyImages):
    """Notes which labelled samples were fetched. Training images without a val split."""

    def __init__(self, *, own_val: bool = False, labelled: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.own_val, self.labelled = own_val, labelled

    def source(self, split: Split) -> Source | None:
        found = super().source(split)
        if found is None or (split == "val" and not self.own_val):
            return None
        return Noting(found if self.labelled else InMemory(found.fetch(torch.arange(len(found)))))


class Noting(Source):
    in_memory = True

    def __init__(self, source: Source) -> None:
        self.source, self.labels, self.seen = source, source.labels, set[int]()

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: Tensor) -> Any:
        self.seen.update(index.tolist())
        return self.source.fetch(index)


def fit(
    method: SSLMethod, data: SSLDataModule, *callbacks: pl.Callback, ckpt_path: Any = None, **kwargs: Any
) -> pl.Trainer:
    """A run by Lightning's bare Trainer."""
    trainer = pl.Trainer(
        **{"max_epochs": 3, "precision": "32-true", **kwargs}, accelerator="cpu", logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.strategy.checkpoint_io = AtomicIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def validation(trainer: pl.Trainer) -> Validation:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Validation))  # type: ignore[attr-defined]


# What is learned from.


@pytest.mark.slow
def test_the_budget_of_labels_holds_the_validation_part_and_nothing_else_is_seen(tmp_path: Path) -> None:
    data = Watched(samples=64, batch_size=128, labels_per_class=5, own_val=True)
    trainer = ssl_lightning.Trainer(
        max_epochs=2, default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(Finetune(TinyEncoder()), datamodule=data)
    train, splits = data.split("train"), data.probe_splits()
    assert isinstance(train, Noting) and splits is not None
    assert [len(part) for part in splits] == [16, 4], "4 classes of 5: one of each is withheld"
    assert [labels_of(part).bincount().tolist() for part in splits] == [[4] * 4, [1] * 4]
    assert len(train.seen) == 20, "16 to learn from, 4 to be judged by, and no other sample"
    assert data.batch_size == 16 and trainer.global_step == 2, "a pass over all labels in one batch"
    own = data.held_out
    assert isinstance(own, Noting) and not own.seen, "the data's own validation labels are not in the budget"
    summary = json.loads((trainer.run_folder / "summary.json").read_text())  # type: ignore[operator]
    assert summary["protocol"]["final"]["protocol"] == "trained head"
    assert summary["final/test/top1"]["labels"] == 20 and summary["final/test/top1"]["n"] == 1
    assert (
        not [name for name in summary if "probe/" in name or "untrained" in name]
        and {"val/loss", "val/top1"} <= summary.keys()
    )
    assert not (trainer.run_folder / "untrained.safetensors").exists()  # type: ignore[operator]


def test_the_validation_part_is_the_datas_own_where_there_is_one() -> None:
    for own, sizes in ((True, [64, 64]), (False, [55, 9])):
        data = Watched(own_val=own)
        data.serve(Finetune(TinyEncoder()))
        assert [len(part) for part in data.probe_splits() or ()] == sizes


def test_pretraining_sees_all_samples_and_its_probes_the_budget() -> None:
    data = Watched(labels_per_class=4)
    data.serve(SimCLR(TinyEncoder()))
    assert len(data.training_split) == 64 and data.batch_size == 16
    assert [len(part) for part in data.probe_splits() or ()] == [12, 4]
    data.serve(Finetune(TinyEncoder()))
    assert len(data.training_split) == data.batch_size == 12
    data.serve(SimCLR(TinyEncoder()))
    assert data.batch_size == 16, "the batch that was asked for comes back"


# What moves, and how fast.


def timm_scales(model: nn.Module) -> dict[str, tuple[float, float]]:
    """By timm: (factor on the learning rate, weight decay) of each parameter."""
    skip = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    groups = param_groups_layer_decay(model, 0.1, no_weight_decay_list=list(skip), layer_decay=0.6)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        name_of[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [("vit_tiny_patch16_224", {"image_size": 32, "patch_size": 8}), ("resnet18", {}), ("convnext_atto", {})],
)
def test_layer_decay_is_timms(name: str, options: dict[str, Any]) -> None:
    method = Finetune(TimmEncoder(name, **options), num_classes=7, layer_decay=0.6)
    spec = method.optimizer_spec.with_changes(lr=1.0, weight_decay=0.1)
    groups = spec.build(method, 256, 10, 10)[0].param_groups
    name_of = {id(parameter): name for name, parameter in method.named_parameters()}
    ours = {
        name_of[id(p)].removeprefix("encoder.model."): (group["initial_lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    sizes: dict[str, Any] = {} if not options else {"img_size": 32, "patch_size": 8}
    theirs = timm_scales(timm.create_model(name, num_classes=7, **sizes))
    assert ours.pop("head.weight") == (1.0, 0.1) and ours.pop("head.bias") == (1.0, 0.0)
    theirs = {
        name: each
        for name, each in theirs.items()
        if name in ours or not name.startswith(("head.weight", "head.bias", "head.fc", "fc."))
    }
    assert theirs.keys() == ours.keys()
    for parameter, scale in theirs.items():
        assert ours[parameter] == pytest.approx(scale), parameter
    assert groups[0]["initial_lr"] == 1.0, "what is logged is the head's rate"


def test_an_encoders_children_are_its_layers() -> None:
    encoder = ConvEncoder(depth=3)
    assert [[id(p) for p in layer] for layer in encoder.layer_groups()] == [
        [id(p) for p in stage.parameters()] for stage in encoder.stages
    ]
    groups = (
        OptimizerSpec("sgd", lr=1.0, reference_batch=None, layer_decay=0.5)
        .build(Finetune(encoder, num_classes=2), 8, 10, 10)[0]
        .param_groups
    )
    assert [group["initial_lr"] for group in groups] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("kind", ["text", "frames", "wave"])
def test_the_last_norm_is_no_layer(kind: str) -> None:
    """It learns at the rate of the last block, as in an image's transformer of timm, so that the
    blocks of all encoders learn at the same rates."""
    encoder = {
        "text": lambda: TextTransformer(vocab_size=40, dim=8, depth=2, heads=2, max_length=16, norm="pre"),
        "frames": lambda: FrameTransformer(mels=16, dim=8, depth=2, heads=2),
        "wave": lambda: WaveTransformer(maps=8, dim=16, depth=2, heads=2, norm="pre", **WAVE_STEM),
    }[kind]()
    spec = OptimizerSpec("sgd", lr=1.0, reference_batch=None, layer_decay=0.5)
    groups = spec.build(Finetune(encoder, num_classes=2), 8, 10, 10)[0].param_groups
    rates = {parameter: group["initial_lr"] for group in groups for parameter in group["params"]}
    layers = [{rates[parameter] for parameter in layer} for layer in encoder.layer_groups()]
    assert len(encoder.trunk.norm.state_dict()) == 2, "there is a last norm"
    assert layers[-3:] == [{0.25}, {0.5}, {0.5}]
    assert all(before == {0.5 * rate for rate in after} for before, after in pairwise(layers[:-1]))


class Later(Finetune):
    """Its validation accuracy rises with every pass."""

    def judge(self, *args: Any) -> Score:
        return super().judge(*args)._replace(balanced=float(self.trainer.global_step))


def test_finetuning_moves_all_and_the_probe_nothing_of_the_encoder() -> None:
    """In its own BatchNorm too: `load_encoder` gives an encoder in eval mode."""
    for cls in (Later, LinearProbe):
        encoder = ConvEncoder(channels=1, width=4, depth=2).eval()
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        method = cls(encoder)
        fit(method, TinyImages(), max_epochs=2)
        same = [name for name, value in encoder.state_dict().items() if torch.equal(value, before[name])]
        assert same == (list(before) if cls is LinearProbe else []), cls
        assert encoder.training is (cls is Later) and method.head is not None and bool(method.head.weight.any())


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def test_a_new_encoder_has_the_scale_in_training_that_its_head_begins_with(tmp_path: Path) -> None:
    """A new BatchNorm normalises nothing in eval mode: its running statistics are of no batch."""
    seen, encoder = Losses(), ConvEncoder(channels=1, width=16, depth=4)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    fit(Finetune(encoder, strength="none"), Digits(), seen, max_steps=1, default_root_dir=tmp_path)
    assert seen.losses[0] < 0.5, "of the regression on its features; log(10) is 2.3"
    assert all(norm.momentum == 0.1 for norm in norms)
    assert not unsettled(encoder), "those of a trained encoder stay"
    frozen = ConvEncoder(channels=1, width=4, depth=2)
    fit(LinearProbe(frozen), Digits(), max_steps=1)
    assert not any(bool(module.running_mean.any()) for module in frozen.modules() if isinstance(module, nn.BatchNorm2d))


def test_a_frozen_encoder_can_be_finetuned() -> None:
    encoder = LinearProbe(TinyEncoder()).encoder
    assert all(parameter.requires_grad for parameter in Finetune(encoder).encoder.parameters())


# Which weights it ends with.


class Worsening(Finetune):
    """Its validation accuracy is highest after the second pass."""

    accuracies = (0.1, 0.2, 0.7, 0.5, 0.6, 0.3, 0.4)
    """Before the first pass, and after each."""

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.looks: list[dict[str, Tensor]] = []

    def judge(self, *args: Any) -> Score:
        if self.trainer.global_step:
            self.looks.append({name: value.clone() for name, value in self.state_dict().items()})
        number = (self.trainer.current_epoch + 1) if self.trainer.global_step else 0
        return super().judge(*args)._replace(balanced=self.accuracies[number])


def test_it_stops_after_the_patience_and_ends_with_the_best_weights() -> None:
    for patience, looks in ((2, 4), (0, 6)):
        method = Worsening(TinyEncoder(), patience=patience, lr=0.01)
        trainer = fit(method, TinyImages(), max_epochs=6)
        seen = method.looks
        assert len(seen) == looks and trainer.global_step == 4 * looks, "4 steps are a pass"
        assert validation(trainer).step == 8
        assert all(torch.equal(value, seen[1][name]) for name, value in method.state_dict().items())
        assert not all(torch.equal(value, seen[-1][name]) for name, value in method.state_dict().items())


class SaveAt(Checkpoint):
    def __init__(self, path: Path, *steps: int) -> None:
        self.path, self.steps = path, steps

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step in self.steps and updated(trainer):
            trainer.save_checkpoint(self.path / f"step-{trainer.global_step:08d}.ckpt", weights_only=False)


def test_a_resumed_run_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    """With the best weights from before the checkpoint, in bf16, and with accumulated batches."""

    def method() -> Worsening:
        torch.manual_seed(0)
        return Worsening(ConvEncoder(channels=1, width=4, depth=2), patience=3)

    for options, best, step in (({"precision": "bf16-mixed"}, 16, 20), ({"accumulate_grad_batches": 3}, 6, 8)):
        straight, resumed = method(), method()
        first = fit(straight, TinyImages(batch_size=8), SaveAt(tmp_path, step), max_epochs=6, **options)
        second = fit(
            resumed, TinyImages(batch_size=8), max_epochs=6, ckpt_path=tmp_path / f"step-{step:08d}.ckpt", **options
        )
        assert first.global_step == second.global_step == 5 * best // 2 and len(resumed.looks) == 3
        assert validation(second).step == best
        for name, value in straight.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name
        for name, value in straight.looks[-1].items():
            assert torch.equal(value, resumed.looks[-1][name]), name


def test_a_run_that_had_stopped_stays_stopped(tmp_path: Path) -> None:
    fit(Worsening(TinyEncoder(), patience=2), TinyImages(), SaveAt(tmp_path, 16), max_epochs=6)
    again = Worsening(TinyEncoder(), patience=2)
    assert fit(again, TinyImages(), max_epochs=6, ckpt_path=tmp_path / "step-00000016.ckpt").global_step == 16


# Where it starts, and what it leaves behind.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretraining run, by the command line."""
    root = tmp_path_factory.mktemp("run")
    command(
        [
            *[
                "fit",
                "--model",
                "simclr",
                "--data",
                "digits",
                "--trainer.max_steps",
                "4",
                "--model.encoder.width",
                "4",
                "--report.enabled",
                "false",
            ],
            "--trainer.default_root_dir",
            str(root),
        ]
    )
    (folder,) = root.glob("simclr-digits/*")
    save_encoder(load(folder).backbone, folder / "encoder.safetensors")
    return folder


@pytest.mark.slow
def test_a_checkpoint_is_a_run_a_file_or_an_encoder(run: Path) -> None:
    weights = load_encoder(run).state_dict()
    for path in (run, next(run.glob("checkpoints/*.ckpt")), run / "encoder.safetensors", run / "checkpoints"):
        encoder = ConvEncoder(channels=1, width=4)
        for one in (load_encoder(path), Finetune(encoder, checkpoint=str(path)).encoder):
            assert all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


@pytest.mark.slow
def test_the_command_line_takes_the_encoder_from_the_checkpoint_and_test_says_the_accuracy(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_ = [
        "fit",
        "--model",
        "finetune",
        "--data",
        "digits",
        "--data.labels_per_class",
        "10",
        "--trainer.max_epochs",
        "3",
        "--model.lr",
        "0.01",
    ]
    command([*fit_, "--model.checkpoint", str(run), "--trainer.default_root_dir", str(tmp_path)])
    (folder,) = tmp_path.glob("finetune-digits/*")
    config = (folder / "config.yaml").read_text()
    assert "width: 4" in config and "labels_per_class: 10" in config
    top1 = json.loads((folder / "summary.json").read_text())["final/test/top1"]["mean"]
    line = f"{100 * top1:.1f} % of 397 samples"
    assert f"Accuracy on the test split: {line}" in capsys.readouterr().out
    hidden = run.rename(run.with_name("hidden"))  # a fine-tuned checkpoint holds its weights
    try:
        command(["test", "--ckpt_path", str(folder)])
        assert f"Top-1 accuracy: {line}" in capsys.readouterr().out
        command(["predict", "--ckpt_path", str(folder), "--data.predict_split", "test"])
        method = load(folder)
    finally:
        hidden.rename(run)
    assert "397 vectors of 32 values" in capsys.readouterr().out
    assert isinstance(method, Finetune) and method.classify(View(torch.zeros(2, 1, 16, 16))).shape == (2, 10)
    data = Digits()
    assert method.judge(data, data.split("test"))[1] == pytest.approx(top1, abs=0.006)  # type: ignore[arg-type]  # bf16 or not


MISTAKES: dict[str, tuple[Any, str]] = {
    "no run": (lambda run: command(["fit", "--model", "finetune", "--data", "digits", "--model.checkpoint", "nosuch"]),
        "no run, checkpoint or encoder 'nosuch'"),
    "nothing in it": (lambda run: load_encoder(run.parent), "no whole checkpoint"),
    "another encoder": (lambda run: Finetune(ConvEncoder(channels=1, width=8), checkpoint=str(run)),
        r"width=4.* do not fit ConvEncoder\(channels=1, width=8"),
    "channels": (lambda run: fit(Finetune(load_encoder(run)), Coloured()), "takes 1 channels, got images with 3"),
    "no labels": (lambda run: fit(Finetune(TinyEncoder()), Watched(labelled=False)), "Watched has no labels"),
    "one label": (lambda run: TinyImages(labels_per_class=1), r"labels_per_class=1\) must be at least 2"),
    "classes": (lambda run: fit(Finetune(TinyEncoder(), num_classes=7), TinyImages()),
        "num_classes=7, but TinyImages has 4 classes"),
    "one class": (lambda run: Finetune(TinyEncoder(), num_classes=1), "num_classes=1"),
    "classes unknown": (lambda run: Finetune(TinyEncoder()).classify(View(torch.zeros(2, 1, 16, 16))),
        "give num_classes"),
    "optimizer": (lambda run: LinearProbe(TinyEncoder(), optimizer="adamw"), "'adamw'; choose from sgd, lars"),
    "smoothing": (lambda run: Finetune(TinyEncoder(), label_smoothing=1.0), "label_smoothing=1.0"),
    "patience": (lambda run: Finetune(TinyEncoder(), patience=-1), "patience=-1"),
    "layer decay": (lambda run: Finetune(TinyEncoder(), layer_decay=0.0), "layer_decay=0.0"),
}  # fmt: skip


class Coloured(TinyImages):
    def source(self, split: Split) -> Source | None:
        found = super().source(split)
        assert found is not None
        return InMemory(found.fetch(torch.arange(len(found))).expand(-1, 3, -1, -1), found.labels)


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(run: Path, make: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError, UsageError, MisconfigurationException), match=message):
        make(run)


# How good it is.


def features_of(encoder: Encoder, data: SSLDataModule, split: Split) -> tuple[Any, Any]:
    source = data.split(split)
    assert source is not None
    return embed(encoder, data, source).numpy(), labels_of(source).numpy()


@pytest.mark.slow
def test_the_probe_is_as_good_as_logistic_regression() -> None:
    torch.manual_seed(0)
    encoder, data = ConvEncoder(channels=1), Digits()
    probe = LinearProbe(encoder, strength="none")
    fit(probe, data, max_epochs=15)
    (x, y), (test, answers) = features_of(encoder, data, "train"), features_of(encoder, data, "test")
    deviation = x.std(0).clip(1e-3)  # a dead feature stays 0
    scaled = (x - x.mean(0)) / deviation, (test - x.mean(0)) / deviation
    source = data.split("test")
    assert source is not None
    assert probe.judge(data, source)[1] == pytest.approx(linear_accuracy(scaled[0], y, scaled[1], answers), abs=0.02)


@pytest.mark.slow
def test_a_pretrained_encoder_learns_more_from_few_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretraining = SimCLR(ConvEncoder(channels=1))
    fit(pretraining, Digits(), max_epochs=30)
    save_encoder(pretraining.backbone, tmp_path / "encoder.safetensors")

    def accuracy(encoder: Encoder, seed: int, **kwargs: Any) -> float:
        method, data = Finetune(encoder, **kwargs), Digits(labels_per_class=10, seed=seed)
        fit(method, data, max_epochs=60)
        return method.judge(data, data.split("test"))[1]  # type: ignore[arg-type]

    gains = []
    for seed in range(3):
        torch.manual_seed(seed)
        gains.append(accuracy(load_encoder(tmp_path), seed) - accuracy(ConvEncoder(channels=1), seed, layer_decay=1.0))
    assert sum(gains) / 3 > 0.01, gains
