"""What any process of a run skips is listed, and counts against the part that may be skipped.

Run as a script this file is one of two processes: `test_skipped.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR
from unreadable import Line, Tables, write_tables

from ssl_lightning import Trainer
from ssl_lightning.augment.random import permutation
from ssl_lightning.data.files.skipped import report_skipped
from ssl_lightning.data.files.source import FileSource, Unreadable
from ssl_lightning.distributed import rank
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing.tiny import TinyWaves

FILES, PASSES = 256, 5
"""One batch is a pass; more passes than a run makes, since its workers read ahead."""


def bad(first: int, second: int) -> list[int]:
    """So many files that rank 0 alone reads, and rank 1, in every pass; each of another label, so
    that none is read in place of another."""
    orders = [permutation(0, number, FILES).tolist() for number in range(PASSES)]
    chosen: list[int] = []
    for part, count in ((slice(FILES // 2), first), (slice(FILES // 2, None), second)):
        always = sorted(set.intersection(*(set(order[part]) for order in orders)))
        for number in always:
            if count and number % 4 not in {other % 4 for other in chosen}:
                chosen.append(number)
                count -= 1
        assert not count, "too few files stay with one process"
    return chosen


def broken_tables(folder: Path, numbers: list[int]) -> Path:
    write_tables(folder, FILES)
    for number in numbers:
        (folder / "train" / f"{number:03}.txt").write_text("torn")
    return folder


def train(root: Path, folder: Path, epochs: int, workers: int = 0, **several: Any) -> Trainer:
    quiet = [Report(enabled=False), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False)]
    trainer = Trainer(
        accelerator="cpu", precision=32, max_epochs=epochs, default_root_dir=str(root), callbacks=quiet, **several
    )
    data = Tables(folder=str(folder), unreadable="skip", max_unreadable=0.006, batch_size=FILES, workers=workers)
    trainer.fit(SimCLR(Line(), hidden_dim=16, output_dim=8, norm="layer"), datamodule=data)
    return trainer


def process(folder: Path) -> None:
    """Trains for one pass on a folder with files that rank 1 alone meets, then for three on one
    where both meet some: together too many."""
    torch.set_num_threads(1)
    several = {"devices": 2, "strategy": "ddp"}
    listed = train(folder / "runs", folder / "listed", 1, workers=1, **several)
    message = ""
    try:
        train(folder / "runs", folder / "stopped", 3, **several)
    except Unreadable as error:
        message = str(error)
    torch.save({"folder": str(listed.run_folder), "message": message}, folder / f"{rank()}.pt")


@pytest.fixture(scope="module")
def ended(run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("skipped")
    broken_tables(folder / "listed", bad(0, 2))
    broken_tables(folder / "stopped", bad(1, 2))
    done = run(folder, script=[__file__, str(folder)], processes=2)
    assert done["code"] == 0, done["log"][-3000:]
    return {"log": done["log"], "processes": [torch.load(folder / f"{number}.pt") for number in range(2)]}


@pytest.mark.slow
def test_the_run_lists_what_another_process_skipped(ended: dict[str, Any]) -> None:
    names = sorted(f"{number:03}.txt" for number in bad(0, 2))
    path = Path(ended["processes"][0]["folder"]) / "unreadable.txt"
    assert path.read_text().splitlines() == names
    said = f"Unreadable tables, in whose place others were taken: 2 ({', '.join(names)}). All are listed in {path}."
    assert ended["log"].count("in whose place") == 1 and said in ended["log"]


@pytest.mark.slow
def test_more_than_may_be_skipped_by_all_together_stop_every_process(ended: dict[str, Any]) -> None:
    for each in ended["processes"]:
        assert each["message"].startswith("3 of 256 tables cannot be read, more than --data.max_unreadable allows (2).")


def test_a_run_that_goes_on_keeps_what_it_listed(tmp_path: Path) -> None:
    (tmp_path / "unreadable.txt").write_text("99.txt\n")
    source = Tables(folder=str(write_tables(tmp_path / "tables"))).source("train")
    source.skipped[3] = True
    report_skipped({"": source}, tmp_path)
    assert (tmp_path / "unreadable.txt").read_text() == "003.txt\n99.txt\n"


def test_a_split_that_is_opened_to_evaluate_counts_too(tmp_path: Path) -> None:
    """Lightning opens it in inference mode, and counts outside of it: else every `test` and
    `predict` on files would fail at its end."""
    with torch.inference_mode():
        source = Tables(folder=str(write_tables(tmp_path / "tables"))).source("train")
        source.skipped[1] = True
    report_skipped({"": source}, None)
    source.skipped[3] = True
    assert set(source.skipped_names) == {1, 3}


def test_a_source_that_inference_built_counts_outside_of_it() -> None:
    """`validate` and `test` build theirs in Lightning's inference mode, and end outside of it."""
    with torch.inference_mode():
        source = TinyWaves(samples=16).split("test")
    assert isinstance(source, FileSource)
    source.add_skipped([])
    source.add_skipped([3])
    assert source.skipped_names == {3: "wave 3"}


if __name__ == "__main__":
    process(Path(sys.argv[1]))
