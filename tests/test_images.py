"""What all image data share: probe sets that fit the encoder, and images that are skipped wherever they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import ConvEncoder, Trainer, ViewSpec
from ssl_lightning.report import Report


class Asks:
    views = ViewSpec(full=2)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    values = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(values.integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_a_probe_set_of_other_channels_is_refused_before_training(photos: Path) -> None:
    def data(**changes: Any) -> ImageFolder:
        return ImageFolder(str(photos), image_size=16, batch_size=8, probe_sets={"numbers": Digits()}, **changes)

    with pytest.raises(ValueError, match=r"probe_sets.numbers: Digits has images of 1 channel, ImageFolder of 3, .* `channels`"):
        data().serve(Asks())
    data(channels=1).serve(Asks())


def test_images_that_a_probe_set_skips_are_told_too(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = photos / "cat" / "3.png"
    broken.write_bytes(b"")
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu", max_steps=1, default_root_dir=tmp_path / "runs", enable_progress_bar=False, callbacks=[Report(enabled=False)]
    )
    probed = ImageFolder(str(photos), image_size=16, channels=1, unreadable="skip")
    trainer.fit(SimCLR(ConvEncoder(channels=1, width=4)), datamodule=Digits(probe_sets={"photos": probed}))
    assert f"taken: 1 ({broken})" in capsys.readouterr().out
    assert trainer.run_folder is not None and (trainer.run_folder / "unreadable.txt").read_text() == f"{broken}\n"
