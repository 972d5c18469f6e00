"""The row "labels only": trained on the draws of the other rows, to convergence, and without a
trace in the run."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import pickle
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn

import ssl_lightning
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import InMemory, Source, labels_of, stratified_sample
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation import budget, labels_only, protocol, rows
from ssl_lightning.evaluation.budget import Budget
from ssl_lightning.evaluation.closing import Closing, compare
from ssl_lightning.evaluation.labels_only import (
    classified,
    costs,
    fewer_line,
    fits_of,
    fitted,
    labels_only_row,
    skipped_cells,
    skipped_line,
    steps_of,
)
from ssl_lightning.evaluation.report import Report
from ssl_lightning.evaluation.rows import Rows
from ssl_lightning.evaluation.stages import Stages
from ssl_lightning.evaluation.untrained import began_with
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View

CELLS = ("linear", "linear_2")


class DroppingEncoder(Encoder):
    """All that could leave a trace: dropout, BatchNorm, and a part that is not to be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.frozen = nn.Conv2d(1, 8, 5, stride=2)
        self.frozen.requires_grad_(False)
        self.norm, self.drop, self.linear = nn.BatchNorm2d(8), nn.Dropout(0.3), nn.Linear(8, 8)

    def forward(self, view: View) -> Tensor:
        x: Tensor = self.norm(self.frozen(view.x)).relu().mean(dim=(2, 3))
        return self.linear(self.drop(x))


class Watched(InMemory):
    """Writes down what is fetched."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fetched: list[Tensor] = []

    def fetch(self, index: Tensor) -> Tensor:
        self.fetched.append(index)
        return super().fetch(index)


class WatchedImages(TinyImages):
    """Images whose training samples are watched; a test split of its own size."""

    def source(self, split: Split) -> Source | None:
        found = super().source(split)
        assert isinstance(found, InMemory)
        return Watched(found.samples, found.labels) if split == "train" else found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a few steps."""
    monkeypatch.setattr(labels_only, "FEWEST_STEPS", 4)
    monkeypatch.setattr(labels_only, "PASSES", 2)


def trainer(root: Path, **kwargs: Any) -> ssl_lightning.Trainer:
    report = Report(**{"draws": 2, "labels_per_class": 2, "labels_only": True, **kwargs.pop("report", {})})
    settings = {"max_steps": 3, "accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False, **kwargs}
    return ssl_lightning.Trainer(**settings, default_root_dir=str(root), callbacks=[report])


class Run:
    """Three steps on 60 images, and the closing table, with fits of a few steps."""

    def __init__(self, root: Path, ckpt_path: Path | None = None, **kwargs: Any) -> None:
        torch.manual_seed(0)
        self.method, self.data, self.trainer = SimCLR(TinyEncoder()), WatchedImages(samples=60), trainer(root, **kwargs)
        self.trainer.fit(self.method, datamodule=self.data, ckpt_path=ckpt_path)
        assert self.trainer.run_folder is not None
        self.folder = self.trainer.run_folder

    def close(self, data: TinyImages | None = None, **report: Any) -> Closing:
        """The closing table once more."""
        settings = Report(**{"draws": 2, "labels_per_class": 2, **report}).settings
        sets, stages = {"": data or self.data}, Stages(self.trainer)
        began = began_with(self.folder, self.method, self.data.seed, stages)
        return compare(self.trainer, self.method, sets, began, settings, stages)[""]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_only, "FEWEST_STEPS", 4)
        patch.setattr(labels_only, "PASSES", 2)
        yield Run(tmp_path_factory.mktemp("labels_only"))


def row_of(folder: Path, name: str = "labels_only") -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    return {key.rpartition("/")[2]: cell for key, cell in summary.items() if key.startswith(f"final/{name}/")}


def generators() -> tuple[bytes, ...]:
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), pickle.dumps(random.getstate())


