"""What Windows lacks is not needed: no module, call or file operation that only Unix has. These
tests pretend, on any system; nothing was run on Windows."""

from __future__ import annotations

import ast
import errno
import importlib.util
import ntpath
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ssl_lightning.data.files import atomic as module
from ssl_lightning.data.files.atomic import atomic, atomic_folder, write_text
from ssl_lightning.data.files.file_list import list_files
from ssl_lightning.run.folder import lock

ROOT = Path(__file__).parents[1]
PARTS = ("ssl_lightning", "methods", "datamodules")
UNIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
UNIX_CALLS = {
    "fork", "getuid", "geteuid", "getgid", "killpg", "mkfifo", "nice", "pread", "pwrite", "register_at_fork", "setsid",
    "setpgid", "statvfs", "wait4", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGHUP", "alarm",
    "pthread_sigmask",
}  # fmt: skip


def only_on_unix(source: str) -> list[str]:
    """Imports of Unix's modules and names of `os` and `signal` that only Unix has."""
    offences = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            offences += [alias.name for alias in node.names if alias.name.partition(".")[0] in UNIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNIX_MODULES:
            offences.append(str(node.module))
        elif (
            isinstance(node, ast.Attribute) and node.attr in UNIX_CALLS and ast.unparse(node.value) in ("os", "signal")
        ):
            offences.append(ast.unparse(node))
    return offences


@pytest.mark.parametrize(
    "source", ["import fcntl", "from resource import getrusage", "import os\nos.pwrite(1, b'', 0)"]
)
def test_the_tool_sees_what_only_unix_has(source: str) -> None:
    assert only_on_unix(source)


def test_nothing_that_only_unix_has_is_used() -> None:
    files = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
    assert len(files) > 150
    offences = {str(path.relative_to(ROOT)): only_on_unix(path.read_text()) for path in files}
    assert not {path: names for path, names in offences.items() if names}


class Msvcrt(SimpleNamespace):
    """Windows' locks: of a range of a file's bytes, by an open file; the second one is refused."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__(holders={}, places=[])

    def locking(self, file: int, mode: int, count: int) -> None:
        assert mode == self.LK_NBLCK and count == 1
        self.places.append(os.lseek(file, 0, os.SEEK_CUR))
        number, holder = os.fstat(file).st_ino, self.holders.get(os.fstat(file).st_ino)
        if holder not in (None, file) and is_open(holder, number):
            raise OSError(errno.EACCES, "Permission denied")
        self.holders[number] = file


def is_open(file: int, number: int) -> bool:
    try:
        return os.fstat(file).st_ino == number
    except OSError:
        return False


def lock_module(monkeypatch: pytest.MonkeyPatch, msvcrt: Any) -> ModuleType:
    """The module as it is imported where there is no `fcntl`."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    spec = importlib.util.spec_from_file_location("ssl_lightning.run.folder.lock_on_windows", lock.__file__)
    assert spec is not None and spec.loader is not None
    imported: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(imported)
    imported.PATIENCE = 0.05
    return imported  # type: ignore[no-any-return]


def test_a_run_folder_is_locked_by_what_windows_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Msvcrt()
    there: Any = lock_module(monkeypatch, windows)
    assert not there.is_locked(tmp_path)
    first, second = there.FolderLock(), there.FolderLock()
    first.take(tmp_path)
    assert there.is_locked(tmp_path)
    with pytest.raises(there.FolderInUse, match=f"in use by process {os.getpid()} on "):
        second.take(tmp_path)
    first.release()
    assert not there.is_locked(tmp_path)
    second.take(tmp_path)
    holder = (tmp_path / lock.FILE).read_text()
    assert holder.startswith(f"process {os.getpid()} on ")
    assert min(windows.places) > 10**6, "Windows lets nobody read the bytes that are locked"
    second.release()


def test_without_any_locks_a_run_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: Any = lock_module(monkeypatch, None)
    with pytest.warns(UserWarning, match="has no locks .*: let no two jobs"):
        there.FolderLock().take(tmp_path)


def test_files_and_folders_are_written_though_windows_opens_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it sync a file that is open for reading alone."""
    synced, flags_of, opened = [], {}, os.open

    def open_file(path: Any, flags: int, *args: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        descriptor = opened(path, flags, *args)
        flags_of[descriptor] = flags
        return descriptor

    def sync(descriptor: int) -> None:
        if flags_of[descriptor] & (os.O_RDWR | os.O_WRONLY) == 0:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(descriptor)

    monkeypatch.setattr(module, "WINDOWS", True)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "fsync", sync)
    write_text(tmp_path / "a.txt", "new")
    with atomic_folder(tmp_path / "below") as temporary:
        (temporary / "deeper").mkdir()
        (temporary / "deeper" / "file").write_text("new")
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("newer")
    assert (tmp_path / "a.txt").read_text() == "newer" and (tmp_path / "below" / "deeper" / "file").is_file()
    assert len(synced) == 3


def test_names_of_class_folders_hold_no_separator_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train/cat/young/1.png", "train/cat/2.png", "train/dog/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    join = os.path.join

    def with_backslash(first: Any, *rest: Any) -> Any:
        return join(first, *rest) if os.path.isabs(first) or not first else ntpath.join(first, *rest)

    monkeypatch.setattr(os.path, "join", with_backslash)
    listed = list_files(tmp_path, [".png"], cache=None)
    monkeypatch.undo()
    assert [listed.relative(index) for index in range(3)] == [
        "train/cat/2.png", "train/cat/young/1.png", "train/dog/3.png",
    ]  # fmt: skip
    assert list_files(tmp_path / "train", [".png"], cache=None).folders().names == ["cat", "dog"]
