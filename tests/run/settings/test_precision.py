"""Each precision of Lightning's works in every part of a run, or is refused in one line before
it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint
from ssl_lightning.methods.moco import MoCo
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn
from torch.testing import assert_close
from vectors_file import load_vectors

from ssl_lightning import Trainer, load_encoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.nn.ema import EMA
from ssl_lightning.nn.masks.words import TokenMasks
from ssl_lightning.nn.queue import FeatureQueue
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.pretrained import load
from ssl_lightning.run.settings import precision as module
from ssl_lightning.run.settings.precision import best_precision
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyText, TinyWaves
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

METHODS = Registry("ssl_lightning.methods")
DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


class Seen(pl.Callback):
    """Keeps the batches that a method trains on, and the losses."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(outputs["loss"].detach())


class SaveAt(Checkpoint):
    """Saves a checkpoint at a step, after its other callbacks."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


def trainer_of(root: Path, precision: Any, *callbacks: pl.Callback, **settings: Any) -> Trainer:
    watching = [
        KNNProbe(every_n_steps=1, bank=32, queries=16),
        OnlineLinearProbe(every_n_steps=1, eval_every_n_steps=2, batch_size=16, queries=16),
        HeldOut(every_n_steps=2, samples=16),
        CollapseMonitor(every_n_steps=1),
    ]
    report = [] if any(isinstance(callback, Report) for callback in callbacks) else [Report(enabled=False)]
    options = {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1, **settings}
    return Trainer(
        precision=precision, default_root_dir=str(root), callbacks=[*watching, *report, *callbacks], **options
    )


def log_mels() -> TinyWaves:
    return TinyWaves(features="log_mel", seconds=0.05, mels=16)


MODALITIES: dict[str, tuple[Any, Any]] = {
    "images": (TinyImages, TinyEncoder),
    "text": (TinyText, lambda: tiny_encoder(METHODS["bert"])),
    "waves": (TinyWaves, lambda: tiny_encoder(METHODS["wav2vec2"])),
    "log-mels": (log_mels, lambda: FrameTransformer(mels=16, dim=8, depth=1, heads=2)),
}


@pytest.mark.by_default(4)
@pytest.mark.parametrize("precision", ["bf16-true", pytest.param("64-true", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_in_it_beside_all_probes(name: str, precision: Any, tmp_path: Path) -> None:
    cls, seen = METHODS[name], Seen()
    torch.manual_seed(0)
    method = cls(tiny_encoder(cls))
    trainer_of(tmp_path, precision, seen).fit(method, datamodule=tiny_data(cls))
    assert len(seen.losses) == (1 if name == "linear_probe" else 2) and torch.stack(seen.losses).isfinite().all()
    kept = [module for module in method.modules() if isinstance(module, (EMA, FeatureQueue))]
    exact = {id(each) for module in kept for each in (*module.parameters(), *module.buffers())}
    for key, value in (*method.named_parameters(), *method.named_buffers()):
        if value.is_floating_point():
            stays = precision == "bf16-true" and id(value) in exact
            assert value.dtype == (torch.float32 if stays else DTYPES[precision]), key
    for view in seen.batches[0]["views"]:
        assert view.x.dtype == (DTYPES[precision] if view.x.is_floating_point() else torch.int64)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("augment_on", ["device", pytest.param("worker", marks=pytest.mark.slow)])
@pytest.mark.parametrize("modality", [each for each in MODALITIES if each != "text"])
def test_views_are_made_in_full_precision_and_then_cast(modality: str, augment_on: Any, tmp_path: Path) -> None:
    """To the bit: a view in half precision is that of float32, rounded once; augmentation does not
    begin with rounded samples."""
    make_data, make_encoder = MODALITIES[modality]
    batches = {}
    for precision, dtype in DTYPES.items():
        if precision == "16-true":
            continue
        data, seen = make_data(), Seen()
        data.augment_on = augment_on
        trainer = trainer_of(tmp_path, precision, seen, max_steps=1)
        trainer.fit(SimCLR(make_encoder()), datamodule=data)
        batches[dtype] = seen.batches[0]
    for dtype, batch in batches.items():
        for view, exact in zip(batch["views"], batches[torch.float32]["views"], strict=True):
            assert torch.equal(view.x, exact.x.to(dtype))
        assert torch.equal(batch["key"], batches[torch.float32]["key"])


DRAWS: dict[str, tuple[str, Any]] = {
    "bert": ("choose", lambda hidden: hidden.positions.where(hidden.chosen, -1)),
    "wav2vec2": ("span_masks", lambda spans: spans.hidden),
    "mae": ("random_masking", lambda visible_and_hidden: visible_and_hidden[1]),
    "infill": ("random_gaps", lambda hidden: hidden),
    "denoise": ("normal", lambda noise: noise),
}
"""For each method that draws in a step: the function that draws, and its result."""


@pytest.mark.parametrize("name", list(DRAWS))
def test_what_is_hidden_does_not_depend_on_the_precision(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are drawn in a step, where Lightning's default dtype is that of the run."""
    cls, (attribute, part) = METHODS[name], DRAWS[name]
    drawn: list[Tensor] = []

    def noted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            drawn.append(part(result))
            return result

        return call

    if name == "bert":
        monkeypatch.setattr(TokenMasks, attribute, noted(getattr(TokenMasks, attribute)))
    else:
        monkeypatch.setitem(cls.step.__globals__, attribute, noted(cls.step.__globals__[attribute]))
    results = []
    for precision in ("32-true", "bf16-true", "64-true"):
        drawn.clear()
        torch.manual_seed(0)
        trainer = pl.Trainer(
            precision=precision, accelerator="cpu", max_steps=1, default_root_dir=tmp_path, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(cls(tiny_encoder(cls)), datamodule=tiny_data(cls))
        results.append(drawn[0])
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("modality", "precision"),
    [
        ("images", "bf16-true"),
        ("waves", "64-true"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("images", "64-true"),
                ("waves", "bf16-true"),
                ("text", "bf16-true"),
                ("text", "64-true"),
                ("log-mels", "bf16-true"),
                ("log-mels", "64-true"),
            )
        ),
    ],
)
@pytest.mark.slow
def test_a_whole_run_with_its_closing_table_and_all_commands(modality: str, precision: Any, tmp_path: Path) -> None:
    make_data, make_encoder = MODALITIES[modality]
    method = SimCLR(make_encoder())
    report = Report(draws=1, labels_per_class=2, labels_only=False)
    trainer = trainer_of(tmp_path, precision, report)
    trainer.fit(method, datamodule=make_data())
    assert trainer.run_folder is not None
    assert (trainer.run_folder / "plots" / "views.png").is_file() or modality != "images"
    for command in (trainer.validate, trainer.test):
        (values,) = command(method, datamodule=make_data(), verbose=False)
        assert all(0 <= value <= 1 for value in values.values()) and values
    trainer.predict(method, datamodule=make_data(), return_predictions=False)
    vectors = load_vectors(next(tmp_path.rglob("vectors-train.parquet")))
    assert vectors["features"].dtype == torch.float32 and vectors["features"].isfinite().all()
    encoder = load_encoder(trainer.run_folder)
    assert {each.dtype for each in encoder.parameters()} == {torch.float32}
    data = make_data()
    data.serve(method)
    view = data.clean_views().batch({"raw": data.training_split.fetch(torch.arange(4)), "index": torch.arange(4),
                                     "pass": torch.zeros(4, dtype=torch.int64)})["views"][0]  # fmt: skip
    features = encoder.eval()(view)
    tolerance = 0.1 if precision == "bf16-true" else 1e-4
    assert_close(features, vectors["features"][:4], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune", "linear_probe"])
def test_supervised_commands(name: str, tmp_path: Path) -> None:
    cls = METHODS[name]
    method, trainer = cls(TinyEncoder()), trainer_of(tmp_path, "bf16-true", Report())
    trainer.fit(method, datamodule=TinyImages())
    (values,) = trainer.test(method, datamodule=TinyImages(), verbose=False)
    assert 0 <= values["test/top1"] <= 1


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_float16_serves_all_commands_but_fit(modality: str, tmp_path: Path) -> None:
    make_data, make_encoder = MODALITIES[modality]
    torch.manual_seed(0)
    method = SimCLR(make_encoder())
    trainer = trainer_of(tmp_path, "16-true")
    with pytest.raises(MisconfigurationException, match=r"16-true trains weights in float16.* Train with 16-mixed"):
        trainer.fit(method, datamodule=make_data())
    assert not list(tmp_path.rglob("config.yaml"))
    trainer_of(tmp_path, "16-true").test(method, datamodule=make_data(), verbose=False)
    trainer_of(tmp_path, "16-true").predict(method, datamodule=make_data(), return_predictions=False)
    features = load_vectors(next(tmp_path.rglob("vectors-train.parquet")))["features"]
    assert features.dtype == torch.float32 and features.isfinite().all()


@pytest.mark.parametrize("fused", [True, False])
def test_why_float16_is_refused(fused: bool) -> None:
    """The steps of Adam that the message speaks of; they should be of 0.001 each."""
    moved = {}
    for dtype in (torch.float32, torch.float16):
        weight = nn.Parameter(torch.zeros(4, dtype=dtype))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.0, fused=fused)
        for _ in range(300):
            weight.grad = torch.full((4,), 1e-3, dtype=dtype)
            optimizer.step()
        moved[dtype] = weight.detach().abs()
    assert_close(moved[torch.float32], torch.full((4,), 0.3), rtol=1e-3, atol=0)
    assert (~(moved[torch.float16] < 5 * 0.3)).all()


