"""A killed run that is resumed ends bit for bit like one that was never killed. The kills are real:
see `runs.py`."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from resuming import TRIALS, Run, assert_same, differences, finished, kill, metrics

from ssl_lightning.plugins.archive import is_whole, read
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO, find_newest
from ssl_lightning.run.folder.lock import FolderLock

BASE: dict[str, Any] = {"samples": 70}
"""3 epochs of 4 steps of 16 samples: 6 samples of each pass reach into the next epoch."""
WORKERS = {**BASE, "workers": 2, "augment_on": "worker"}
LIMITED = {**BASE, "samples": 100, "trainer": {"max_epochs": 4, "limit_train_batches": 3}}
STEPS = {**BASE, "trainer": {"max_epochs": -1, "max_steps": 10, "log_every_n_steps": 4}}
NOISY = {**BASE, "method": "noisy"}
ACCUMULATED = {
    "method": "noisy",
    "samples": 80,
    "trainer": {"max_epochs": 4, "accumulate_grad_batches": 2, "log_every_n_steps": 2},
}
"""4 epochs of 5 batches, that is 3 steps."""


@pytest.fixture(scope="module")
def straight(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was never killed; each is made once."""
    made: dict[str, dict[str, Any]] = {}

    def get(**spec: Any) -> dict[str, Any]:
        key = json.dumps(spec, sort_keys=True)
        if key not in made:
            made[key] = finished(run(tmp_path_factory.mktemp("straight"), **spec))
        return made[key]

    return get


def check(run: Run, straight: Run, root: Path, kills: list[tuple[str, int]], **spec: Any) -> dict[str, Any]:
    """Kills a run at each place in turn, resuming it in between; then lets it end, and compares."""
    like = straight(**spec)
    folder = kill(run, root, *kills[0], **spec)
    for again in kills[1:]:
        kill(run, root, *again, ckpt_path="auto", **spec)
    resumed = finished(run(root, ckpt_path="auto", **spec))
    assert_same(resumed, like)
    assert Path(resumed["folder"]) == folder, "a resumed run goes on in its folder"
    assert not list(folder.glob("checkpoints/.*"))
    return resumed


KILLS = {
    "in mid-epoch, before the step": [("start", 7)],
    "while the linear probe learns": [("linear", 3)],
    "in the middle of writing a checkpoint": [("torn write", 2)],
    "in the middle of a row of metrics.csv": [("torn row", 10)],
    "in every epoch": [("end", 5), ("end", 9), ("start", 12)],
}
SLOW_KILLS = {
    "between writing and renaming a checkpoint": [("fsync", 3)],
    "inside kNN": [("knn", 2)],
    "on the run's last step, before its checkpoint": [("end", 12)],
    "on an epoch's last step, after its checkpoint": [("saved", 2)],
    "in mid-epoch, between backward and update": [("backward", 6)],
    "in mid-epoch, after the update": [("end", 6)],
    "on an epoch's last step, before its checkpoint": [("end", 8)],
    "on the run's last step, after its checkpoint": [("saved", 3)],
    "while the linear probe is judged": [("linear scores", 2)],
    "between renaming a checkpoint and removing the older": [("fsync", 6)],
    "twice in one epoch": [("end", 6), ("start", 8)],
    "twice at the same step": [("start", 7), ("start", 7)],
}


def cases(default: dict[str, Any], slow: dict[str, Any]) -> list[Any]:
    """Named values of a parameter."""
    return [*(pytest.param(value, id=name) for name, value in default.items()),
            *(pytest.param(value, id=name, marks=pytest.mark.slow) for name, value in slow.items())]  # fmt: skip


@pytest.mark.by_default(3)
@pytest.mark.parametrize("kills", cases(KILLS, SLOW_KILLS))
def test_killed_and_resumed_ends_like_never_killed(
    run: Run, straight: Run, tmp_path: Path, kills: list[tuple[str, int]]
) -> None:
    check(run, straight, tmp_path, kills, **BASE)


