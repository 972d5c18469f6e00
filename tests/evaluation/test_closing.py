"""The closing table: what tells most comes first, what fails ends alone, and it keeps to its time
without a number that depends on it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

import ssl_lightning
from ssl_lightning import load_encoder
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import InMemory, Source
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.evaluation import budget, drawing, report, rows
from ssl_lightning.evaluation.budget import Budget, affordable, seconds_a_sample, seconds_of
from ssl_lightning.evaluation.closing import compare
from ssl_lightning.evaluation.features import WithLayers, features_of, in_float32
from ssl_lightning.evaluation.layers import has_layers
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.regression import OutOfTime
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.tiny import WAVE_STEM
from ssl_lightning.types import View

ALWAYS = {"config.yaml", "resolved.yaml", "metrics.csv", "summary.json", "encoder.safetensors", "encoder.md"}


@pytest.fixture(autouse=True)
def few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of features takes longer than such a run: only the tests of pictures draw them."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(report, "draw_plots", lambda *args: {})


OFF = (KNNProbe, OnlineLinearProbe, HeldOut, CollapseMonitor)


def trained(
    root: Path,
    data: TinyImages | None = None,
    method: SimCLR | None = None,
    probes: bool = False,
    logger: Any = False,
    **report: Any,
) -> ssl_lightning.Trainer:
    """A run of two steps with its report."""
    torch.manual_seed(0)
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", precision="32-true", default_root_dir=str(root), enable_progress_bar=False,
        logger=logger, callbacks=[
            Report(**{"draws": 1, "labels_per_class": 2, "labels_only": False, **report}),
            *(probe(enabled=probes) for probe in OFF),
        ],
    )  # fmt: skip
    trainer.fit(method or SimCLR(TinyEncoder()), datamodule=data or TinyImages())
    return trainer


def folder_of(trainer: ssl_lightning.Trainer) -> Path:
    assert trainer.run_folder is not None
    return trainer.run_folder


def summary_of(trainer: ssl_lightning.Trainer) -> dict[str, Any]:
    return dict(json.loads((folder_of(trainer) / "summary.json").read_text()))


def rows_in(trainer: ssl_lightning.Trainer) -> set[str]:
    return {name.split("/")[1] for name in summary_of(trainer) if name.startswith("final/")} - {"majority"}


def test_encoder_summary_and_card_are_written_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[set[str]] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        (folder,) = tmp_path.glob("*/*")
        there.append({path.name for path in folder.iterdir()})
        return closing_row(*args, **kwargs)

    monkeypatch.setattr(rows, "closing_row", spy)
    trained(tmp_path)
    assert len(there) == 3 and there[0] >= ALWAYS


class Broken(InMemory):
    """A file that cannot be read."""

    def fetch(self, index: Tensor) -> Tensor:
        raise OSError("test-7.png is broken")


class BrokenTest(TinyImages):
    """The test split cannot be read."""

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        assert isinstance(source, InMemory)
        return Broken(source.samples, source.labels) if split == "test" else source


class BrokenEval(TinyEncoder):
    """Fails in eval mode, once the run has begun."""

    ended = False

    def forward(self, view: View) -> Tensor:
        if not self.training and len(view.x) > 2:
            raise RuntimeError("not in eval mode")
        return super().forward(view)


FAILURES: dict[str, tuple[type[TinyImages], type[TinyEncoder], str, str, set[str]]] = {
    "a test split that cannot be read": (BrokenTest, TinyEncoder, "raw features, features", "test-7.png", set()),
    "an encoder that fails in eval mode": (TinyImages, BrokenEval, "pretrained encoder", "eval mode", {"raw"}),
}


@pytest.mark.by_default(1)
@pytest.mark.parametrize("name", FAILURES)
def test_a_table_that_fails_is_a_line_and_takes_nothing_with_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, encoder, where, why, computed = FAILURES[name]
    trainer = trained(tmp_path, data(), SimCLR(encoder()), probes=False)
    folder, printed = folder_of(trainer), capsys.readouterr()
    assert {path.name for path in folder.iterdir()} >= ALWAYS
    line = next(line for line in printed.out.splitlines() if " failed: " in line)
    assert where in line and why in line and "Traceback" not in printed.out + printed.err
    assert sum(why in each for each in printed.out.splitlines()) == 1
    assert line in summary_of(trainer)["report/failed"] and line in (folder / "encoder.md").read_text()
    assert rows_in(trainer) == computed
    load_encoder(folder)


def test_a_picture_that_fails_is_missing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(drawing, "plot_curves", fail)
    monkeypatch.setattr(drawing, "plot_embedding", fail)
    trainer = trained(tmp_path)
    assert rows_in(trainer) == {"raw", "untrained", "pretrained"}
    assert {path.name for path in (folder_of(trainer) / "plots").iterdir()} == {"views.png", "closing.png"}
    assert "map of the features failed: MemoryError: no memory" in capsys.readouterr().out


def test_a_traceback_is_shown_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_TRACEBACK", "1")
    trained(tmp_path, BrokenTest())
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_what_tells_most_is_computed_first_for_every_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(report.Stages, "show", lambda self, detail="": shown.append(f"{self.title}, {detail}"))
    trained(tmp_path, TinyImages(probe_sets={"bright": TinyImages()}))
    order = list(dict.fromkeys(stage.partition(",")[0] for stage in shown if "encoder" in stage or "raw" in stage))
    assert order == [
        "pretrained encoder", "bright/pretrained encoder", "untrained encoder", "bright/untrained encoder",
        "raw features", "bright/raw features",
    ]  # fmt: skip
    cells = [stage for stage in shown if stage.startswith("pretrained encoder, ")]
    assert [stage.partition(", ")[2] for stage in cells] == [
        "", "features", "kNN all", "kNN 2/class", "linear 2/class", "linear all"
    ]  # fmt: skip


@pytest.mark.slow
def test_time_changes_the_number_of_samples_and_never_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose features are said to take a second a sample has the table of a run that was told
    to use as few samples."""
    monkeypatch.setattr(budget, "FEWEST", 20)
    monkeypatch.setattr(rows, "seconds_of_features", lambda *args: 1.0)
    slow = trained(tmp_path / "slow", TinyImages(samples=80), minutes=2 * (3 * 80 + 9) / 60)
    note = "Because of the time, 40 of 80 training samples and 40 of 80 test samples were used"
    assert note in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(rows, "seconds_of_features", lambda *args: 0.0)
    few = trained(tmp_path / "few", TinyImages(samples=80), train_samples=40, test_samples=40)
    assert "Because of the time" not in capsys.readouterr().out
    tables = [
        {key: value for key, value in summary_of(each).items() if key.startswith("final/")} for each in (slow, few)
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 16


def test_a_row_for_which_there_is_no_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But the first, without which there is no table."""
    monkeypatch.setattr(rows, "seconds_of_features", lambda *args: 10.0)
    trainer = trained(tmp_path)
    assert rows_in(trainer) == {"pretrained"}
    card = " ".join((folder_of(trainer) / "encoder.md").read_text().split())
    assert "may take 45 s on this machine: untrained encoder: kNN all, kNN 2/class" in card


def test_a_fit_on_labels_that_would_take_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(encoder: Any, data: Any, source: Source, *args: Any) -> Any:
        raise OutOfTime

    monkeypatch.setattr("ssl_lightning.evaluation.labels_only.fitted", slow)
    monkeypatch.setattr("ssl_lightning.evaluation.labels_only.SHARE", math.inf)
    trainer = trained(tmp_path, labels_only="auto")
    assert rows_in(trainer) == {"raw", "untrained", "pretrained"}
    card = " ".join((folder_of(trainer) / "encoder.md").read_text().split())
    assert "on this machine: labels only: linear all, linear 2/class." in card


@pytest.mark.parametrize(
    ("minutes", "training", "seconds"),
    [("auto", 1.0, 45.0), ("auto", 500.0, 250.0), (3.0, 500.0, 180.0), (0, 500.0, math.inf)],
)
def test_the_table_may_take_half_as_long_as_the_training_and_at_least_45_seconds(
    minutes: Any, training: float, seconds: float
) -> None:
    assert seconds_of(minutes, training) == seconds


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [(1e9, (60_000, 10_000)), (70, (60_000, 10_000)), (69, (30_000, 5_000)), (4, (1_875, 312)), (0, (250, 250))],
)
def test_both_splits_are_halved_until_they_fit(seconds: float, sizes: tuple[int, int]) -> None:
    assert affordable(60_000, 10_000, 1e-3, seconds) == sizes
    assert affordable(40, 30, 1.0, 1.0) == (40, 30)


def test_what_one_row_leaves_the_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock[0])
    time = Budget(100.0)
    time.rows = 4
    assert time.deadline() == 1000 + 100 / 2
    clock[0], time.rows = 1005.0, 1
    assert time.left == 95 and time.deadline() == 1005 + 95


def test_speed_is_measured_once_work_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 ms a sample, and 3 s once."""
    clock, sizes = [0.0], []
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock[0])

    def work(part: Tensor) -> None:
        clock[0] += 0.01 * len(part) + (1.0 if not sizes else 0.0)
        sizes.append(len(part))

    assert seconds_a_sample(work, torch.arange(5000)) == pytest.approx(0.01) and sizes == [8, 16, 32, 64]
    sizes.clear()
    assert seconds_a_sample(work, torch.arange(5)) == pytest.approx(0.01) and sizes == [5, 5]


