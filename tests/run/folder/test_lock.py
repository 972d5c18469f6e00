"""One job at a time writes into a run folder, and a killed one leaves no lock behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from holding import Holder

from ssl_lightning.data.files.unwritable import Unwritable
from ssl_lightning.run.folder.lock import FolderInUse, FolderLock, is_locked


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    holder = Holder(tmp_path)
    yield holder
    holder.kill()


def test_the_second_process_is_refused_and_told_who_holds_it(tmp_path: Path, holder: Holder) -> None:
    assert is_locked(tmp_path)
    with pytest.raises(
        FolderInUse,
        match=rf"{tmp_path}' is in use by process {holder.pid} on .* since 2.*Wait until it has ended, or stop it;"
        r" `--resume none` starts a run of its own",
    ):
        FolderLock().take(tmp_path)
    assert is_locked(tmp_path), "a refusal leaves the lock with its holder"


@pytest.mark.parametrize("with_worker", [False, True])
def test_a_killed_process_gives_it_back_though_its_workers_live_on(tmp_path: Path, with_worker: bool) -> None:
    holder = Holder(tmp_path, with_worker)
    holder.kill()
    try:
        assert not is_locked(tmp_path)
        FolderLock().take(tmp_path)
    finally:
        if with_worker:
            os.kill(holder.worker, signal.SIGKILL)


def test_it_is_given_back_and_taken_again(tmp_path: Path) -> None:
    assert not is_locked(tmp_path), "a folder of before has no lock"
    lock = FolderLock()
    lock.take(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()
    lock.release()
    lock.release()
    holder = Holder(tmp_path)
    holder.kill()
    lock.take(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()


def test_who_only_looks_does_not_get_in_the_way(tmp_path: Path, holder: Holder) -> None:
    """Several may look at once, and who takes the lock waits until they have."""
    holder.kill()
    ready = os.pipe()
    looks = os.fork()
    if looks == 0:
        file = os.open(tmp_path / ".lock", os.O_RDONLY)
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.write(ready[1], b".")
        time.sleep(0.3)
        os._exit(0)
    os.read(ready[0], 1)
    assert not is_locked(tmp_path)
    FolderLock().take(tmp_path)
    os.waitpid(looks, 0)
    holder.pid = Holder(tmp_path / "..").pid  # for the fixture to kill


def test_a_file_system_without_locks_is_told_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    with pytest.warns(UserWarning, match=r"has no locks \(No locks available\): let no two jobs"):
        FolderLock().take(tmp_path)


def test_a_folder_that_cannot_be_written_is_another_error(tmp_path: Path) -> None:
    with pytest.raises(Unwritable):
        FolderLock().take(tmp_path / "absent")
