"""The run folder: what a run leaves behind, whatever its logger, and what it says is true."""

from __future__ import annotations

import copy
import csv
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor
from torch.utils.data import DataLoader

import ssl_lightning
from ssl_lightning import load_encoder
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.data import figure
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.figure import plot_pictures
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import InMemory, Source, labels_of
from ssl_lightning.evaluation import report, rows
from ssl_lightning.evaluation.files import write_results
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.protocols.classes import KNN, Linear
from ssl_lightning.evaluation.protocols.parts import described, task_of
from ssl_lightning.evaluation.protocols.stamp import Stamp, versions
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View

FILES = {
    "config.yaml", "resolved.yaml", "data.json", "metrics.csv", "speed.csv", "summary.json", "encoder.safetensors",
    "encoder.md",
    "untrained.safetensors",
    "checkpoints/step-00000015.ckpt", "checkpoints/step-00000020.ckpt",
    "plots/loss.png", "plots/probes.png", "plots/collapse.png", "plots/views.png", "plots/embedding.png",
    "plots/embedding.json", "plots/closing.png", "plots/spectrum.png",
}  # fmt: skip
METRICS = {"train/loss", "train/lr", "probe/linear/top1", "probe/knn/top1", "collapse/std", "collapse/rank"}
METRICS |= {"collapse/agreement", "collapse/growth", "train/grad_norm"}
METRICS |= {"spectrum/rankme", "spectrum/lidar"}
SPEED = {"speed/samples_per_s", "speed/data_wait"}


