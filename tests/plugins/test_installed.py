"""Entry points are read once, and again when a package is installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from ssl_lightning.plugins import installed as module
from ssl_lightning.plugins.installed import installed


def install(folder: Path, name: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ssl_lightning.methods]\n{name} = {name}:Method\n")


def test_what_is_installed_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    every = metadata.entry_points

    def counted() -> object:
        reads.append(1)
        return every()

    monkeypatch.setattr(module, "entry_points", counted)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not {"acme_one", "acme_two"} & installed("ssl_lightning.methods").names
    install(tmp_path, "acme_one")
    assert "acme_one" in installed("ssl_lightning.methods").names
    count = len(reads)
    for _ in range(3):
        assert {"simclr", "acme_one"} <= installed("ssl_lightning.methods").names
        assert "digits" in installed("ssl_lightning.datamodules").names
    assert len(reads) == count == 2
    install(tmp_path, "acme_two")
    assert "acme_two" in installed("ssl_lightning.methods").names
    (tmp_path / "acme_one-1.0.dist-info").rename(tmp_path / "gone")
    assert "acme_one" not in installed("ssl_lightning.methods").names
