"""Whatever is written is there whole or not at all, whoever else writes, and whatever fails."""

from __future__ import annotations

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ssl_lightning.data.files import atomic as module
from ssl_lightning.data.files.atomic import atomic, atomic_folder, to_disk, write_bytes, write_text

ROOT = Path(__file__).parents[3]


def by_torch(path: Path) -> None:
    with atomic(path) as temporary:
        torch.save({"new": torch.ones(300)}, temporary)


def by_safetensors(path: Path) -> None:
    with atomic(path) as temporary:
        save_file({"new": torch.ones(300)}, temporary)


def by_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "below").mkdir()
        save_file({"new": torch.ones(3)}, temporary / "below" / "file")


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new ü\n"), "bytes": lambda path: write_bytes(path, b"new"),
    "torch": by_torch, "safetensors": by_safetensors, "folder": by_folder,
}  # fmt: skip
FILES = {name: write for name, write in WRITERS.items() if name != "folder"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_others_may_read_it_as_the_umask_says(tmp_path: Path, umask: int, write: Callable[[Path], None]) -> None:
    target = tmp_path / "a folder" / "name"
    write(target)
    for path in (target, *target.rglob("*"), target.parent):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, f"{path}: {path.stat().st_mode:o}"


def test_a_text_is_written_in_utf_8_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "ü\r\n\n")
    assert (tmp_path / "a").read_bytes() == "ü\r\n\n".encode()


def fail(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("failure", ["write", "fsync", "replace"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_failure_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], failure: str
) -> None:
    target = tmp_path / "name"
    if write is by_folder:
        target.mkdir()
    else:
        target.write_text("old")
    if failure == "write":
        with pytest.raises(OSError, match="no space"), (atomic_folder if write is by_folder else atomic)(target):
            fail()
    else:
        monkeypatch.setattr(os, failure, fail)
        with pytest.raises(OSError, match="no space"):
            write(target)
        monkeypatch.undo()
    assert names(tmp_path) == ["name"]
    assert target.read_text() == "old" if target.is_file() else names(target) == []
    write(target)
    assert names(tmp_path) == ["name"] and (target.is_dir() or target.read_bytes() != b"old")


def test_an_interrupt_in_the_middle_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "name", "old")
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "name") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["name"] and (tmp_path / "name").read_text() == "old"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_it_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    """And the folder after it: else a power cut leaves an empty file under the new name."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", traced)
    monkeypatch.setattr(os, "replace", lambda *args: (replace(*args), events.append("renamed")))
    write(tmp_path / "parent" / "name")
    before, after = events[: events.index("renamed")], events[events.index("renamed") + 1 :]
    assert after == ["parent"] and before[-1].startswith(".name.") and before[-1].endswith(".tmp")
    assert before[:-1] == (["file", "below"] if write is by_folder else [])


def test_a_file_system_that_syncs_no_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def picky(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    write_text(tmp_path / "a", "new")
    to_disk(tmp_path)
    assert (tmp_path / "a").read_text() == "new"


AT_ONCE = """
import sys
from ssl_lightning.data.files.atomic import write_text

sys.stdin.readline()
for _ in range(200):
    write_text(sys.argv[1], sys.argv[2] * 200_000)
"""


def is_whole(text: str) -> bool:
    return len(text) == 200_000 and len(set(text)) == 1


def test_two_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    """Whoever reads meanwhile meets a whole file of one of them."""
    target = tmp_path / "name"
    write_text(target, "0" * 200_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE, str(target), letter], stdin=subprocess.PIPE) for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    while any(writer.poll() is None for writer in writers):
        assert is_whole(target.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["name"]


def test_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    target = tmp_path / "name"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: write_text(target, str(number % 10) * 200_000), range(100)))
    assert is_whole(target.read_text()) and names(tmp_path) == ["name"]


def test_processes_with_the_same_number_on_other_hosts_use_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with atomic(tmp_path / "name") as one, atomic(tmp_path / "name") as two:
        assert one != two and one.parent == two.parent == tmp_path


KILLED = """
import os, signal, sys
from ssl_lightning.data.files.atomic import atomic

with atomic(sys.argv[1]) as temporary:
    temporary.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "name", "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "name")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "name").read_text() == "old"
    (left,) = (path for path in tmp_path.iterdir() if path.name != "name")
    assert left.name.startswith(".name.") and left.name.endswith(".tmp"), "whoever tidies up knows it by its name"


# Nothing writes in another way.

RENAMES = {"os.replace", "os.rename", "tempfile.NamedTemporaryFile", "tempfile.mkstemp", "tempfile.mkdtemp"}
ALLOWED = {("store.py", "os.rename"), ("store.py", "(folder / META).write_text")}
"""A store is written into a folder of its own, and the first that is finished stays."""


def writes(path: str, source: str) -> list[str]:
    """Calls that replace files by hand, or write them in place, where a reader may meet half of
    one."""
    written = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = ast.unparse(node.func)
        replaces = node.func.attr in ("replace", "rename") and len(node.args) == 1 and not node.keywords  # a Path's
        in_place = node.func.attr in ("write_text", "write_bytes") and "temporary" not in name
        if (name in RENAMES or replaces or in_place) and (Path(path).name, name) not in ALLOWED:
            written.append(f"{path}:{node.lineno} {name}")
    return written


@pytest.mark.parametrize(
    "source",
    ["os.replace(a, b)", "temporary.replace(path)", "tempfile.NamedTemporaryFile()", "(folder / 'a').write_text(text)"],
)
def test_a_write_by_hand_is_found(source: str) -> None:
    assert writes("a.py", source)
    assert not writes("a.py", "text.replace('a', 'b')\ndataclasses.replace(spec, lr=1)\ntemporary.write_text(text)")


def test_nothing_writes_files_by_hand() -> None:
    written = []
    for folder in ("ssl_lightning", "methods", "datamodules"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(module.__file__).resolve():
                written += writes(path.relative_to(ROOT).as_posix(), path.read_text())
    assert written == []