def files(folder: Path) -> set[str]:
    """All but the lock, which says who writes into the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


class Run:
    """20 steps on tiny images with every default but the cadence of the probes, and the encoder as
    it was before."""

    def __init__(self, root: Path, method: SimCLR | None = None, **kwargs: Any) -> None:
        torch.manual_seed(0)
        self.method, self.data = method or SimCLR(TinyEncoder()), TinyImages(samples=80)
        self.untrained = copy.deepcopy(self.method.backbone)
        callbacks = [
            KNNProbe(every_n_steps=5),
            OnlineLinearProbe(every_n_steps=2, eval_every_n_steps=5),
            Spectrum(every_n_steps=10, lidar_samples=10, views=3),
            Report(draws=2),
            *kwargs.pop("callbacks", []),
        ]
        self.trainer = ssl_lightning.Trainer(
            **{"max_epochs": 4, "accelerator": "cpu", "precision": "32-true", "default_root_dir": str(root),
                "enable_progress_bar": False, **kwargs},
            callbacks=callbacks,
        )  # fmt: skip
        started = time.perf_counter()
        self.trainer.fit(self.method, datamodule=self.data)
        self.seconds = time.perf_counter() - started
        assert self.trainer.run_folder is not None
        self.folder = self.trainer.run_folder

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "summary.json").read_text()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("report"))


def test_the_folder_is_where_it_was_asked_for_and_holds_what_was_promised(run: Run) -> None:
    root = Path(run.trainer.default_root_dir)
    assert run.folder.parent.parent == root and run.folder.parent.name.startswith("simclr-")
    time.strptime(run.folder.name, "%Y-%m-%d_%H-%M-%S")
    assert files(run.folder) == FILES
    assert files(root) == {f"{run.folder.parent.name}/{run.folder.name}/{name}" for name in FILES}


@pytest.mark.slow
def test_it_holds_the_same_whatever_the_loggers_are_and_a_logger_gets_every_metric(tmp_path: Path) -> None:
    loggers = [
        CSVLogger(tmp_path / "logs"),
        *([TensorBoardLogger(tmp_path / "events")] if find_spec("tensorboard") else []),
    ]
    assert files(Run(tmp_path / "runs", logger=loggers).folder) == FILES
    logged = {
        name for row in table(next((tmp_path / "logs").rglob("metrics.csv"))) for name, value in row.items() if value
    }
    assert logged >= METRICS | SPEED


@pytest.mark.slow
@pytest.mark.parametrize("logger", [True, False])
def test_it_holds_the_same_with_the_trainers_own_logger_and_with_none(logger: bool, tmp_path: Path) -> None:
    assert files(Run(tmp_path, logger=logger).folder) == FILES


def test_metric_names_are_fixed(run: Run) -> None:
    rows, speed = table(run.folder / "metrics.csv"), table(run.folder / "speed.csv")
    assert set(rows[0]) == {"step", *METRICS} and set(speed[0]) == {"step", *SPEED}
    assert (
        METRICS | SPEED
        == set(run.trainer.callback_metrics)
        == {name for name in run.summary if name.startswith(("train/", "probe/", "spectrum/", "collapse/", "speed/"))}
    )


def test_metrics_are_written_at_the_steps_they_belong_to(run: Run) -> None:
    """Losses and collapse every 10 steps, probes every 5: one row a step, in order."""
    rows = table(run.folder / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [5, 10, 15, 20]
    assert (
        [bool(row["train/loss"]) for row in rows]
        == [bool(row["collapse/std"]) for row in rows]
        == [False, True, False, True]
    )
    assert all(row["probe/knn/top1"] and row["probe/linear/top1"] for row in rows)


def test_the_summary_is_flat_and_says_what_happened(run: Run) -> None:
    summary = run.summary
    plain = (int, float, str)
    nested = ("final/", "protocol")
    assert all(isinstance(value, plain) or name.startswith(nested) for name, value in summary.items())
    cells = {name: value for name, value in summary.items() if name.startswith("final/")}
    assert set(cells) == {
        f"final/{row}/{column}"
        for row in ("majority", "raw", "untrained", "pretrained")
        for column in ("knn", "knn_10", "linear", "linear_10")
    }
    for name, cell in cells.items():
        assert (
            set(cell) >= {"mean", "std", "n", "draws", "labels", "samples", "classes"}
            and 0 < cell["mean"] <= 1
            and cell["n"] == (2 if name.endswith("_10") and "majority" not in name else 1)
        )
    last = table(run.folder / "metrics.csv")[-1]
    assert all(summary[name] == pytest.approx(float(last[name])) for name in METRICS)
    assert summary["steps"] == 20 and summary["precision"] == "32-true" and summary["processes"] == 1
    assert 0 < summary["seconds"] < run.seconds
    assert summary["samples_per_s"] == pytest.approx(20 * 16 / summary["seconds"], rel=0.01)
    assert (
        torch.__version__.startswith(summary["versions/torch"])
        and summary["versions/ssl-lightning"] == ssl_lightning.__version__
    )
    assert summary["hardware/device"] and summary["hardware/threads"] == torch.get_num_threads()


def test_every_result_of_the_run_has_a_stamp_once(run: Run) -> None:
    stamps = run.summary["protocol"]
    assert stamps.keys() == {"final", "probe/knn", "probe/linear", "spectrum"}
    assert stamps["spectrum"]["settings"] == {"views": 3, "strength": "strong", "lidar_samples": 10}
    table, knn, linear = stamps["final"], stamps["probe/knn"], stamps["probe/linear"]
    assert table["settings"]["knn"] == KNN(draws=2).settings and table["settings"]["linear"] == Linear(draws=2).settings
    assert knn["settings"] == {"k": 20, "temperature": 0.07, "metric": "cosine"} and "lr" in linear["settings"]
    train, test = run.data.split("train"), run.data.split("test")
    assert train is not None and test is not None
    assert (table["split"], table["train"], table["judged"]) == ("test", len(train), len(test))
    assert knn["split"] == linear["split"] == "val" and knn["train"] == len(train)
    assert table["transform"] == knn["transform"] == described(run.data.transform("none"))
    task = task_of(run.data, "classes", None, (60_000, 20_000))
    assert table["data"] == task.digest != knn["data"], "the same samples as of `probe`"
    for stamp in stamps.values():
        assert stamp["versions"] == versions()
        assert Stamp(**{name: value for name, value in stamp.items() if name != "digest"}).digest == stamp["digest"]


def test_each_row_of_the_closing_table_is_what_it_is_called(run: Run) -> None:
    """Computed anew from the pixels, from the copy of the encoder that was made before the run, and
    from the trained method."""
    train, test = run.data.split("train"), run.data.split("test")
    assert train is not None and train.labels is not None and test is not None and test.labels is not None
    for row, network in (("raw", None), ("untrained", run.untrained), ("pretrained", run.method)):
        features = [
            (
                run.data.raw_features(source.fetch(torch.arange(len(source))))
                if network is None
                else embed(network, run.data, source)
            )
            for source in (train, test)
        ]
        expected = closing_row(features[0], train.labels, features[1], test.labels, draws=2)
        for column, cell in expected.items():
            stored = run.summary[f"final/{row}/{column}"]
            assert stored["draws"] == pytest.approx(cell["draws"]) and stored["labels"] == cell["labels"], (row, column)


def test_the_encoder_file_holds_the_trained_encoder_and_the_other_the_initial_one(run: Run) -> None:
    view = View(torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    trained, untrained = load_encoder(run.folder), load_encoder(run.folder / "untrained.safetensors")
    run.method.eval()
    with torch.no_grad():
        assert torch.equal(trained(view), run.method(view)) and torch.equal(untrained(view), run.untrained(view))
        assert not torch.equal(trained(view), untrained(view))


def test_the_card_names_the_run_and_its_lines_load_the_encoder(run: Run) -> None:
    card = (run.folder / "encoder.md").read_text()
    assert "SimCLR" in card and "TinyImages" in card and "pretrained encoder" in card and "| steps | 20 |" in card
    scope: dict[str, Any] = {"x": torch.zeros(2, 1, 16, 16)}
    exec(card.partition("```python\n")[2].partition("```")[0], scope)
    assert scope["features"].shape == (2, 8)


def test_the_config_alone_reproduces_the_run(run: Run, tmp_path: Path) -> None:
    """Method, data and trainer rebuilt from `config.yaml`, which holds defaults too: bitwise the
    same weights."""
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert {"encoder", "temperature", "output_dim"} <= set(config["model"]["init_args"])
    assert config["data"]["init_args"] == {"samples": 80, "batch_size": 16}
    torch.manual_seed(0)
    method, data = rebuild(config["model"]), rebuild(config["data"])
    trainer = ssl_lightning.Trainer(
        **{**config["trainer"], "default_root_dir": str(tmp_path)}, callbacks=[Report(enabled=False)]
    )
    trainer.fit(method, datamodule=data)
    assert trainer.global_step == 20
    for name, value in run.method.state_dict().items():
        assert torch.equal(value, method.state_dict()[name]), name
    again = yaml.safe_load((trainer.run_folder / "config.yaml").read_text())  # type: ignore[operator]
    assert {
        **again,
        "trainer": {**again["trainer"], "default_root_dir": config["trainer"]["default_root_dir"]},
    } == config


def test_two_runs_started_in_the_same_second_get_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda *args: "2026-01-01_00-00-00")
    names = []
    for _ in range(2):
        trainer = ssl_lightning.Trainer(
            max_steps=1,
            accelerator="cpu",
            default_root_dir=str(tmp_path),
            enable_progress_bar=False,
            callbacks=[Report(enabled=False)],
        )
        trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
        names.append(trainer.run_folder.name if trainer.run_folder else None)
    assert names == ["2026-01-01_00-00-00", "2026-01-01_00-00-00-2"]


class Diverging(SimCLR):
    """Its loss is no number from step 6 on."""

    def step(self, batch: Any) -> Any:
        out = super().step(batch)
        return {**out, "loss": out["loss"] * (float("nan") if self.trainer.global_step >= 5 else 1.0)}


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    """At that step; what was measured until then is in the file, and there is no report of a broken
    encoder."""
    with pytest.raises(FloatingPointError, match=r"step 6: the loss is nan.*learning rate"):
        Run(tmp_path, Diverging(TinyEncoder()), log_every_n_steps=4)
    (folder,) = (tmp_path / next(tmp_path.iterdir()).name).iterdir()
    assert not {"summary.json", "encoder.safetensors"} & files(folder)
    rows = table(folder / "metrics.csv")
    assert [row["step"] for row in rows] == ["4", "5"]


def batches(number: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "views": [View(torch.randn(12, 1, 16, 16, generator=generator)) for _ in range(2)],
            "index": torch.arange(12),
            "key": torch.arange(12),
        }
        for _ in range(number)
    ]


def test_a_run_on_plain_loaders_writes_what_it_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No labels and no datamodule: no probe, no table, all the rest."""
    trainer = ssl_lightning.Trainer(
        max_epochs=2, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path)
    )
    trainer.fit(SimCLR(TinyEncoder()), DataLoader(batches(10), batch_size=None))  # type: ignore[arg-type]
    folder = trainer.run_folder
    assert folder is not None and folder.parent.name == "simclr-loaders"
    missing = {"data.json", *(f"plots/{name}" for name in ("probes.png", "spectrum.png", "closing.png"))}
    missing |= {"plots/embedding.png", "plots/embedding.json"}
    checkpoints = {name for name in FILES if name.startswith("checkpoints/")}
    assert files(folder) - {f"checkpoints/step-{step:08d}.ckpt" for step in (10, 20)} == FILES - missing - checkpoints
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 20 and summary["samples_per_s"] == pytest.approx(20 * 12 / summary["seconds"], rel=0.01)
    assert "No labelled set" in capsys.readouterr().out
    assert load_encoder(folder)(View(torch.zeros(2, 1, 16, 16))).shape == (2, 8)


