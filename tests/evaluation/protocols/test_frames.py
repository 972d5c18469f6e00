"""Frames of sounds: which interval a token lies in, scores against scikit-learn, and tones that
change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from ssl_lightning.datamodules.audio_folder import AudioFolder
from torch import Tensor

from ssl_lightning.data.sound.recording import SoundFile
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.frames import Frames, confusion, frames_of, labelled, scores_of
from ssl_lightning.evaluation.protocols.intervals import read_intervals
from ssl_lightning.evaluation.protocols.token_regression import TokenClassifier
from ssl_lightning.evaluation.protocols.token_store import TokenStore, store_of


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_frame_has_the_class_of_the_interval_that_holds_its_middle() -> None:
    intervals = torch.tensor([[0.1, 0.3, 2], [0.3, 0.35, 0], [0.9, 5.0, 1]], dtype=torch.float64)
    times = torch.tensor([0.05, 0.1, 0.29, 0.3, 0.35, 0.95, math.nan], dtype=torch.float64)
    assert labelled(times, intervals).tolist() == [-1, 2, 2, 0, -1, 1, -1]
    assert labelled(times, intervals, 3).tolist() == [3, 2, 2, 0, 3, 1, -1], "padding is no gap"


def test_scores_are_scikit_learns_over_the_classes_that_there_are() -> None:
    zero, one = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    classifier = TokenClassifier(zero, one, noise(4, 4).double(), torch.zeros(4, dtype=torch.float64), 1.0, "")
    tokens = [noise(count, 4, seed=count) for count in (9, 30, 14)]
    labels = [torch.randint(-1, 3, (len(each),), generator=torch.Generator().manual_seed(7)) for each in tokens]
    counts = torch.stack([confusion(classifier, *each) for each in zip(tokens, labels, strict=True)])
    scores = scores_of(counts)
    y = torch.cat(labels)
    said = classifier.logits(torch.cat(tokens)).argmax(1)
    kept = y >= 0
    expected = balanced_accuracy_score(y[kept], said[kept])
    macro = f1_score(y[kept], said[kept], average="macro", labels=y[kept].unique())
    assert scores["accuracy"].value == pytest.approx(expected) and scores["f1"].value == pytest.approx(macro)
    assert int(said.max()) == 3, "a class is predicted that no frame has"


def test_frames_come_with_their_classes_and_their_samples() -> None:
    tokens = [noise(count, 3, seed=count) for count in (4, 2, 6)]
    labels = [torch.tensor([0, -1, 1, 1]), torch.tensor([-1, -1]), torch.tensor([1, 0, -1, 0, 0, 1])]
    x, y, sample = frames_of(TokenStore.of_samples(tokens), labels, 100)
    rows = [(number, int(label), tokens[number][place]) for number, part in enumerate(labels)
            for place, label in enumerate(part) if label >= 0]  # fmt: skip
    assert [*zip(sample.tolist(), y.tolist(), strict=True)] == [(number, label) for number, label, _ in rows]
    assert torch.equal(x, torch.stack([row for *_, row in rows]))
    assert len(frames_of(TokenStore.of_samples(tokens), labels, 5)[1]) == 5
    with pytest.raises(ValueError, match="No interval holds a frame of the 3 samples"):
        frames_of(TokenStore.of_samples(tokens), [torch.full_like(each, -1) for each in labels], 5)


RATE, SECONDS = 4_000, 0.5


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Recordings in which a low tone gives way to a high one, somewhere; some longer than a view,
    some shorter. The list says when."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    lines = ["path,start,end,label"]
    for number in range(24):
        length = (0.5, 0.5, 1.3, 0.3)[number % 4]
        change = 0.1 + (length - 0.2) * (number % 5) / 5
        time = torch.arange(int(length * RATE)) / RATE
        wave = 0.5 * torch.sin(2 * math.pi * torch.where(time < change, 300.0, 1_100.0) * time)
        name = f"{'train' if number % 3 else 'test'}/{'ab'[number % 2]}/{number}.wav"
        (tmp_path / "tones" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "tones" / name, (wave + 0.01 * noise(len(time), seed=number)).numpy(), RATE)
        lines += [f"{name},0,{change:.4f},low", f"{name},{change:.4f},{length - 0.05:.4f},high"]
    (tmp_path / "frames.csv").write_text("\n".join(lines))
    return tmp_path / "tones", tmp_path / "frames.csv"


@pytest.mark.parametrize("features", ["log_mel", "wave"])
def test_tokens_know_their_time_in_windows_too_and_padding_has_none(tones: Any, features: str) -> None:
    data = AudioFolder(str(tones[0]), sample_rate=RATE, seconds=SECONDS, mels=16, features=features)
    data.prepare_data()
    torch.manual_seed(0)
    encoder: Any = FrameTransformer(mels=16, dim=8, depth=1, heads=2)
    if features == "wave":
        encoder = WaveTransformer(dim=16, depth=1, heads=2, maps=8, kernels=[10, 4], strides=[5, 4])
    apart = (2 * 0.01 * RATE if features == "log_mel" else 20) / RATE
    source = data.split("train")
    assert source is not None
    store = store_of(encoder.eval(), data, source, torch.arange(len(source)))
    for number in range(len(source)):
        times, length = store.times[number], SoundFile(source.name(number)).frames
        real = times[~times.isnan()] * RATE
        assert len(times) == len(store[number]) and float(real.min()) == apart * RATE / 2
        assert length - 2.5 * apart * RATE < float(real.max()) < length
        per_view = real[: int(SECONDS / apart)].diff()
        assert torch.allclose(per_view[per_view > 0], torch.tensor(apart * RATE, dtype=torch.float64))
        if length < SECONDS * RATE and features == "log_mel":
            assert bool(times.isnan().any())


def test_a_linear_classifier_tells_tones_frame_by_frame(tones: Any) -> None:
    data = AudioFolder(str(tones[0]), sample_rate=RATE, seconds=SECONDS, mels=16)
    data.prepare_data()
    torch.manual_seed(0)
    encoder = FrameTransformer(mels=16, dim=16, depth=1, heads=2).eval()
    given = read_intervals(tones[1])
    assert given.names == ("high", "low") and len(given.keys) == 24
    parts = []
    for source in (data.split("train"), data.split("test")):
        assert source is not None
        spans = [given.spans[given.keys.index("/".join(Path(source.name(number)).parts[-3:]))]
                 for number in range(len(source))]  # fmt: skip
        parts.append(Samples(store_of(encoder, data, source, torch.arange(len(source))), spans, given.names))
    judgement = Frames().judge(*parts)
    assert judgement.scores["accuracy"].value > 0.9 and judgement.scores["f1"].value > 0.9
    assert "lie in no interval, and are ignored" in judgement.remarks[-1]
    with_gaps = Frames(gaps="none").judge(*parts)
    assert not any("ignored" in line for line in with_gaps.remarks)
    assert with_gaps.scores["accuracy"].value < judgement.scores["accuracy"].value, "a third class, hard to tell"
    turned = [each.clone() for each in parts[0].target]
    for spans in turned:
        spans[:, 2] = 1 - spans[:, 2]
    assert Frames().judge(parts[0]._replace(target=turned), parts[1]).scores["accuracy"].value < 0.1


WRONG = {
    "path,start,label\na,0,x": "no column 'end'",
    "path,start,end,label\na,0,x,y": "line 2: the end 'x' is no number",
    "path,start,end,label\na,2,1,y": "line 2: from 2 to 1 s is no interval",
    "path,start,end,label\na,0,1,": "line 2: the path or the label is empty",
    "path,start,end,label\na,0,1,x\na,0.5,2,y": r"'y' \(line 3\) begins at 0.5 s, before 'x' \(line 2\) ends",
    "path,start,end,label\n": "holds no intervals",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_lists_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=WRONG[text]) as refusal:
        read_intervals(tmp_path / "list.csv")
    assert "\n" not in str(refusal.value)


def test_wrong_settings_are_one_line() -> None:
    with pytest.raises(ValueError, match="gaps='x' is unknown; choose ignored or none"):
        Frames(gaps="x")
    with pytest.raises(ValueError, match="frames=1 is too small"):
        Frames(frames=1)
