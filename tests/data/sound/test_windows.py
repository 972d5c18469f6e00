"""Of a recording that is longer than a view all is judged, not its middle; and the run says how
many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ssl_lightning.datamodules.audio_folder import AudioFolder
from torch import Tensor, nn

from ssl_lightning import View, ViewSpec
from ssl_lightning.data.peek import embed, features_here
from ssl_lightning.data.sources import Subset

RATE = 8000
SECONDS = {"long": 3.3, "short": 0.2, "second": 1.0, "longer": 73.0}


class Asks:
    views = ViewSpec(full=2)


class Levels(nn.Module):
    def forward(self, view: View) -> Tensor:
        return view.x.float().flatten(1).mean(1, keepdim=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Noise that grows louder and louder: a part says where it is from."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, (name, seconds) in enumerate(SECONDS.items()):
            x = random.uniform(-1, 1, int(seconds * RATE))
            path = tmp_path / "sounds" / split / "ab"[number % 2] / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, x * np.geomspace(0.01, 1, len(x)), RATE, subtype="FLOAT")
    return tmp_path / "sounds"


def data(folder: Path, **args: Any) -> AudioFolder:
    module = AudioFolder(str(folder), **{"sample_rate": RATE, "seconds": 1.0, "batch_size": 2, **args})
    module.serve(Asks())  # type: ignore[arg-type]
    return module


@pytest.mark.parametrize("args", [{}, {"sample_rate": 6000}, {"features": "wave", "normalise": False}])
def test_features_are_the_mean_over_windows_that_cover_a_recording(folder: Path, args: dict[str, Any]) -> None:
    module = data(folder, **args)
    source = module.split("test")
    assert source is not None
    names = [Path(source.name(number)).stem for number in range(4)]  # type: ignore[attr-defined]
    windows = source.windows()
    assert windows is not None
    assert dict(zip(names, windows.counts.tolist(), strict=True)) == {"long": 4, "short": 1, "second": 1, "longer": 32}
    features = embed(Levels(), module, source)
    middle = data(folder, **args)
    alone = middle.split("test")
    alone.view = None  # type: ignore[union-attr]  # as if no recording were longer than a view
    of_middle = embed(Levels(), middle, alone)  # type: ignore[arg-type]
    for number, name in enumerate(names):
        assert torch.equal(features[number], of_middle[number]) == (name in ("short", "second")), name
    part = torch.tensor([names.index("long"), names.index("short")])
    torch.testing.assert_close(embed(Levels(), module, Subset(source, part)), features[part])
    raw = features_here(None, module, source, torch.arange(4))
    assert raw.shape[0] == 4 and bool(raw.isfinite().all())


def test_windows_are_stretches_of_the_recording(folder: Path) -> None:
    module = data(folder)
    source = module.split("test")
    assert source is not None
    windows = source.windows()
    assert windows is not None
    for number in range(4):
        positions, _ = windows.of(torch.tensor([number]))
        x = module.fetch_clean(windows.source, positions).x
        whole = torch.from_numpy(soundfile.read(source.name(number), dtype="float32")[0])  # type: ignore[attr-defined]
        starts = [round(each * max(0, len(whole) - RATE) / max(1, len(x) - 1)) for each in range(len(x))]
        for row, start in zip(x, starts, strict=True):
            expected = whole[start - 1 if start and row[0] != whole[start] else start :][:RATE]  # rounded down
            assert torch.equal(row[: len(expected)], expected)


def test_the_ledger_counts_what_is_longer_and_shorter(folder: Path) -> None:
    lines = "\n".join(map(str, data(folder).ledger()))
    assert "test: 4 files for test (labels of 2 classes; 2 longer than a view, judged by the mean over 36" in lines
    assert "1 shorter than a view, 80% of which is padding" in lines
    whole = AudioFolder(str(folder), sample_rate=RATE, seconds=None, batch_size=2).split("test")
    assert whole is not None and whole.windows() is None


def test_a_broken_recording_is_replaced_by_a_window_of_another(folder: Path) -> None:
    (folder / "test" / "a" / "long.wav").write_bytes(b"")
    module = data(folder, unreadable="skip", max_unreadable=0.5)
    source = module.split("test")
    assert source is not None and bool(embed(Levels(), module, source).isfinite().all())
    assert [Path(name).name for name in source.skipped_names.values()] == ["long.wav"]  # type: ignore[attr-defined]