def test_switched_off_it_leaves_the_encoder_and_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = ssl_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=160))
    assert trainer.run_folder is not None
    assert files(trainer.run_folder) == {
        "config.yaml", "resolved.yaml", "data.json", "metrics.csv", "speed.csv", "summary.json", "encoder.safetensors",
        "encoder.md",
        "checkpoints/step-00000010.ckpt",
    }  # fmt: skip
    assert capsys.readouterr().out == ""
    assert "not computed (--report.enabled false)" in (trainer.run_folder / "encoder.md").read_text()
    assert load_encoder(trainer.run_folder)(View(torch.zeros(2, 1, 16, 16))).shape == (2, 8)


def test_fast_dev_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = ssl_lightning.Trainer(fast_dev_run=True, accelerator="cpu", precision="32-true")
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert trainer.global_step == 1 and trainer.run_folder is None and list(tmp_path.iterdir()) == []


def test_without_a_root_runs_go_to_a_folder_called_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = ssl_lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        precision="32-true",
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert trainer.run_folder is not None and (tmp_path / trainer.run_folder / "config.yaml").is_file()


def test_the_length_of_a_run_is_the_datas_own_where_none_is_given(tmp_path: Path) -> None:
    trainer = ssl_lightning.Trainer(
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(samples=64))
    assert trainer.global_step == TinyImages.default_epochs * 4


