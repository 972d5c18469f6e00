"""A file is identified by its content, which is read again only where it may have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ssl_lightning.data.files import contents
from ssl_lightning.data.files.contents import digests


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content is read from now on."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    read, digest = [], contents._digest
    monkeypatch.setattr(contents, "_digest", lambda path: read.append(path) or digest(path))
    return read


def make(folder: Path, *texts: str) -> list[Path]:
    folder.mkdir()
    paths = [folder / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


@pytest.mark.parametrize("cheap", [0, contents.CHEAP])
def test_it_changes_with_the_content_alone(
    tmp_path: Path, reads: list[Path], cheap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CHEAP", cheap)
    monkeypatch.setattr(contents, "RECENT", 0)
    paths = make(tmp_path / "set", "one", "two")
    before = digests(paths)
    assert len(set(before)) == 2 and digests(paths) == before
    os.utime(paths[0], ns=(1, 1))
    assert digests(paths) == before
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / path.name for path in paths]
    assert digests(moved) == before
    date = moved[1].stat().st_mtime_ns
    moved[1].write_text("six")  # of equal size and date
    os.utime(moved[1], ns=(date, date))
    assert digests(moved)[0] == before[0] and digests(moved)[1] != before[1]


def test_of_large_files_only_those_that_may_have_changed_are_read_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CHEAP", 0)
    monkeypatch.setattr(contents, "RECENT", 10**15)
    paths = make(tmp_path / "set", "one", "two")
    before = digests(paths)
    reads.clear()
    assert digests(paths) == before and reads == paths  # just written: one more change may bear the same date
    monkeypatch.setattr(contents, "RECENT", 0)
    time.sleep(0.01)
    (tmp_path / "cache" / os.listdir(tmp_path / "cache")[0]).write_bytes(b"damaged")
    digests(paths)
    reads.clear()
    assert digests(paths) == before and reads == []
    paths[1].write_text("six")
    assert digests(paths)[0] == before[0] and reads == paths[1:]