@pytest.mark.parametrize("kind", ["frames", "wave", "other"])
def test_one_pass_gives_the_features_and_those_of_the_layers(kind: str) -> None:
    """Bit for bit what two passes give; an encoder whose last layer is not its output is asked
    twice."""

    class Other(TinyEncoder):
        def layer_features(self, view: View) -> Tensor:
            return torch.stack([self(view), 2 * self(view)], 1)

    torch.manual_seed(0)
    encoder: Any = {
        "frames": lambda: FrameTransformer(mels=8, dim=16, depth=2, heads=2),
        "wave": lambda: WaveTransformer(**WAVE_STEM, maps=8, dim=16, depth=2, heads=2),
        "other": Other,
    }[kind]().eval()
    shape = {"frames": (5, 1, 8, 20), "wave": (5, 900), "other": (5, 1, 16, 16)}[kind]
    method, passes = SimCLR(encoder).eval(), []
    network, handle = WithLayers(method, encoder), method.register_forward_hook(lambda *args: passes.append(1))
    assert has_layers(encoder)
    with torch.no_grad():
        for number in range(3):
            view = View(torch.randn(shape, generator=torch.Generator().manual_seed(number)))
            both = network(view)
            assert torch.equal(both[:, 1:], encoder.layer_features(view)) and torch.equal(both[:, 0], encoder(view))
    handle.remove()
    assert len(passes) == (3 if kind == "other" else 1)