@pytest.mark.slow
def test_data_with_a_second_labelled_set_gets_a_table_for_each(tmp_path: Path) -> None:
    trainer = ssl_lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(draws=1, train_samples=24, test_samples=16)],
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages(probe_sets={"bright": TinyImages(samples=32)}))
    assert trainer.run_folder is not None
    summary = json.loads((trainer.run_folder / "summary.json").read_text())
    assert {"final/pretrained/knn", "final/bright/pretrained/knn", "final/bright/untrained/linear_10"} <= set(summary)


class JudgedOnVal(TinyImages):
    """No test split, and its validation samples are a part of the training samples."""

    def source(self, split: Split) -> Source | None:
        return super().source(split) if split == "train" else None


class MostlyUnlabelled(TinyImages):
    """Pretrains on samples of which most have no label."""

    @property
    def training_split(self) -> Source:
        return InMemory(
            torch.randint(0, 256, (160, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        )


def learned_from(monkeypatch: pytest.MonkeyPatch, data: TinyImages, root: Path) -> list[Tensor]:
    """The raw features in the closing table: those learned from, their labels, those judged,
    theirs."""
    seen: list[list[Tensor]] = []

    def spy(*parts: Any, **kwargs: Any) -> Any:
        seen.append(list(parts))
        return closing_row(*parts, **kwargs)

    monkeypatch.setattr(rows, "closing_row", spy)
    trainer = ssl_lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        default_root_dir=str(root),
        enable_progress_bar=False,
        callbacks=[Report(draws=1, labels_per_class=2)],
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=data)
    return seen[2]  # after those of the encoder


@pytest.mark.slow
def test_without_a_test_split_the_table_is_judged_on_samples_that_it_did_not_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learned, _, judged, _ = learned_from(monkeypatch, JudgedOnVal(samples=84), tmp_path)
    assert len(learned) == 72 and len(judged) == 12
    assert torch.cdist(learned, judged).min() > 0
    (card,) = tmp_path.glob("*/*/encoder.md")
    for text in (capsys.readouterr().out, card.read_text()):
        assert "on 12 val samples that the pretraining has seen" in " ".join(text.split())


def test_the_table_learns_from_the_labelled_samples_whatever_is_pretrained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = MostlyUnlabelled(samples=32)
    learned, labels, *_ = learned_from(monkeypatch, data, tmp_path)
    train = data.split("train")
    assert (
        train is not None
        and torch.equal(learned, data.raw_features(train.fetch(torch.arange(32))))
        and torch.equal(labels, labels_of(train))
    )
    assert "on 32 test samples," in " ".join(capsys.readouterr().out.split())


class Bright(TinyImages):
    """Its views are shown at half their values."""

    def as_pictures(self, x: Tensor) -> Tensor:
        return x / 2


class Masking(SimCLR):
    """Shows what it is given and what a mask leaves of it; draws from the default generator, and
    looks at its own mode."""

    def corrupted(self, batch: Any) -> dict[str, Tensor]:
        torch.rand(1)
        x = batch["views"][0].x
        assert len(x) == len(batch["key"]) == 8 and not self.training and not torch.is_grad_enabled()
        return {"left": x.masked_fill(torch.arange(16) < 8, torch.nan)}

    def pictures(self, batch: Any) -> dict[str, Tensor]:
        self.shown, self.mode = batch, self.training
        x = batch["views"][0].x
        mask = (torch.rand_like(x[:, :, ::4, ::4]) < 0.5).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return {"original": x, "masked": x * mask, "not an image": torch.zeros(8, 3)}


@pytest.mark.slow
def test_what_a_method_has_to_show_is_drawn_of_held_out_samples_as_one_would_look_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Tensor]] = []

    def draw(pictures: dict[str, Tensor], path: Path) -> None:
        drawn.append(pictures)
        plot_pictures(pictures, path)

    monkeypatch.setattr(figure, "plot_pictures", draw)
    data, method = Bright(samples=20), Masking(TinyEncoder())
    trainer = ssl_lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(draws=1, labels_per_class=2)],
    )
    trainer.fit(method, datamodule=data)
    assert trainer.run_folder is not None and (trainer.run_folder / "plots" / "pictures.png").is_file()
    views, shown = drawn  # the first batch's views, and what the method has to show
    assert list(views) == ["original", "view 1", "view 2", "left"]
    assert torch.equal(views["left"][..., 8:], views["view 1"][:8, ..., 8:]) and views["left"][..., :8].isnan().all()
    original, masked = shown.values()
    test = data.split("test")
    assert test is not None and list(shown) == ["original", "masked"]
    expected = data.transform("none")(test.fetch(method.shown["index"]), torch.zeros(8, dtype=torch.int64)) / 2
    assert torch.equal(original, expected) and len(set(method.shown["index"].tolist())) == 8
    assert torch.equal(masked[masked != 0], original[masked != 0]) and 0 < (masked == 0).float().mean() < 1
    assert (
        torch.equal(method.shown["key"], sample_keys(data.seed, 0, method.shown["index"]))
        and len(method.shown["views"]) == 2
    )
    assert "label" not in method.shown and not method.mode
    state, modes = torch.get_rng_state(), [module.training for module in method.modules()]
    again = report.pictures_of(method, trainer)
    assert torch.equal(torch.get_rng_state(), state) and [module.training for module in method.modules()] == modes
    assert torch.equal(again["original"].x / 2, original)


class Pooled(TinyEncoder):
    """Says how it pools."""

    pooling = "mean"


def test_the_card_says_how_the_encoder_pools_where_it_says_so(run: Run, tmp_path: Path) -> None:
    assert "pooling" not in (run.folder / "encoder.md").read_text()
    pooled = SimCLR(Pooled())
    write_results(run.trainer, pooled, tmp_path, {}, "")
    assert "| pooling | mean |" in (tmp_path / "encoder.md").read_text()


@pytest.mark.parametrize("argument", ["train_samples", "test_samples", "labels_per_class", "draws"])
def test_a_value_that_makes_no_sense_is_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        Report(**{argument: 0})  # type: ignore[arg-type]
