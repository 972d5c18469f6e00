"""Rows of metrics lie in their file alone, and it goes on where a checkpoint left it."""

from __future__ import annotations

import io
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import files_of_at_most

from ssl_lightning.data.files.unwritable import Unwritable
from ssl_lightning.run.folder import rows as module
from ssl_lightning.run.folder.rows import Row, Table

STEPS, KILLED_AT, SAVED_AT = 30, 23, 17


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each closed row is written when the next begins."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(module, "SECONDS_AFTER_A_FAILURE", 0.0)


def values(step: int) -> Row:
    row = {"train/loss": 1 / (step + 1), "train/lr": 1e-7 * step}
    if step % 5 == 4:  # a new column, after the checkpoint too
        row[f"probe/{'late' if step > SAVED_AT else 'early'}, in %"] = step / 3
    return {**row, "broken": float("nan")} if step == 12 else row


def fill(table: Table, steps: range) -> None:
    for step in steps:
        table.add(step, values(step))
        table.add(step, {"another": float(step)})


def new(path: Path, state: dict[str, Any] | None = None, origin: Path | None = None) -> Table:
    table = Table()
    table.open(path, state or {}, origin)
    return table


@pytest.fixture
def straight(tmp_path: Path) -> bytes:
    table = new(tmp_path / "straight.csv")
    fill(table, range(STEPS))
    table.write()
    return (tmp_path / "straight.csv").read_bytes()


@pytest.fixture
def killed(tmp_path: Path) -> dict[str, Any]:
    """A run killed in the middle of a row; the state of its checkpoint."""
    path = tmp_path / "run" / "metrics.csv"
    path.parent.mkdir()
    table = new(path)
    fill(table, range(SAVED_AT + 1))
    state = read_back(table.state())
    fill(table, range(SAVED_AT + 1, KILLED_AT))
    with path.open("a") as file:
        file.write("22,0.04")
    return state