@pytest.mark.slow
def test_it_learns_from_the_very_draws_of_the_other_rows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which samples the regressions of the first row were given is read off their features, and
    which these fits were given off what they fetched. `train_samples` caps both."""
    given: list[Any] = []
    regress, fits = protocol.regressed, fits_of
    source = run.data.split("train")
    assert isinstance(source, Watched)

    def watched(*parts: Any) -> Any:
        given.append(parts[0])
        return regress(*parts)

    def from_here(*args: Any) -> Any:
        source.fetched.clear()
        return fits(*args)

    monkeypatch.setattr(protocol, "regressed", watched)
    monkeypatch.setattr("ssl_lightning.evaluation.rows.fits_of", from_here)
    run.close(train_samples=48, labels_only=True)
    learned, (*few, all_labels) = stratified_sample(labels_of(source), 48), given[:3]
    expected = [*(learned[torch.cdist(x, all_labels).argmin(dim=1)] for x in few), learned]
    steps = [steps_of(8), steps_of(8), steps_of(48)]
    assert len(source.fetched) == sum(steps)
    batches = iter(source.fetched)
    for places, number in zip(expected, steps, strict=True):
        assert set(torch.cat([next(batches) for _ in range(number)]).tolist()) == set(places.tolist())
    assert set(expected[0].tolist()) != set(expected[1].tolist()) and len(expected[0]) == 8


@pytest.mark.slow
def test_with_the_row_a_run_ends_as_without_it(run: Run, tmp_path: Path) -> None:
    alone = Run(tmp_path, report={"enabled": False})
    weights = copy.deepcopy(run.method.state_dict())
    for name, value in alone.method.state_dict().items():
        assert torch.equal(value, weights[name]), name
    found = []
    for wanted in (True, False):
        torch.manual_seed(0)
        closing = run.close(labels_only=wanted)
        found.append(({**closing.table}, generators(), [module.training for module in run.method.modules()]))
        assert all(torch.equal(value, run.method.state_dict()[name]) for name, value in weights.items())
    row = found[0][0].pop("labels_only")
    assert found[0] == found[1] and set(found[1][0]) == {"majority", "raw", "untrained", "pretrained"}
    assert set(row) == set(CELLS) and row == row_of(run.folder)
    assert "gain over labels" in (run.folder / "encoder.md").read_text()


@pytest.mark.slow
def test_a_run_that_has_ended_closes_with_the_same_row_again(run: Run) -> None:
    row = row_of(run.folder)
    (run.folder / "summary.json").unlink()
    again = Run(Path(run.trainer.default_root_dir), ckpt_path=run.folder / "checkpoints" / "step-00000003.ckpt")
    assert again.folder == run.folder and row_of(run.folder) == row


def test_fits_are_a_function_of_weights_data_and_seed_and_leave_no_trace(short: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, data, run = DroppingEncoder().eval(), TinyImages(samples=40), trainer(tmp_path)
    before, source = copy.deepcopy(encoder.state_dict()), data.split("train")
    assert source is not None
    found = []
    for seed in (1, 1, 2):
        torch.rand(1)  # the default generator stands elsewhere each time
        state = generators()
        network = fitted(encoder, data, source, run, seed)
        assert generators() == state
        found.append({name: value.clone() for name, value in network.state_dict().items()})
        classified(network, data, source, run)
        assert all(torch.equal(value, found[-1][name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, found[0][name]) for name, value in found[1].items())
    assert (
        all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items()) and not encoder.training
    )
    for name, value in found[0].items():
        initial = before.get(name.removeprefix("encoder."))
        if "frozen" in name:
            assert initial is not None and torch.equal(value, initial), name
        else:
            assert not torch.equal(value, found[2][name]) or name.endswith("num_batches_tracked"), name
            assert initial is None or not torch.equal(value, initial), name
    assert all(parameter.requires_grad is ("frozen" not in name) for name, parameter in network.named_parameters())


def test_a_cell_does_not_depend_on_whether_the_other_is_made(short: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, data, run = TinyEncoder(), TinyImages(samples=40), trainer(tmp_path, precision="bf16-mixed")
    train, test = data.split("train"), data.split("test")
    assert train is not None and train.labels is not None and test is not None
    fits = fits_of(train.labels, 2, 2)
    whole = labels_only_row(encoder, data, train, test, run, fits)
    assert [cell["n"] for cell in whole.values()] == [1, 2]
    assert {name: labels_only_row(encoder, data, train, test, run, {name: fits[name]})[name] for name in CELLS} == whole


@pytest.mark.parametrize(
    ("late", "draws"),
    [(1, {"linear": 1}), (3, {"linear": 1}), (4, {"linear_2": 3, "linear": 1}), (5, {"linear_2": 4})],
)
def test_the_draws_that_there_is_time_for_are_a_cell_if_they_are_three(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int, draws: dict[str, int]
) -> None:
    """Four draws come first, then all labels; one of the fits would take too long."""
    fit, done, data = labels_only.fitted, itertools.count(1), TinyImages(samples=40)

    def slow(*args: Any) -> Any:
        if next(done) == late:
            raise protocol.OutOfTime
        return fit(*args)

    monkeypatch.setattr(labels_only, "fitted", slow)
    train, test = data.split("train"), data.split("test")
    assert train is not None and train.labels is not None and test is not None
    all_fits = fits_of(train.labels, 2, 4)
    row = labels_only_row(TinyEncoder(), data, train, test, trainer(tmp_path), all_fits)
    assert {column: cell["n"] for column, cell in row.items()} == draws
    assert ("labels only: linear 2/class 3 of 4; " in fewer_line(row, all_fits)) == (late == 4)


def test_the_cost_is_counted_in_sample_passes_and_auto_skips_expensive_cells() -> None:
    """Digits: 1,400 labelled samples, 397 to evaluate on; 80 epochs of 10 batches of 128, two views
    each."""
    fits = fits_of(torch.arange(1400) % 10, 10, 5)
    assert [len(places) for places in fits["linear"]] == [1400] and [len(places) for places in fits["linear_10"]] == [
        100
    ] * 5
    steps, few_steps = steps_of(1400), steps_of(100)
    expected = {"linear": steps * 64 + 397 / 3, "linear_10": 5 * (few_steps * 64 + 397 / 3)}
    assert costs(fits, 397) == pytest.approx(expected)
    assert skipped_cells(fits, 397, 80 * 10 * 128 * 2) == {}
    assert costs(fits_of(torch.arange(20) % 10, 10, 1), 0)["linear"] == steps_of(20) * 20, (
        "a batch is no larger than its samples"
    )
    cost = expected["linear_10"]
    assert skipped_cells({"linear_10": fits["linear_10"]}, 397, cost / labels_only.SHARE + 9) == {}
    assert skipped_cells({"linear_10": fits["linear_10"]}, 397, cost / labels_only.SHARE - 9) == pytest.approx(
        {"linear_10": labels_only.SHARE}, rel=0.01
    )
    line = skipped_line({"linear": 1234.56, "linear_10": 0.5})
    assert " ".join(line.split()) == (
        "Skipped because of their cost (1,234.6 x and 0.5 x the pretraining): labels only, linear all and linear"
        " 10/class. --report.labels_only true computes them."
    )
    assert all(len(part) <= 80 for part in line.splitlines()) and skipped_line({}) == ""


def test_auto_counts_the_samples_and_views_of_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run: 3 batches of 16, two views each. A fit on all 60: 4 steps of 60, judged on 60; with
    few labels 4 of 8, twice."""

    def row(share: float, wanted: Any = "auto") -> tuple[set[str], str]:
        monkeypatch.setattr(labels_only, "SHARE", share)
        settings = Report(draws=2, labels_per_class=2, labels_only=wanted).settings
        rows = Rows(run.data, {}, run.trainer, settings)
        rows.add_labels_only(TinyEncoder(), Budget(math.inf), Stages(run.trainer))
        return set(rows.table.get("labels_only", {})), " ".join(rows.costly.split())

    few, every = (2 * 32 + 40) / 96, (240 + 20) / 96
    assert row(every * 1.001) == (set(CELLS), "")
    assert row(every * 0.999)[0] == row(few * 1.001)[0] == {"linear_2"}
    assert "its cost (2.7 x the pretraining): labels only, linear all. --report" in row(few * 1.001)[1]
    assert row(few * 0.999)[0] == set()
    assert "(2.7 x and 1.1 x the pretraining): labels only, linear all and linear 2/class." in row(few * 0.999)[1]
    assert row(0, True) == (set(CELLS), "")