SLOW_SPECS = {"limit_train_batches": LIMITED, "dropout and after_update": NOISY}
SPECS = {"2 workers": WORKERS} | SLOW_SPECS


@pytest.mark.parametrize("spec", cases({"2 workers": WORKERS}, SLOW_SPECS))
def test_so_it_does_with(run: Run, straight: Run, tmp_path: Path, spec: dict[str, Any]) -> None:
    """In mid-epoch and, resumed, just after the next checkpoint."""
    check(run, straight, tmp_path, [("end", 6), ("saved", 1)], **spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills", [[("end", 6)], [("saved", 2)], [("end", 6), ("start", 8)]], ids=["mid-epoch", "epoch's end", "twice"]
)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_so_it_does_at_other_places(
    run: Run, straight: Run, tmp_path: Path, spec: dict[str, Any], kills: list[tuple[str, int]]
) -> None:
    check(run, straight, tmp_path, kills, **spec)


@pytest.mark.parametrize(
    "kills",
    cases(
        {"before the update": [("backward", 5)]},
        {
            "twice": [("end", 8), ("start", 9)],
            "first": [("end", 4)],
            "epoch's end": [("end", 6)],
            "saved": [("saved", 2)],
        },
    ),
)
def test_so_it_does_with_accumulated_batches(
    run: Run, straight: Run, tmp_path: Path, kills: list[tuple[str, int]]
) -> None:
    resumed = check(run, straight, tmp_path, kills, **ACCUMULATED)
    assert resumed["end"]["step"] == 12
    seeds = straight(**ACCUMULATED)["seeds"]
    assert len(set(seeds)) == 20, "each batch has noise of its own, also those that one step accumulates"
    assert resumed["seeds"] == seeds[-len(resumed["seeds"]) :]
    assert b"\n12," in metrics(resumed) and b"probe/knn/top1" in metrics(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("spec", cases({"2 workers": WORKERS, "accumulated": ACCUMULATED}, {"alone": NOISY}))
def test_so_it_does_from_a_checkpoint_in_mid_epoch(
    run: Run, straight: Run, tmp_path: Path, spec: dict[str, Any]
) -> None:
    """Timed checkpoints: after steps 5 and 7 here; the log of steps 4 to 6 has begun when the first
    is written."""
    kill(run, tmp_path, "start", 7, save_at=[5, 7], **spec)
    kill(run, tmp_path, "end", 8, save_at=[5, 7], ckpt_path="auto", **spec)
    resumed = finished(run(tmp_path, ckpt_path="auto", **spec))
    assert resumed["resumed from"].endswith("step-00000007.ckpt")
    assert_same(resumed, straight(**spec))


def test_timed_checkpoints_change_nothing(run: Run, straight: Run, tmp_path: Path) -> None:
    timed = finished(run(tmp_path, checkpoint={"minutes": 1e-9, "keep": 20}, **BASE))
    assert len(list(Path(timed["folder"]).glob("checkpoints/step-*.ckpt"))) == 12
    assert_same(timed, straight(**BASE))


@pytest.mark.parametrize(
    ("spec", "place", "times"),
    [
        pytest.param(BASE, ("closing table", 2), 2, id="inside the closing table", marks=pytest.mark.slow),
        pytest.param(STEPS, ("summary", 1), 1, id="before the summary, max_steps", marks=pytest.mark.slow),
    ],
)
def test_killed_while_it_closes(
    run: Run, straight: Run, tmp_path: Path, spec: dict[str, Any], place: tuple[str, int], times: int
) -> None:
    """What is left is to close; so it is for a run that has ended (the second time)."""
    like, summaries = straight(**spec), []
    folder = kill(run, tmp_path, *place, closing=True, **spec)
    for _ in range(times):
        closed = finished(
            run(tmp_path, closing=True, ckpt_path="auto", kill=["start", like["end"]["step"] + 1], **spec)
        )
        assert_same(closed, like)
        assert Path(closed["folder"]) == folder
        summaries.append(json.loads((folder / "summary.json").read_text()))
        (folder / "summary.json").unlink()
    names, *_, last = (line.split(",") for line in metrics(like).decode().splitlines())
    values = dict(zip(names, last, strict=True))
    for summary in summaries:
        assert summary["steps"] == like["end"]["step"]
        assert str(summary["train/loss"]) == values["train/loss"], "the summary holds the loss of the last steps"
        assert summary["final/pretrained/knn"] == summaries[0]["final/pretrained/knn"]


LEFT = [
    "plots/loss.png",
    "summary.json",
    "encoder.safetensors",
    "encoder.md",
    "plots/embedding.png",
    "plots/embedding.json",
    "plots/closing.png",
    "plots/collapse.png",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"), [*((name, 1) for name in LEFT), *((name, 2) for name in ("summary.json", "encoder.md"))]
)
def test_killed_while_it_writes_what_it_leaves(run: Run, straight: Run, tmp_path: Path, name: str, number: int) -> None:
    """Before a file gets its name, the first time or the second. A resumed run leaves all that an
    undisturbed one does, the same encoder, and nothing half done."""
    like = Path(straight(closing=True, **BASE)["folder"])
    folder = kill(run, tmp_path, f"replacing {Path(name).name}", number, closing=True, **BASE)
    assert list((folder / name).parent.glob(".*.tmp"))
    finished(run(tmp_path, closing=True, ckpt_path="auto", **BASE))
    left, whole = (
        {str(path.relative_to(each)) for path in each.rglob("*") if path.is_file()} for each in (folder, like)
    )
    assert left == whole and name in left
    encoders = [
        (each / "encoder.safetensors").read_bytes().replace(each.name.encode(), b"its time") for each in (folder, like)
    ]
    assert encoders[0] == encoders[1]
    summaries = [json.loads((each / "summary.json").read_text()) for each in (folder, like)]
    assert [key for key in summaries[0] if key.startswith("final/")] and len({len(each) for each in summaries}) == 1


@pytest.mark.slow
def test_metrics_have_one_row_a_step_in_order(run: Run, straight: Run, tmp_path: Path) -> None:
    resumed = check(run, straight, tmp_path, [("end", 7), ("end", 10)], **BASE)
    rows = [line.split(",") for line in metrics(resumed).decode().splitlines()]
    assert [int(row[0]) for row in rows[1:]] == [2, 3, 4, 5, 6, 8, 9, 10, 12]  # each step that something looks at
    assert {len(row) for row in rows} == {len(rows[0])}


# Damaged checkpoints.


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", ["flipped", *(pytest.param(each, marks=pytest.mark.slow) for each in ("cut", "empty"))]
)
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(
    run: Run, straight: Run, tmp_path: Path, damage: str
) -> None:
    kill(run, tmp_path, "start", 10, **BASE)
    older, newest = sorted(tmp_path.glob("*/*/checkpoints/step-*.ckpt"))
    size = newest.stat().st_size
    with newest.open("r+b") as file:
        file.truncate({"cut": size - 100, "flipped": size, "empty": 0}[damage])
    if damage == "flipped":
        weights = read(newest)["state_dict"]["encoder.conv.weight"].numpy().tobytes()
        flip(newest, newest.read_bytes().index(weights) + 50)
    named = run(tmp_path, ckpt_path=newest, **BASE)
    assert named["code"] == 1
    assert f"ValueError: {str(newest)!r} is not a whole checkpoint: it was truncated or damaged." in named["log"]
    resumed = finished(run(tmp_path, ckpt_path="auto", **BASE))
    assert resumed["resumed from"] == str(older)
    assert_same(resumed, straight(**BASE))


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    """Either the file is called damaged, or it still reads as what was written."""
    path = tmp_path / "step-00000001.ckpt"
    value = {
        "weights": torch.arange(600, dtype=torch.float32),
        "names": [f"name {number}" for number in range(40)],
        "step": 7,
    }
    AtomicIO().save_checkpoint(value, path)
    whole, noticed = path.read_bytes(), 0
    for place in random.Random(0).sample(range(len(whole)), 200):
        flip(path, place)
        if is_whole(path):
            assert differences(value, read(path)) == [], f"a flipped bit in byte {place} is not noticed"
        else:
            noticed += 1
            assert find_newest(tmp_path) is None
        path.write_bytes(whole)
    assert noticed > 100


