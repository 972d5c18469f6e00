"""Recordings of varying length: taken whole, padded without a trace, and planned in batches by
seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.tones import Generated
from ssl_lightning.methods.mae import MAE
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor, nn

from ssl_lightning import ConvEncoder, Encoder, Trainer, View, ViewSpec
from ssl_lightning.augment.window import row_lengths
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sound.lengths import lengths_of
from ssl_lightning.data.sound.recording import UnreadableSound
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import TinyTokenEncoder

ARGS: dict[str, Any] = {"sample_rate": 8000, "mels": 16, "seconds": None, "window": 0.032, "batch_size": 4}
WAVES: dict[str, Any] = {**ARGS, "features": "wave"}
LONG = 3.2


class Asks:
    def __init__(self, strength: str = "strong") -> None:
        self.views = ViewSpec(full=2, strength=strength, clean=True)  # type: ignore[arg-type]


class Loud(Encoder):
    """Loudness and jumpiness of a wave, padding apart."""

    dim = 4
    reads_padding = True

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 4)

    def forward(self, view: View) -> Tensor:
        real = torch.ones_like(view.x) if view.segment is None else (view.segment > 0).to(view.x.dtype)
        jumps = view.x.diff(dim=1) * real[:, 1:]
        return self.linear(
            torch.stack([(part.abs() * real[:, : part.shape[1]]).sum(1) / real.sum(1) for part in (view.x, jumps)], 1)
        )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 recordings of 0.3 to 0.6 s at 8 kHz, two at other rates, and one of 3.2 s."""
    root = write_sounds(
        tmp_path_factory.mktemp("made") / "sounds", [f"{'ab'[number % 2]}/{number}.wav" for number in range(16)]
    )
    write_sounds(root, ["a/16.wav"], rate=11_025)
    write_sounds(root, ["b/17.wav"], rate=16_000)
    noise = np.random.default_rng(1).standard_normal(int(LONG * 8000))
    soundfile.write(root / "a" / "18.wav", 0.1 * noise, 8000)
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "sounds"))


def data(root: Path, strength: str = "strong", **changes: Any) -> AudioFolder:
    sounds = AudioFolder(str(root), **{**WAVES, **changes})
    sounds.serve(Asks(strength))
    return sounds


def number_of(sounds: AudioFolder, name: str) -> int:
    source: Any = sounds.training_split
    return next(number for number in range(len(source)) if source.name(number).endswith(name))


def batch(sounds: AudioFolder, index: list[int]) -> list[View]:
    place = torch.tensor(index)
    return sounds.make_batch(
        {"raw": sounds.training_split.fetch(place), "index": place, "pass": torch.zeros_like(place)}
    )["views"]


def test_rows_have_few_lengths_and_little_padding() -> None:
    longest = torch.arange(1, 200_000)
    rows = row_lengths(longest, 80)
    assert bool((rows >= longest).all()) and bool((rows % 80 == 0).all()) and bool((rows.diff() >= 0).all())
    assert float(((rows - longest) / longest)[longest > 1280].max()) < 0.13 and len(rows.unique()) < 90
    assert int(row_lengths(torch.tensor(8100), 80, 8150)) == 8150