@pytest.mark.parametrize("precision", ["transformer-engine", "transformer-engine-float16"])
def test_transformer_engine_is_refused_before_anything_else(precision: Any) -> None:
    with pytest.raises(MisconfigurationException, match=f"precision={precision} replaces layers.* Use bf16-mixed"):
        Trainer(precision=precision)


def test_float64_is_refused_on_apples_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnApple:
        precision = "64-true"

        class strategy:
            root_device = torch.device("mps")

    with pytest.raises(MisconfigurationException, match=r"no float64.* --trainer\.accelerator cpu"):
        module.check_precision(OnApple, "test")


@pytest.mark.by_default(1)
@pytest.mark.parametrize("name", ["moco", "byol", "bert"])
def test_a_resumed_run_in_half_precision_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    cls = METHODS[name]
    path, states = tmp_path / "step-2.ckpt", []
    for checkpoint in (None, path):
        torch.manual_seed(0)
        method = cls(tiny_encoder(cls), lr=0.01, warmup_epochs=0)
        save = SaveAt(2, path)
        trainer = trainer_of(tmp_path / str(len(states)), "bf16-true", save, max_steps=4)
        trainer.fit(method, datamodule=tiny_data(cls), ckpt_path=checkpoint)
        states.append(method.state_dict())
    for key, value in states[0].items():
        assert value.dtype == states[1][key].dtype and torch.equal(value, states[1][key]), key