def test_a_checkpoint_that_could_run_code_is_refused_and_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    torch.save({"state": Path("a class that is no tensor")}, path)
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        read(path)


# Where a resumed run writes, and what it may be.


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_another_checkpoint_than_the_newest_starts_a_folder_of_its_own(run: Run, straight: Run, tmp_path: Path) -> None:
    """One that is older, and a copy elsewhere."""
    first = finished(run(tmp_path / "runs", **BASE))
    before = contents(Path(first["folder"]))
    older = Path(first["folder"]) / "checkpoints" / "step-00000008.ckpt"
    folders = {first["folder"]}
    for named in (older, shutil.copy(older, tmp_path / "mine.ckpt")):
        branch = finished(run(tmp_path / "runs", ckpt_path=named, **BASE))
        assert branch["folder"] not in folders
        folders.add(branch["folder"])
        assert_same(branch, straight(**BASE))
        assert contents(Path(first["folder"])) == before


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "The checkpoint was trained with seed=0, this run has seed=1"),
    ({"samples": 90}, "The checkpoint was trained with samples=70, this run has samples=90"),
    (
        {"method": "noisy"},
        "The checkpoint was written by ssl_lightning.methods.simclr.SimCLR, but this run's method is __main__.Noisy",
    ),
    ({"data": "others"}, "The checkpoint holds no position for OtherImages"),
]