def test_skipped_cells_are_named_under_the_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_only, "SHARE", 0.01)
    closing = run.close(draws=1, labels_only="auto")
    assert (
        "labels_only" not in closing.table
        and closing.printed.endswith("\n" + closing.note)
        and "Skipped because" in closing.note
    )
    assert all(len(line) <= 80 for line in closing.printed.splitlines())


def test_fits_that_would_take_too_long_are_skipped_and_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a minute later: of 9, the first of 3 rows has 3 and a half."""
    minutes = itertools.count()
    monkeypatch.setattr(rows, "seconds_of_features", lambda *args: 0.0)
    for module in (protocol, budget):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 60.0 * next(minutes)))
    ended = run.close(draws=1, labels_only=False, minutes=9.0)
    columns = {row: set(cells) for row, cells in ended.table.items()}
    assert columns["pretrained"] == {"knn", "knn_2"} and not any("linear" in each for each in columns.values())
    note = " ".join(ended.note.split())
    assert "the table may take 9 min 0 s on this machine: pretrained encoder: linear all, linear 2/class;" in note
    assert note.endswith("--report.minutes 0 computes all.") and "raw features: " in note
    assert all(len(line) <= 80 for line in ended.printed.splitlines()) and ended.printed.endswith(ended.note)
    whole = run.close(draws=1, labels_only=False, minutes=0.0)
    assert all(len(cells) == 4 for cells in whole.table.values()) and "Skipped" not in whole.note


def test_the_last_fit_is_skipped_where_those_before_say_that_it_would_end_too_late() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = np.arange(40) % 2
    assert 0 <= protocol.linear_accuracy(x, y, x, y, time.monotonic() + 1e6) <= 1
    with pytest.raises(protocol.OutOfTime):
        protocol.linear_accuracy(x, y, x, y, time.monotonic())


def test_a_process_without_a_fit_waits_for_the_others_and_costs_as_much() -> None:
    fits = fits_of(torch.arange(40) % 4, 2, 3)
    one, two = costs(fits, 40), costs(fits, 40, processes=2)
    assert two == pytest.approx({"linear": 2 * one["linear"], "linear_2": 4 / 3 * one["linear_2"]})


def test_a_further_set_has_no_such_row(run: Run) -> None:
    assert set(run.close(TinyImages(samples=32), labels_only=True).table) == {
        "majority",
        "raw",
        "untrained",
        "pretrained",
    }


def test_a_choice_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="labels_only='often'"):
        Report(labels_only="often")  # type: ignore[arg-type]


def row_here(root: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    data = TinyImages(samples=40)
    train, test = data.split("train"), data.split("test")
    assert train is not None and train.labels is not None and test is not None
    return labels_only_row(TinyEncoder(), data, train, test, trainer(root), fits_of(train.labels, 2, 2))


def process(root: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    number = int(os.environ["LOCAL_RANK"])
    labels_only.FEWEST_STEPS, labels_only.PASSES = 4, 2  # as `short` sets them
    sizes: list[int] = []
    fit = labels_only.fitted

    def watched(*args: Any) -> Any:
        sizes.append(len(args[2]))
        return fit(*args)

    labels_only.fitted = watched  # type: ignore[assignment]
    dist.init_process_group("gloo", f"file://{root / 'meeting'}", rank=number, world_size=2)
    row = row_here(root)
    (root / f"{number}.json").write_text(json.dumps({"row": row, "sizes": sizes}))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_the_fits_out_and_both_get_the_row_of_one(
    processes: Any, short: None, tmp_path: Path
) -> None:
    ended = processes(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    found = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    assert [each["sizes"] for each in found] == [[8, 40], [8]]
    assert found[0]["row"] == found[1]["row"] == row_here(tmp_path)


@pytest.mark.slow
def test_labels_alone_teach_more_than_they_read_off_raw_pixels_or_the_untrained_encoder(tmp_path: Path) -> None:
    """Digits, with all labels and with 10 a class: a baseline that loses to what it starts from
    would be crippled."""
    torch.manual_seed(0)
    settings = trainer(tmp_path, max_steps=1, precision="auto", report={"draws": 2, "labels_per_class": 10})
    settings.fit(SimCLR(ConvEncoder(channels=1)), datamodule=Digits())
    assert settings.run_folder is not None
    rows = {name: row_of(settings.run_folder, name) for name in ("raw", "untrained", "labels_only")}
    for column in ("linear", "linear_10"):
        other = max(rows["raw"][column]["mean"], rows["untrained"][column]["mean"])
        assert rows["labels_only"][column]["mean"] > other + 0.003, (column, rows)


if __name__ == "__main__":
    process(Path(sys.argv[1]))