def read_back(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint would hold it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    read: dict[str, Any] = torch.load(file, weights_only=True)
    return read


def go_on(path: Path, state: dict[str, Any], origin: Path | None = None, start: int = SAVED_AT + 1) -> bytes:
    table = new(path, state, origin)
    fill(table, range(start, STEPS))
    table.write()
    return path.read_bytes()


def test_a_resumed_table_ends_like_one_that_was_never_stopped(
    tmp_path: Path, killed: dict[str, Any], straight: bytes
) -> None:
    assert go_on(tmp_path / "run" / "metrics.csv", killed) == straight


def test_a_checkpoint_holds_the_rows_that_cannot_be_written_and_no_others(
    tmp_path: Path, straight: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_WRITES", 1e6)
    table = new(tmp_path / "metrics.csv")
    fill(table, range(SAVED_AT + 1))
    assert len(table.rows) > 10
    with files_of_at_most(100):
        waiting = read_back(table.state())
    state = read_back(table.state())
    assert len(waiting["waiting"]) > 10 and len(state["waiting"]) == 1 and state["rows"] == SAVED_AT
    assert go_on(tmp_path / "metrics.csv", waiting) == straight
    assert go_on(tmp_path / "metrics.csv", state) == straight


@pytest.mark.parametrize("where", ["named by the caller", "named by the checkpoint"])
def test_a_branch_takes_the_rows_of_its_origin(
    tmp_path: Path, killed: dict[str, Any], straight: bytes, where: str
) -> None:
    origin, branch = tmp_path / "run" / "metrics.csv", tmp_path / "branch" / "metrics.csv"
    branch.parent.mkdir()
    before = origin.read_bytes()
    if where == "named by the caller":
        killed["file"] = "elsewhere.csv"
        assert go_on(branch, killed, origin) == straight
    else:
        assert go_on(branch, killed) == straight
    assert origin.read_bytes() == before


def test_a_state_of_every_row_is_taken_up(tmp_path: Path, killed: dict[str, Any], straight: bytes) -> None:
    """As checkpoints of older versions hold it: values by column."""
    rows = new(tmp_path / "run" / "metrics.csv", killed).all()
    assert len(rows) == SAVED_AT + 1
    state = {name: [row.get(name) for row in rows] for name in killed["columns"]}
    (tmp_path / "old").mkdir()
    assert go_on(tmp_path / "old" / "metrics.csv", read_back(state)) == straight


def test_all_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    table = new(tmp_path / "metrics.csv")
    fill(table, range(STEPS))
    expected = [{"step": step, **values(step), "another": float(step)} for step in range(STEPS)]
    for _ in range(2):
        assert [repr(sorted(row.items())) for row in table.all()] == [repr(sorted(row.items())) for row in expected]
        assert len(table.rows) == 1, "memory does not hold them"
        table.write()


def test_what_is_added_to_the_last_row_after_it_was_written_is_in_the_file(tmp_path: Path) -> None:
    table = new(tmp_path / "metrics.csv")
    table.add(1, {"a": 1.0, "b": 0.123456789})
    table.write()
    table.add(1, {"b": 2.0})
    table.add(2, {"a": 3.0})
    table.write()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1.0,2.0\n2,3.0,\n"


def test_half_a_row_of_a_write_that_failed_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = new(path)
    for step in range(4):
        table.add(step, {"a": 0.5})
    table.write()
    whole = path.read_text()
    with files_of_at_most(len(whole) + 3), pytest.raises(Unwritable):
        table.add(4, {"a": 0.123456789})
        table.write()
    assert path.read_text() == whole + "4,0"
    table.rows[-1]["a"] = 1
    table.write()
    assert path.read_text() == whole + "4,1\n"


@pytest.mark.parametrize("damage", ["removed", "another value", "cut", "other columns", "no table", "no numbers"])
def test_a_file_that_was_changed_is_named_and_the_table_goes_on(
    tmp_path: Path, killed: dict[str, Any], damage: str
) -> None:
    path = tmp_path / "run" / "metrics.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("0.3333", "0.9999")
    changed = {
        "another value": lines,
        "cut": lines[:5],
        "other columns": ["step,b\n", *lines[1:]],
        "no table": ["\0\xff" * 9000],
        "no numbers": [lines[0], "\n", "one,two\n", ",\n", *lines[3:]],
    }
    path.write_text("".join(changed[damage])) if damage in changed else path.unlink()
    kept = {"another value": range(SAVED_AT), "cut": range(4), "no numbers": range(2, SAVED_AT)}.get(damage, range(0))
    with pytest.warns(
        UserWarning, match=rf"metrics\.csv' does not hold the 17 rows .* goes on after the {len(kept)} rows"
    ):
        table = new(path, killed)
    fill(table, range(SAVED_AT + 1, STEPS))
    table.write()
    steps = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
    assert steps == [*kept, *range(SAVED_AT, STEPS)] and len(table.all()) == len(steps)


def test_a_file_removed_in_mid_run_is_begun_anew_and_named(tmp_path: Path) -> None:
    table = new(tmp_path / "metrics.csv")
    fill(table, range(5))
    (tmp_path / "metrics.csv").unlink()
    with pytest.warns(UserWarning, match="was removed or changed; it goes on after the 0 rows"):
        fill(table, range(5, 8))
    table.write()
    assert [row["step"] for row in table.all()] == [4, 5, 6, 7]


def test_a_folder_removed_in_mid_run_is_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    table = new(tmp_path / "run" / "metrics.csv")
    fill(table, range(5))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(Unwritable, match=r"The folder was removed"):
        fill(table, range(5, 8))
    assert not (tmp_path / "run").exists()


def test_a_write_that_fails_halfway_loses_no_row(tmp_path: Path, straight: bytes) -> None:
    """Half a row is in the file then."""
    path = tmp_path / "metrics.csv"
    table = new(path)
    fill(table, range(SAVED_AT))
    with files_of_at_most(path.stat().st_size + 10):
        for step in range(SAVED_AT, SAVED_AT + 4):
            for more in (values(step), {"another": float(step)}):
                with suppress(Unwritable):
                    table.add(step, more)
    assert len(table.rows) > 2 and go_on(path, read_back(table.state()), start=SAVED_AT + 4) == straight
    fill(table, range(SAVED_AT + 4, STEPS))
    table.write()
    assert path.read_bytes() == straight


def test_the_state_does_not_grow_with_the_run(tmp_path: Path) -> None:
    table, sizes = new(tmp_path / "metrics.csv"), []
    for step in range(2000):
        table.add(step, {"train/loss": 1.0})
        if step in (10, 1999):
            sizes.append(len(repr(table.state())))
    assert sizes[1] <= sizes[0] + 20


def test_other_processes_keep_no_rows() -> None:
    table = Table()
    fill(table, range(100))
    assert len(table.rows) == 1 and table.all() == table.rows