def test_a_run_that_would_not_go_on_exactly_is_refused(run: Run, tmp_path: Path) -> None:
    folder = kill(run, tmp_path, "start", 6, **BASE)
    before = contents(tmp_path)
    for change, says in REFUSED:
        refused = run(tmp_path, ckpt_path=folder / "checkpoints" / "step-00000004.ckpt", **{**BASE, **change})
        assert refused["code"] == 1
        assert f"ValueError: {says}" in refused["log"]
        assert contents(tmp_path) == before


def command(root: Path, *more: str) -> list[str]:
    """A run of the command line that resumes by itself: 2 epochs of 4 steps."""
    options = {
        "--model": "simclr", "--data": "digits", "--trainer.max_epochs": "2", "--trainer.limit_train_batches": "4",
        "--trainer.log_every_n_steps": "2", "--knn_probe.every_n_steps": "3", "--report.enabled": "false",
        "--resume": "auto", "--trainer.default_root_dir": str(root),
    }  # fmt: skip
    return ["fit", *(word for pair in options.items() for word in pair), *more]


def killed(result: dict[str, Any]) -> None:
    assert result["code"] == -signal.SIGKILL, result["log"][-3000:]


@pytest.mark.slow
def test_resume_auto_of_the_command_line(run: Run, tmp_path: Path) -> None:
    like = finished(run(tmp_path, argv=command(tmp_path / "straight")))
    assert "starting anew" in like["log"]
    killed(run(tmp_path, argv=command(tmp_path / "killed"), kill=["training step", 7]))
    resumed = finished(run(tmp_path, argv=command(tmp_path / "killed")))
    assert "Resuming from" in resumed["log"] and "going on at step 4" in resumed["log"]
    (ours,), (theirs,) = (list((tmp_path / name).glob("simclr-digits/*")) for name in ("killed", "straight"))
    assert (ours / "metrics.csv").read_text() == (theirs / "metrics.csv").read_text()
    ends = [read(folder / "checkpoints" / "step-00000008.ckpt") for folder in (theirs, ours)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "Digits"):
        assert differences(ends[0][part], ends[1][part]) == [], part