def test_the_stages_are_shown_as_lines_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first at once: a table is never silent from its beginning."""
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path),
        callbacks=[Report(draws=1, labels_per_class=2), *(probe(enabled=False) for probe in OFF)],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b" not in "".join(lines)
    stages = [number for number, line in enumerate(lines) if line.startswith("table ")]
    last_step = max(number for number, line in enumerate(lines) if line.startswith("step "))
    table = next(number for number, line in enumerate(lines) if line.startswith("Accuracy in %"))
    assert stages and last_step < stages[0] < table
    assert "left, then the table, at most 45 s" in lines[last_step]


@pytest.mark.slow
@pytest.mark.parametrize("labels_per_class", [None, 3])
def test_samples_under_other_labels_are_embedded_once(
    labels_per_class: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same table as where both sets are embedded; and where their samples differ, as with few
    labels of each class, each set's are."""
    tables, counts = [], []
    embedded: list[int] = []
    monkeypatch.setattr(rows, "features_of", lambda *args: (embedded.append(1), features_of(*args))[1])
    for relabels in (True, False):
        embedded.clear()
        other = OtherLabels(labels_per_class=labels_per_class)
        data = TinyImages(probe_sets={"other": other}, labels_per_class=labels_per_class)
        other.relabels = data if relabels else None
        trainer = trained(tmp_path / str(relabels), data, minutes=0)
        tables.append({key: value for key, value in summary_of(trainer).items() if key.startswith("final/")})
        counts.append(len(embedded))
    assert tables[0] == tables[1] and len(tables[0]) == 32
    assert tables[0]["final/pretrained/linear"] != tables[0]["final/other/pretrained/linear"]
    assert counts == ([6, 12] if labels_per_class is None else [12, 12])


