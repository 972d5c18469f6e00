"""What all sound data share: statistics of their own, raw features without padding, probe sets that
fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import ConvEncoder, Trainer, ViewSpec, load
from ssl_lightning.augment.window import Waves
from ssl_lightning.evaluation.report import Report

ARGS: dict[str, Any] = {"sample_rate": 8000, "mels": 32, "seconds": 0.4, "window": 0.032, "batch_size": 8}


class Asks:
    views = ViewSpec(full=2, clean=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sounds(tmp_path / "sounds", [f"{'ab'[number % 2]}/{number}.wav" for number in range(16)])


def data(folder: Path, **changes: Any) -> AudioFolder:
    made = AudioFolder(str(folder), **{**ARGS, **changes})
    made.serve(Asks())
    return made


def test_log_mels_of_recordings_have_mean_0_and_deviation_1(folder: Path) -> None:
    """Padding apart, which is not sound."""
    sounds = data(folder)
    raw = sounds.fetch_clean(sounds.training_split, torch.arange(16))
    assert raw.lengths is not None and int(raw.lengths.min()) < 3200
    x = sounds.transform("none")(raw, torch.zeros(16, dtype=torch.int64)).x[:, 0]  # [S, M, F]
    real = torch.cat([x[row, :, : length // 80].flatten() for row, length in enumerate(raw.lengths.tolist())])
    assert abs(float(real.mean())) < 1e-3 and abs(float(real.std()) - 1) < 1e-3
    assert float(x.mean()) < -0.05


def test_statistics_are_kept_until_a_recording_changes(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data(folder).statistics
    assert len(list(cache.glob("sound-*.pt"))) == 1 and first.bank.shape == (16, 32, 40)
    with monkeypatch.context() as patch:
        patch.setattr("ssl_lightning.data.sound.statistics._compute", lambda *args: pytest.fail("computed again"))
        assert data(folder).statistics[:2] == first[:2] and torch.equal(data(folder).statistics.bank, first.bank)
    write_sounds(folder, ["a/0.wav"], rate=16_000)
    assert data(folder).statistics[:2] != first[:2]
    assert data(folder, mels=24).statistics.bank.shape[1] == 24
    (next(iter(cache.glob("sound-*.pt")))).write_bytes(b"damaged")
    assert data(folder).statistics.mean < 0


def test_raw_features_are_mean_and_deviation_of_the_recording_alone(folder: Path) -> None:
    sounds = data(folder)
    x, lengths = torch.randn(3, 3200), torch.tensor([3200, 1600, 40])
    x *= torch.arange(3200) < lengths[:, None]
    found, log_mels = sounds.raw_features(Waves(x, lengths)), sounds.mel(x)
    for row, frames in enumerate((40, 20, 1)):
        part = log_mels[row, :, :frames]
        torch.testing.assert_close(
            found[row], torch.cat([part.mean(1), part.std(1, correction=0)]), atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(sounds.raw_features(Waves(x[:1])), found[:1])


def test_probe_sets_are_normalised_as_what_is_pretrained_on(folder: Path, tmp_path: Path) -> None:
    write_sounds(tmp_path / "others", [f"{'ab'[number % 2]}/{number}.wav" for number in range(100, 116)], rate=16_000)
    others = AudioFolder(str(tmp_path / "others"), **ARGS)
    own = others.statistics[:2]
    sounds = data(folder, probe_sets={"others": others})
    assert others.statistics[:2] == sounds.statistics[:2] != own
    with pytest.raises(
        ValueError,
        match=(
            r"probe_sets.others has views of .* \('log_mel', 8000, 24, 40\), AudioFolder of \('log_mel', 8000, 32, 40\)"
        ),
    ):
        data(folder, probe_sets={"others": AudioFolder(str(tmp_path / "others"), **{**ARGS, "mels": 24})})


def test_a_run_keeps_its_statistics_and_refuses_others(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sounds = AudioFolder(str(folder), **ARGS)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        default_root_dir=tmp_path / "runs",
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(SimCLR(ConvEncoder(channels=1, width=4)), datamodule=sounds)
    assert trainer.run_folder is not None
    assert json.loads((trainer.run_folder / "sound.json").read_text())["statistics"] == list(sounds.statistics[:2])
    state = sounds.state_dict()
    other = data(folder, statistics=(-1.0, 2.0))
    assert other.statistics[:2] == (-1.0, 2.0)
    with pytest.raises(
        ValueError, match=r"trained on log-mels with mean and standard deviation \[.*\], this data has \[-1.0, 2.0\]"
    ):
        other.load_state_dict(state)
    data(folder).load_state_dict(state)
    checkpoint = next((trainer.run_folder / "checkpoints").glob("*.ckpt"))
    assert isinstance(load(checkpoint), SimCLR)


@pytest.mark.parametrize("features", ["log_mel", "wave"])
def test_no_view_of_a_recording_is_drawn_twice(folder: Path, features: str) -> None:
    sounds = data(folder, features=features, seconds=0.2)
    source, index = sounds.training_split, torch.arange(16)

    def batch(pass_: int) -> list[torch.Tensor]:
        return [
            view.x
            for view in sounds.make_batch(
                {"raw": source.fetch(index), "index": index, "pass": torch.full_like(index, pass_)}
            )["views"]
        ]

    first, again, later = batch(0), batch(0), batch(1)
    assert torch.equal(first[0], again[0]) and torch.equal(first[2], later[2])
    for other in (first[1], later[0], first[2]):
        assert bool((first[0] - other).flatten(1).abs().amax(1).gt(0.02).all())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": "mel"}, r"features='mel' is unknown. Did you mean 'log_mel'\?"),
        ({"spectrogram": "htk"}, "spectrogram='htk' is unknown"),
        ({"seconds": 0.001}, "seconds=0.001 is shorter than hop=0.01"),
        ({"statistics": (0.0, 0.0)}, "give a mean and a positive standard deviation"),
        ({"augmentation": {"nois_p": 1}}, r"augmentation has no field 'nois_p'. Did you mean 'noise_p'\?"),
        ({"augmentation": {"masks": [1.5, 1]}}, "does not fit; give 2 whole numbers"),
        ({"augmentation": {"gain": 3}}, "augmentation.gain=3 does not fit; give 2 numbers"),
        ({"augmentation": {"noise_p": 3}}, r"augmentation=\{'noise_p': 3\} does not fit: Noise\(p=3\) must be"),
        ({"cache": "device"}, "cache=device needs samples of one size"),
        ({"unreadable": "ignore"}, "choose raise or skip"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AudioFolder(str(folder), **{**ARGS, **changes})


def test_waves_suit_wav2vecs_encoder_and_spectrograms_have_rectangular_patches() -> None:
    args = {"sample_rate": 16_000, "seconds": 1.0, "hop": 0.01, "mels": 64}
    assert AudioFolder.suited_encoders({**args, "features": "wave"})["Encoder"]["class_path"] == "wav"
    suited = AudioFolder.suited_encoders(args)
    assert suited["Encoder"] == {"class_path": "audio_conv", "init_args": {"mels": 64}}
    assert (
        suited["TokenEncoder"]["init_args"] | {"image_size": [64, 100], "patch_size": [16, 10]}
        == suited["TokenEncoder"]["init_args"]
    )
    assert AudioFolder.suited_encoders({**args, "seconds": 5})["Encoder"]["init_args"]["name"] == "resnet18"
    assert AudioFolder.suited_encoders({**args, "mels": "many"}) == {}