@pytest.mark.slow
def test_jobs_of_a_sweep_resume_their_own_runs(run: Run, tmp_path: Path) -> None:
    """They share a root; each is killed and restarted as it was, one of them on another machine."""
    jobs = {value: command(tmp_path, "--model.temperature", value) for value in ("0.2", "0.5")}
    for job in jobs.values():
        killed(run(tmp_path, argv=job, kill=["training step", 7]))
    elsewhere = ["--data.workers", "0", "--trainer.devices", "1", "--trainer.num_sanity_val_steps", "0"]
    for value, more in (("0.2", elsewhere), ("0.5", [])):
        log = finished(run(tmp_path, argv=[*jobs[value], *more]))["log"]
        (folder,) = re.findall(r"Resuming from (.*)/checkpoints/step-00000004.ckpt", log)
        config = yaml.safe_load((Path(folder) / "config.yaml").read_text())
        assert config["model"]["init_args"]["temperature"] == float(value)
    assert len(list(tmp_path.glob("simclr-digits/*"))) == 2

    log = finished(run(tmp_path, argv=command(tmp_path, "--model.temperature", "0.9")))["log"]
    assert "2 runs of simclr on digits have other settings" in log and "model.temperature 0.5, not 0.9" in log


@pytest.mark.slow
def test_a_restarted_job_does_not_start_beside_its_living_self(run: Run, tmp_path: Path) -> None:
    killed(run(tmp_path, argv=command(tmp_path), kill=["training step", 7]))
    (folder,) = tmp_path.glob("simclr-digits/*")
    lock = FolderLock()
    lock.take(folder)
    for resume in ("auto", str(folder)):
        refused = run(tmp_path, argv=command(tmp_path, "--resume", resume))
        assert refused["code"] == 1
        (line,) = (line for line in refused["log"].splitlines() if line.startswith("ssl-lightning fit: error: "))
        assert f"The run folder {str(folder)!r} is in use by process {os.getpid()} on" in line
    lock.release()
    log = finished(run(tmp_path, argv=command(tmp_path, "--resume", str(folder))))["log"]
    assert "going on at step 4" in log and list(tmp_path.glob("simclr-digits/*")) == [folder]


@pytest.mark.slow
def test_killed_at_any_byte_of_a_checkpoint(run: Run, straight: Run, tmp_path: Path) -> None:
    """The one before is whole; a torn file is not left under any name."""
    for number, percent in enumerate(random.Random(0).choices(range(101), k=TRIALS)):
        root = tmp_path / str(number)
        folder = kill(run, root, "torn write, percent", percent, **BASE)
        assert [path.name for path in folder.glob("checkpoints/step-*")] == ["step-00000004.ckpt"]
        assert_same(finished(run(root, ckpt_path="auto", **BASE)), straight(**BASE))
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 13))
@pytest.mark.parametrize(
    "spec", [BASE, WORKERS, NOISY, LIMITED, ACCUMULATED], ids=["plain", "2 workers", "noisy", "limited", "accumulated"]
)
def test_at_every_step(run: Run, straight: Run, tmp_path: Path, spec: dict[str, Any], step: int) -> None:
    for place in ("start", "backward", "end"):
        for save_at in ((), (step - 2, step - 1)):
            root = tmp_path / f"{place}-{'-'.join(map(str, save_at))}"
            folder = kill(run, root, place, step, save_at=save_at, **spec)
            if find_newest(folder / "checkpoints") is None:
                continue
            resumed = finished(run(root, ckpt_path="auto", **spec))
            assert_same(resumed, straight(**spec))