class OtherLabels(TinyImages):
    """The same images in two classes."""

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        assert isinstance(source, InMemory) and source.labels is not None
        return InMemory(source.samples, source.labels // 2)


class Scans(TinyImages):
    """Two classes, of which one holds 95 % of the samples, and no test split."""

    class_names = ("normal", "lesion")

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        assert isinstance(source, InMemory)
        labels = (torch.arange(self.samples) % 20 == 0).long()
        return InMemory(source.samples + 40 * labels.view(-1, 1, 1, 1).byte(), labels) if split == "train" else None


def test_unequal_classes_count_alike_and_samples_that_pretraining_has_seen_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trained(tmp_path, Scans(samples=140), probes=True)
    text = " ".join(capsys.readouterr().out.split())
    assert "mean over 2 classes, on 20 val samples that the pretraining has seen, without labels" in text
    assert "'normal' holds 95.0 % of the val samples, so every class counts alike" in text
    assert "Area under the ROC curve" in text and "Pretraining: " in text
    summary = summary_of(trainer)
    assert summary["final/majority/linear"]["mean"] == 0.5 and summary["final/raw/linear"]["labels"] == 120
    assert {round(38 * summary[f"probe/{probe}/top1"], 6) % 1 for probe in ("knn", "linear")} == {0}  # of 19 and of 1
    assert len(summary["final/pretrained/linear"]["auroc"]) == 1


@pytest.mark.slow
def test_a_named_set_has_the_keys_of_the_runs_own_and_areas_reach_every_logger(tmp_path: Path) -> None:
    data = Scans(samples=140, probe_sets={"more": Scans(samples=140)})
    trainer = trained(tmp_path, data, probes=True, logger="csv", draws=2)
    summary = summary_of(trainer)
    measured = {name: value for name, value in summary.items() if name.startswith(("final/", "probe/"))}
    own = {name: value for name, value in measured.items() if "/more/" not in name}
    more = {name.replace("/more/", "/"): value for name, value in measured.items() if "/more/" in name}
    assert own == more and len(own) == 16 + 4
    assert {"probe/knn/auroc", "probe/linear/auroc"} < own.keys()
    cells = {name: value for name, value in measured.items() if name.startswith("final/")}
    assert all(set(cell) >= {"mean", "std", "n", "draws", "labels", "samples", "classes"} for cell in cells.values())
    assert all("auroc" in cell for name, cell in cells.items() if "majority" not in name)
    with next((folder_of(trainer) / "csv").rglob("metrics.csv")).open() as file:
        given = {name: float(value) for row in csv.DictReader(file) for name, value in row.items() if value}
    for name, cell in cells.items():
        assert given[name] == pytest.approx(cell["mean"]) and ("auroc" in cell) == (f"{name}/auroc" in given)
        if "auroc" in cell:
            assert given[f"{name}/auroc"] == pytest.approx(sum(cell["auroc"]) / len(cell["auroc"]))
    assert given["probe/more/knn/auroc"] == pytest.approx(summary["probe/more/knn/auroc"])


@pytest.mark.slow
def test_a_validation_split_of_its_own_was_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class NoTest(TinyImages):
        def source(self, split: Split) -> Source | None:
            return None if split == "test" else super().source(split)

    trained(tmp_path, NoTest())
    text = " ".join(capsys.readouterr().out.split())
    assert "on 64 val samples" in text and "has seen" not in text


class Published(TinyEncoder):
    """An encoder that may begin with weights from elsewhere."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()


class Around(TinyEncoder):
    """An encoder around another."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__()
        self.inner = inner


def loaded(path: Path) -> Encoder:
    save_encoder(TinyEncoder(), path)
    return load_encoder(path).train()


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder",
    [
        lambda path: Published(pretrained=True),
        pytest.param(lambda path: Around(Published(pretrained=True)), marks=pytest.mark.slow),
        loaded,
    ],
    ids=["pretrained", "pretrained inside of another", "another run's"],
)
def test_weights_that_were_learned_before_are_not_called_untrained(
    encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An encoder with random weights has a row besides, and labels alone begin with it."""
    compared: list[dict[str, Encoder]] = []
    learned: list[Any] = []
    monkeypatch.setattr(report, "compare", lambda *args: (compared.append(args[3]), compare(*args))[1])
    monkeypatch.setattr(rows, "labels_only_row", lambda encoder, *args: (learned.append(encoder), {})[1])
    start = encoder(tmp_path / "encoder.safetensors")
    weights = {name: value.clone() for name, value in start.state_dict().items()}
    trainer = trained(tmp_path, method=SimCLR(start), labels_only=True)
    assert rows_in(trainer) == {"raw", "published", "untrained", "pretrained"}
    text = capsys.readouterr().out
    assert "published weights" in text and "untrained encoder" in text and "gain over published" in text
    (began,) = compared
    assert list(began) == ["published", "untrained"] and learned == [began["untrained"]]
    same = {
        row: all(torch.equal(each, weights[name]) for name, each in began[row].state_dict().items()) for row in began
    }
    assert same == {"published": True, "untrained": False}


@pytest.mark.slow
def test_a_random_start_is_untrained_and_a_second_fit_is_not(tmp_path: Path) -> None:
    method = SimCLR(TinyEncoder())
    assert rows_in(trained(tmp_path / "first", method=method)) == {"raw", "untrained", "pretrained"}
    again = rows_in(trained(tmp_path / "second", method=method))
    assert again == {"raw", "published", "untrained", "pretrained"}


def test_features_are_those_of_the_exported_encoder_in_every_precision() -> None:
    """In float32, whatever the run's weights are; which are as before afterwards."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).bfloat16()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.randn(5, 4)
    with in_float32(network):
        inside = network(x)
    assert inside.dtype == torch.float32
    assert all(tensor.dtype == before[name].dtype for name, tensor in network.state_dict().items())
    assert torch.equal(network[0].weight, before["0.weight"])
    with in_float32(None):
        pass
