"""The second step on sound: an encoder of a run gets from other recordings the views that it was
pretrained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ssl_lightning.datamodules.tones import Tones
from ssl_lightning.methods.finetune import Finetune

from ssl_lightning import Trainer, WaveTransformer
from ssl_lightning.cli.main import main
from ssl_lightning.data.sound.settings import SOUND
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.run.checkpoints.encoder_file import save_encoder

STEM = {"kernels": [10, 3, 3, 3], "strides": [10, 2, 2, 2]}


def run_of(folder: Path, encoder: WaveTransformer | FrameTransformer, **arguments: object) -> Path:
    folder.mkdir()
    data = Tones(**arguments)  # type: ignore[arg-type]
    data.prepare_data()
    save_encoder(encoder, folder / "encoder.safetensors", data.artifacts())
    return folder


def chosen(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--model", "finetune", "--model.checkpoint", str(run), "--data", "tones", *more, "--print_config"])
    assert not end.value.code
    arguments: dict[str, object] = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    return arguments


@pytest.mark.slow
def test_the_data_takes_over_how_the_run_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waves = run_of(
        tmp_path / "waves",
        WaveTransformer(size="tiny", depth=1, **STEM),
        features="wave",
        sample_rate=4000,
        normalise=False,
    )  # type: ignore[arg-type]
    assert chosen(waves, capsys).items() >= {"features": "wave", "sample_rate": 4000, "normalise": False}.items()
    mels = run_of(
        tmp_path / "mels", FrameTransformer(mels=24, dim=32, depth=1), mels=24, hop=0.02, statistics=(-3.0, 2.0)
    )
    found = chosen(mels, capsys)
    assert found.items() >= {"features": "log_mel", "mels": 24, "hop": 0.02}.items() and list(found["statistics"]) == [
        -3.0,
        2.0,
    ]  # type: ignore[call-overload]
    assert chosen(mels, capsys, "--data.mels", "32")["mels"] == 32  # said on the command line


@pytest.mark.slow
def test_it_learns_from_few_labels_and_refuses_what_would_sound_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = FrameTransformer(mels=24, dim=32, depth=1)
    run = run_of(tmp_path / "run", encoder, mels=24, statistics=(-3.0, 2.0))
    quiet = {"max_steps": 2, "logger": None, "enable_progress_bar": False, "accelerator": "cpu"}
    data = Tones(mels=24, statistics=(-3.0, 2.0), labels_per_class=4, seconds=0.5)
    trainer = Trainer(**quiet)
    trainer.fit(Finetune(encoder, checkpoint=str(run)), datamodule=data)
    assert trainer.global_step == 2 and json.loads((trainer.run_folder / SOUND).read_text())["seconds"] == 0.5
    with pytest.raises(
        Exception,
        match=(r"The data has statistics=\[-1\.0, 2\.0\], not \[-3\.0, 2\.0\] as in the encoder's run"),
    ):
        Trainer(**quiet).fit(
            Finetune(encoder, checkpoint=str(run)),
            datamodule=Tones(mels=24, statistics=(-1.0, 2.0), labels_per_class=4),
        )