def test_a_checkpoint_in_half_precision_is_loaded_in_float32(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "bf16-true")
    method = MoCo(TinyEncoder())
    trainer.fit(method, datamodule=TinyImages())
    assert trainer.run_folder is not None
    loaded = load(trainer.run_folder)
    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    assert_close(loaded.encoder.conv.weight, method.encoder.conv.weight.float(), rtol=0, atol=0)


# Which precision `auto` is.


@pytest.mark.parametrize(("generations", "expected"), [([9, 9], "bf16-mixed"), ([8], "bf16-mixed"), ([7], "32-true")])
def test_auto_asks_the_gpus_without_initialising_cuda(
    generations: list[int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `ddp_fork` and `ddp_notebook` refuse to start."""

    def initialise(*args: Any) -> None:
        raise AssertionError("CUDA was initialised.")

    for name in ("_lazy_init", "get_device_capability", "get_device_properties", "current_device"):
        monkeypatch.setattr(torch.cuda, name, initialise)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(generations))
    monkeypatch.setattr(module, "gpu_generations", lambda: generations)
    assert best_precision("auto") == best_precision("gpu") == expected
    trainer = Trainer(accelerator="gpu", devices=1, strategy="ddp_fork")
    assert trainer.precision == expected and not torch.cuda.is_initialized()


def test_gpus_that_differ_are_left_to_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for generations in ([7, 9], []):
        monkeypatch.setattr(module, "gpu_generations", lambda known=generations: known)
        for native in (True, False):
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
            assert best_precision("cuda") == ("bf16-mixed" if native else "32-true")


def test_a_machine_without_gpus_has_no_generations() -> None:
    assert all(generation > 0 for generation in module.gpu_generations())
    if not torch.cuda.is_available():
        assert module.gpu_generations() == []


@pytest.mark.gpu
def test_the_gpus_say_their_generation_themselves() -> None:
    count = torch.cuda.device_count()
    assert torch.cuda.get_device_capability()[0] in module.gpu_generations() and len(module.gpu_generations()) >= count