@pytest.mark.parametrize("name", ["a/0.wav", "a/16.wav", "b/17.wav"])
def test_a_recording_is_taken_whole(folder: Path, name: str) -> None:
    """At whatever rate it was recorded, and however long the others of its batch are."""
    sounds = data(folder, normalise=False)
    number, long = number_of(sounds, name), number_of(sounds, "a/18.wav")
    wave, rate = soundfile.read(folder / name, dtype="float32")
    alone, among = (
        sounds.fetch_clean(sounds.training_split, torch.tensor(index)) for index in ([number], [long, number])
    )
    count = int(lengths_of(sounds.training_split)[number])
    assert count == -(-len(wave) * 8000 // rate) and among.lengths.tolist() == [int(LONG * 8000), count]
    assert (
        among.x.shape[1] == int(row_lengths(torch.tensor(int(LONG * 8000)), 80))
        and alone.x.shape[1] < 1.13 * count + 80
    )
    torch.testing.assert_close(alone.x[0, :count], among.x[1, :count], atol=1e-6, rtol=0)
    assert not among.x[1, count:].any()
    if rate == 8000:
        assert torch.equal(among.x[1, :count], torch.from_numpy(wave))
    for view in batch(sounds, [long, number]):
        assert view.segment is not None and view.segment[1].tolist() == [2] * count + [0] * (among.x.shape[1] - count)
        assert not view.x[1, count:].any() and bool(view.x[1, :count].any())


NETWORKS: dict[str, Callable[[], Encoder]] = {
    "loud": Loud,
    "wav": lambda: WaveTransformer(maps=8, dim=16, depth=1, heads=2),
    "frames": lambda: FrameTransformer(mels=16, dim=8, depth=1, heads=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_in_the_same_batch_changes_no_feature(folder: Path, name: str) -> None:
    sounds = data(folder, "weak", features="log_mel" if name == "frames" else "wave", augmentation={"gain": [-20, 20]})
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    long = number_of(sounds, "a/18.wav")
    for number in (0, number_of(sounds, "a/16.wav")):
        for one, many in zip(batch(sounds, [number]), batch(sounds, [long, 5, number]), strict=True):
            assert many.x.shape[-1] > 2 * one.x.shape[-1]
            torch.testing.assert_close(network(many)[2:], network(one), atol=1e-5, rtol=1e-4)
    everything = embed(network, sounds, sounds.training_split)
    for number in (0, long):
        torch.testing.assert_close(
            embed(network, sounds, sounds.training_split, torch.tensor([number])),
            everything[number : number + 1],
            atol=1e-5,
            rtol=1e-4,
        )
    raw = [
        sounds.raw_features(sounds.fetch_clean(sounds.training_split, torch.tensor(index)))
        for index in ([3], [long, 3])
    ]
    torch.testing.assert_close(raw[0][0], raw[1][1], atol=1e-4, rtol=1e-4)


def test_strong_views_of_waves_leave_padding_silent_and_depend_on_the_key_alone(folder: Path) -> None:
    sounds = data(folder, augmentation={"noise_p": 1.0})
    long = number_of(sounds, "a/18.wav")
    for one, many in zip(batch(sounds, [2]), batch(sounds, [long, 2]), strict=True):
        assert one.segment is not None
        count = int((one.segment > 0).sum())
        torch.testing.assert_close(many.x[1, :count], one.x[0, :count], atol=1e-5, rtol=1e-4)
        assert not many.x[1, count:].any()


def test_a_frame_is_real_while_its_own_samples_are(folder: Path) -> None:
    sounds = data(folder, "weak", features="log_mel")
    index = [0, 1, number_of(sounds, "a/18.wav")]
    view = batch(sounds, index)[2]
    count = lengths_of(sounds.training_split)[index] // 80
    assert view.segment is not None and view.segment.shape == (3, view.x.shape[3]) and view.samples == 3
    assert (view.segment > 0).sum(1).tolist() == count.tolist()
    assert not view.x[0, :, :, count[0] :].any() and bool(view.x[0, :, :, : count[0]].abs().amax((0, 1)).gt(0).all())


def test_waves_have_mean_0_and_variance_1_by_themselves(folder: Path) -> None:
    wave, rate = soundfile.read(folder / "a" / "0.wav")
    soundfile.write(folder / "a" / "0.wav", 0.1 * wave + 0.4, rate, subtype="FLOAT")
    sounds, plain = data(folder), data(folder, normalise=False)
    for whole in (sounds, data(folder, seconds=0.45)):
        for view in batch(whole, list(range(19))):
            real = torch.ones_like(view.x) if view.segment is None else (view.segment > 0).float()
            mean = (view.x * real).sum(1) / real.sum(1)
            variance = ((view.x - mean[:, None]).square() * real).sum(1) / real.sum(1)
            assert float(mean.abs().max()) < 1e-3 and float((variance - 1).abs().max()) < 1e-2
    assert abs(float(batch(plain, [0])[2].x.mean()) - 0.4) < 0.05


def lengths_and_names(sounds: AudioFolder) -> dict[str, int]:
    source: Any = sounds.training_split
    return {Path(source.name(number)).name: length for number, length in enumerate(lengths_of(source).tolist())}


def test_lengths_come_from_heads_once_and_are_kept_until_a_file_changes(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lengths_and_names(data(folder))
    assert found["18.wav"] == int(LONG * 8000) and found["17.wav"] == -(
        -soundfile.info(folder / "b/17.wav").frames // 2
    )
    assert len(list(cache.glob("true-lengths-*.pt"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr("ssl_lightning.data.sound.lengths._read", lambda source: pytest.fail("read again"))
        assert lengths_and_names(data(folder)) == found
    soundfile.write(folder / "a" / "0.wav", np.ones(4321), 8000)
    assert lengths_and_names(data(folder)) == {**found, "0.wav": 4321}
    (folder / "list.csv").write_text("path,start,end\na/18.wav,0.5,1.25\na/18.wav,3,\nb/17.wav,0.1,9\n")
    listed = AudioFolder(str(folder / "list.csv"), **WAVES)
    assert lengths_of(listed.split("train")).tolist() == [6000, 1600, found["17.wav"] - 800]  # type: ignore[arg-type]


def test_what_cannot_be_read_has_the_length_of_what_stands_for_it(folder: Path) -> None:
    (folder / "a" / "2.wav").write_bytes(b"no sound")
    sounds = data(folder, unreadable="skip", max_unreadable=0.2, batch_seconds=8.0)
    found = lengths_and_names(sounds)
    assert found["2.wav"] == found["4.wav"] != found["0.wav"]
    with pytest.raises(UnreadableSound, match=r"2.wav: it is not a sound.*--data.unreadable skip"):
        data(folder, batch_seconds=8.0)
    soundfile.write(folder / "a" / "6.wav", np.zeros(4000), 8000)  # known only once it is read
    soundfile.write(folder / "b" / "7.wav", np.full(4000, np.nan), 8000, subtype="FLOAT")
    sounds = data(folder, unreadable="skip", max_unreadable=0.2)
    for view in batch(sounds, [number_of(sounds, name) for name in ("a/2.wav", "a/6.wav", "b/7.wav")]):
        assert bool(view.x.isfinite().all()) and bool(view.x.any(1).all())


def test_batches_by_seconds_keep_to_the_budget(folder: Path) -> None:
    sounds = data(folder, batch_seconds=4.0)
    buckets, loader = sounds.buckets, sounds.train_dataloader()
    assert buckets is not None and len(loader) == len(buckets) and sounds.batch_size == buckets.mean_size
    taken = []
    for _ in range(len(loader)):
        made = sounds.on_after_batch_transfer(next(loader), 0)
        assert all(view.x.numel() <= 4.0 * 8000 for view in made["views"])
        taken += made["index"].tolist()
    assert len(set(taken)) == len(taken) >= 17
    capped = data(folder, batch_seconds=4.0, seconds=0.5)
    short = int(lengths_of(capped.training_split).argmin())
    assert capped.buckets is not None and int(capped.buckets.lengths.max()) == 4000
    assert (
        max(view.x.shape[1] for view in batch(capped, [0, 18])) == 4000 and batch(capped, [short])[0].x.shape[1] < 4000
    )
    for source in (sounds.training_split, sounds.split("val")):
        assert source is not None
        parts = sounds.parts(source, torch.arange(len(source)), 256)
        assert torch.equal(torch.cat(parts), torch.arange(len(source))) and (len(parts) > 1 or len(source) < 5)
        assert all(sounds.fetch_clean(source, part).x.numel() <= 4.0 * 8000 for part in parts)
    assert [len(part) for part in data(folder).parts(sounds.training_split, torch.arange(10), 256)] == [4, 4, 2]


class WithMAE:
    """What MAE asks for, with an encoder of patches."""

    views = MAE.views
    encoder = TinyTokenEncoder()


@pytest.mark.parametrize(
    ("changes", "method", "reason"),
    [
        (
            {"features": "log_mel"},
            Asks(),
            "Asks asks for strong views, and log-mels .* of one length alone: set --data.seconds 1.0.$",
        ),
        (
            {"features": "log_mel", "seconds": 0.4, "batch_seconds": 8.0},
            Asks(),
            "set --data.seconds 1.0 without --data.batch_seconds.$",
        ),
        (
            {"features": "log_mel"},
            WithMAE(),
            "TinyTokenEncoder would take the padding .* set --data.seconds 1.0, .* --model.encoder frames.$",
        ),
        ({}, WithMAE(), "TinyTokenEncoder would take the padding .* --model.encoder wav.$"),
        (
            {"batch_seconds": 3.0},
            Asks(),
            r"batch_seconds=3 has no room for the longest recording, .*18.wav, of 3.2 s, in each of 1 processes:"
            r" set --data.batch_seconds 3.2",
        ),
    ],
)  # fmt: skip
def test_what_lengths_that_vary_do_not_allow_is_refused(
    folder: Path, changes: dict[str, Any], method: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        AudioFolder(str(folder), **{**WAVES, **changes}).serve(method)


def test_settings_out_of_range_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="batch_seconds=0\\) must be above 0"):
        AudioFolder(str(folder), **{**WAVES, "batch_seconds": 0})


def test_an_encoder_that_ignores_padding_is_refused_before_training(folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", max_steps=1, default_root_dir=tmp_path / "runs", enable_progress_bar=False)
    with pytest.raises(ValueError, match="ConvEncoder would take the padding"):
        trainer.fit(SimCLR(ConvEncoder(channels=1, width=4)), datamodule=AudioFolder(str(folder), **WAVES))
    assert not list((tmp_path / "runs").glob("*/*"))


class Watch(pl.Callback):
    """Keeps what each step was given, and saves a checkpoint after the third."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(torch.cat([batch["index"].float(), batch["views"][1].x.flatten()]))


class Result(NamedTuple):
    seen: list[Tensor]
    weights: dict[str, Tensor]
    position: int
    steps_an_epoch: int
    saved: Path


def fit(root: Path, runs: Path, workers: int = 0, ckpt_path: Path | None = None) -> Result:
    watch = Watch(runs / "3.ckpt")
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu", precision="32-true", max_steps=9, default_root_dir=runs, enable_progress_bar=False,
        callbacks=[watch, Report(enabled=False)],
    )  # fmt: skip
    sounds = AudioFolder(str(root), **{**WAVES, "batch_seconds": 4.0, "workers": workers, "augment_on": "worker"})
    method = SimCLR(Loud(), hidden_dim=8, output_dim=4, norm="layer", warmup_epochs=0)
    trainer.fit(method, datamodule=sounds, ckpt_path=ckpt_path)
    return Result(watch.seen, method.state_dict(), sounds.position, int(trainer.num_training_batches), watch.path)


@pytest.fixture(scope="module")
def straight(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run that was never interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fit(made, tmp_path_factory.mktemp("straight"), workers=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_in_mid_pass_goes_on_bit_for_bit(
    made: Path, straight: Result, tmp_path: Path, workers: int
) -> None:
    assert 4 < straight.steps_an_epoch < 9 and straight.position == 9
    resumed = fit(made, tmp_path, workers, ckpt_path=straight.saved)
    assert len(resumed.seen) == 6 and all(
        torch.equal(*pair) for pair in zip(resumed.seen, straight.seen[3:], strict=True)
    )
    assert all(torch.equal(value, straight.weights[name]) for name, value in resumed.weights.items())
    assert resumed.position == 9


def test_a_resume_with_another_plan_is_refused(folder: Path, tmp_path: Path) -> None:
    sounds = data(folder, batch_seconds=4.0)
    state = sounds.state_dict()
    assert state["position"] == 0 and state["batch_seconds"] == 4.0 and state["processes"] == 1
    data(folder, batch_seconds=4.0).load_state_dict(state)
    others: list[tuple[dict[str, Any], str]] = [
        ({"batch_seconds": 5.0}, r"trained with batch_seconds=4.0, this run has batch_seconds=5.0: the order"),
        ({}, "batch_seconds=4.0, this run has batch_seconds=None"),
        ({"batch_seconds": 4.0, "seconds": 0.5}, "trained with lengths="),
    ]
    for changes, reason in others:
        with pytest.raises(ValueError, match=reason):
            data(folder, **changes).load_state_dict(state)
    soundfile.write(folder / "a" / "0.wav", np.ones(4321), 8000)
    with pytest.raises(ValueError, match="trained with lengths="):
        data(folder, batch_seconds=4.0).load_state_dict(state)


def test_sounds_in_memory_have_lengths_too(cache: Path) -> None:
    assert lengths_of(Generated(0, 3, 16_000)).tolist() == [19_200] * 3 and not cache.exists()
