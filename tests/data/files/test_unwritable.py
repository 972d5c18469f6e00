"""What cannot be written is told in one line, whichever library wrote."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from disks import files_of_at_most
from safetensors.torch import save_file

from ssl_lightning.data.files import unwritable
from ssl_lightning.data.files.atomic import atomic, atomic_folder, write_bytes, write_text
from ssl_lightning.data.files.kept import kept
from ssl_lightning.data.files.unwritable import Unwritable, explained


def by_torch(path: Path) -> None:
    with atomic(path) as temporary:
        torch.save({"new": torch.ones(300_000)}, temporary)


def by_torch_in_python(path: Path) -> None:
    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save({"new": torch.ones(300_000)}, file)


def by_safetensors(path: Path) -> None:
    with atomic(path) as temporary:
        save_file({"new": torch.ones(300_000)}, temporary)


def by_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        save_file({"new": torch.ones(300_000)}, temporary / "file")


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new" * 300_000), "bytes": lambda path: write_bytes(path, b"n" * 300_000),
    "torch": by_torch, "torch into a file of Python's": by_torch_in_python, "safetensors": by_safetensors,
    "folder": by_folder,
}  # fmt: skip


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_write_that_ends_halfway_is_one_line_and_leaves_nothing(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with files_of_at_most(100_000), pytest.raises(Unwritable) as caught:
        write(tmp_path / "name")
    line = str(caught.value)
    assert line.startswith(f"{str(tmp_path / 'name')!r} cannot be written: ") and "\n" not in line, line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, r"No space left on device \(it needs 0\.9 MB; [0-9,.]+ MB free in .*\)\. Make room there\."),
        (errno.EDQUOT, r"Disk quota exceeded \(it needs 0\.9 MB; .*\)\. Make room there\."),
        (errno.EROFS, r"Read-only file system\. Let this process write there, or choose another folder\."),
        (errno.EACCES, r"Permission denied\. Let this process"),
        (errno.EIO, r"Input/output error\. Check the disk"),
        (errno.ESTALE, r"Stale file handle\. The folder was removed"),
    ],
)
def test_the_line_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unwritable, match=says):
        write_bytes(tmp_path / "name", b"0" * 900_000)


def test_it_does_not_begin_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwritable, "_free", lambda folder: 1_000)
    monkeypatch.setattr(os, "open", lambda *args: pytest.fail("began"))
    with pytest.raises(Unwritable, match=r"it needs 2\.0 MB; 0\.0 MB free"), atomic(tmp_path / "name", 2_000_000):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable, match=r"file/below/name' cannot be written: Not a directory"):
        write_text(tmp_path / "file" / "below" / "name", "new")


def test_errors_that_are_not_of_writing_pass(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "missing"
    (tmp_path / "here").mkdir()
    for error in (FileNotFoundError(errno.ENOENT, "No such file", str(elsewhere)), ConnectionRefusedError(111, "no"),
                  ValueError("a mistake"), RuntimeError("CUDA error")):  # fmt: skip
        with pytest.raises(type(error)) as caught, explained(tmp_path / "here" / "name"):
            raise error
        assert caught.value is error


def test_the_error_reaches_other_processes() -> None:
    error = pickle.loads(pickle.dumps(Unwritable("a line", "a reason")))
    assert isinstance(error, Unwritable) and str(error) == "a line" and error.reason == "a reason"


def test_a_full_cache_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path))
    with (
        files_of_at_most(100_000),
        pytest.raises(Unwritable, match=r"^The cache folder .* cannot be written: .* variable SSL_LIGHTNING_CACHE\.$"),
    ):
        kept("value", lambda: torch.ones(300_000))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    fresh, old, folder, other = (tmp_path / f".{name}.tmp" for name in ("name.1", "name.2", "name.3", "other.4"))
    folder.mkdir()
    for file in (fresh, old, other, folder / "part"):
        file.touch()
    for file in (old, other, folder / "part", folder):
        os.utime(file, (0, 0))
    write_text(tmp_path / "name", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".name.1.tmp", ".other.4.tmp", "name"]
