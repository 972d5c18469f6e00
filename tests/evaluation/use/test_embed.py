"""A folder or a data set to a file of vectors: whole, the same after a kill, and equal to the
Reader's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.image_folder import ImageFolder
from torch.nn import functional as F

from ssl_lightning import FrameTransformer, Reader, ViTEncoder
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.use import embedding as module
from ssl_lightning.evaluation.use.embedding import Embedding, Wanted
from ssl_lightning.evaluation.use.rows import facts_of, read_rows, vectors_in
from ssl_lightning.evaluation.use.samples import sources_of
from ssl_lightning.run.pretrained import load_encoder
from ssl_lightning.run.reading import arguments_for

from .conftest import leave


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_rows(file).to_pylist()
    return rows


def test_a_folder_has_a_row_for_each_image_that_can_be_read(
    image_encoder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "vectors.parquet"
    assert main(["embed", str(image_encoder), str(photos), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "24 vectors of 8 values" in told
    assert "1 sample cannot be read, and has no row: " + str(photos / "train" / "a" / "broken.png") in told
    rows = rows_of(out)
    assert {row["path"] for row in rows} == {str(path) for path in photos.rglob("[0-9]*.png")}
    assert all(row["label"] == Path(row["path"]).parent.name for row in rows)
    assert all(row["split"] == Path(row["path"]).parent.parent.name for row in rows)
    expected = Reader(image_encoder)([row["path"] for row in rows])
    assert torch.allclose(torch.tensor([row["vector"] for row in rows]), expected, atol=1e-6)
    assert facts_of(read_rows(out).schema)["dim"] == 8
    assert not list(out.parent.glob(".*"))


@pytest.mark.parametrize("suffix", ["parquet", "npz", "csv"])
def test_every_format_holds_the_same(suffix: str, image_encoder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / f"vectors.{suffix}"
    assert main(["embed", str(image_encoder), str(photos), "--out", str(out), "--normalise", "--split", "test"]) == 0
    table = read_rows(out)
    paths = table["path"].to_pylist()
    assert paths == sorted(str(path) for path in (photos / "test").rglob("*.png"))
    expected = F.normalize(Reader(image_encoder)(paths), dim=1)
    assert np.allclose(vectors_in(table), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("modality", ["sound", "text"])
def test_what_is_longer_than_a_view_is_the_mean_over_its_windows(
    modality: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    encoder, given = (request.getfixturevalue(name) for name in (f"{modality}_encoder", f"{modality}s"))
    out = tmp_path / "vectors.parquet"
    more = ["--data.label_column", "label"] if modality == "text" else []
    assert main(["embed", str(encoder), str(given), "--out", str(out), *more]) == 0
    rows, read = rows_of(out), Reader(encoder)
    items = (
        [line.partition(",")[2] for line in given.read_text().splitlines()[1:]]
        if modality == "text"
        else [row["path"] for row in rows]
    )
    assert read.data.take(items).windows() is not None
    assert len(rows) == len(items) and {row["label"] for row in rows} == ({"0", "1"} if more else {"a", "b"})
    assert torch.allclose(torch.tensor([row["vector"] for row in rows]), read(items), atol=1e-6)


def embedding_of(file: Path, photos: Path, out: Path, **wanted: Any) -> Embedding:
    data = ImageFolder(str(photos), **arguments_for(ImageFolder, file))
    return Embedding(load_encoder(file), data, sources_of(data), Wanted(**{"batch_size": 4, **wanted}), out, {})


def test_a_killed_one_goes_on_to_the_same_file(
    image_encoder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", 5)
    seen: list[tuple[int, int]] = []
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    for out, first in ((whole, None), (killed, 2)):
        if first is not None:
            begun = embedding_of(image_encoder, photos, out)
            begun.begin()
            begun.compute(range(first), lambda done, total: None)
        again = embedding_of(image_encoder, photos, out)
        assert again.begin() == (0 if first is None else 10)
        again.compute(range(len(again.parts)), lambda *each: seen.append(each))
        assert list(again.finish().skipped) == [str(photos / "train" / "a" / "broken.png")]
    assert seen[-3:] == [(17, 25), (22, 25), (25, 25)], "train has 17 images, test 8"
    assert whole.read_bytes() == killed.read_bytes()


def test_parts_of_other_vectors_are_not_taken_over(
    image_encoder: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "PART", 5)
    out = tmp_path / "vectors.parquet"
    begun = embedding_of(image_encoder, photos, out)
    begun.begin()
    begun.compute([0], lambda done, total: None)
    assert embedding_of(image_encoder, photos, out).begin() == 5
    assert capsys.readouterr().err == ""
    assert embedding_of(image_encoder, photos, out, normalise=True).begin() == 0
    assert "starting anew" in capsys.readouterr().err
    assert embedding_of(image_encoder, photos, out).begin() == 0
    begun.compute([0], lambda done, total: None)
    assert embedding_of(image_encoder, photos, out, batch_size=8).begin() == 0, "the last bits depend on it"


def test_tokens_and_layers(photos: Path, tmp_path: Path, text_encoder: Path, texts: Path) -> None:
    torch.manual_seed(0)
    vit = ViTEncoder(name="vit_tiny_patch16_224", image_size=16, patch_size=8)
    file = leave(vit, ImageFolder(str(photos), image_size=16), tmp_path / "vit" / "encoder.safetensors")
    out = tmp_path / "vectors.parquet"
    assert main(["embed", str(file), str(photos / "test"), "--out", str(out), "--tokens"]) == 0
    tokens = torch.tensor([row["tokens"] for row in rows_of(out)])
    vectors = torch.tensor([row["vector"] for row in rows_of(out)])
    assert tokens.shape == (8, 4, 192) and torch.allclose(tokens.mean(dim=1), vectors, atol=1e-5)
    assert main(["embed", str(text_encoder), str(texts), "--out", str(out), "--tokens"]) == 0
    read = Reader(text_encoder)
    source = read.data.take([line.partition(",")[2] for line in texts.read_text().splitlines()[1:]])
    windows = source.windows()
    assert windows is not None
    for row, part in zip(rows_of(out), torch.arange(len(windows.source)).split(windows.counts.tolist()), strict=True):
        lengths = windows.source.fetch(part).lengths
        assert len(row["tokens"]) == int(lengths.sum())
        if len(part) == 1:  # the features are the mean of its tokens
            assert torch.allclose(torch.tensor(row["tokens"]).mean(dim=0), torch.tensor(row["vector"]), atol=1e-5)


def test_layers(sound_encoder: Path, sounds: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    frames, data = FrameTransformer(mels=16, dim=8, depth=2, heads=2), AudioFolder(str(sounds), seconds=0.1, mels=16)
    file, out = leave(frames, data, tmp_path / "frames" / "encoder.safetensors"), tmp_path / "vectors.parquet"
    assert main(["embed", str(file), str(sounds), "--out", str(out), "--layers"]) == 0
    layers = torch.tensor([row["layers"] for row in rows_of(out)])
    assert layers.shape == (6, 3, 8)
    assert torch.allclose(layers[:, -1], torch.tensor([row["vector"] for row in rows_of(out)]), atol=1e-5)


WRONG = {
    "layers": (["RUN", "digits", "--layers"], "does not give the features of its layers"),
    "no_run": (["nosuch", "PHOTOS"], "There is no"),
    "no_data": (["RUN", "nosuch"], "There is no file, folder or data set 'nosuch'"),
    "near": (["RUN", "digit"], "Did you mean 'digits'"),
    "other_modality": (["RUN", "tones"], "cannot read it"),
    "no_split": (["RUN", "digits", "--split", "valid"], "has no split 'valid'; it has train, test"),
    "no_option": (["RUN", "digits", "--data.nosuch", "3"], "There is no option --data.nosuch"),
    "misspelt": (["RUN", "digits", "--normalize"], "Did you mean '--normalise'"),
    "suffix": (["RUN", "digits", "--out", "OUT.txt"], "suffix '.txt'"),
    "a_folder": (["RUN", "digits", "--out", "OUT.d/x.parquet/y.parquet"], "cannot be written"),
    "batch": (["RUN", "digits", "--batch-size", "0"], "no whole number of at least 1"),
    "device": (["RUN", "digits", "--device", "tpu9"], "There is no device 'tpu9'"),
    "tokens": (["RUN", "digits", "--tokens"], "no tokens"),
    "unreadable": (["RUN", "PHOTOS", "--unreadable", "raise"], "broken.png"),
    "damaged": (["DAMAGED", "PHOTOS"], "not a whole safetensors file"),
    "missing": (["RUN"], "required: DATA"),
}


@pytest.mark.parametrize("given, message", WRONG.values(), ids=WRONG)
def test_a_wrong_use_is_told_in_one_line(
    given: list[str],
    message: str,
    image_encoder: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "out.d").mkdir()
    (tmp_path / "out.d" / "x.parquet").write_text("a file")
    (tmp_path / "damaged.safetensors").write_bytes(image_encoder.read_bytes()[:100])
    for name, value in {"RUN": image_encoder, "PHOTOS": photos, "OUT": tmp_path / "out"}.items():
        given = [each.replace(name, str(value)) if each.startswith(name) else each for each in given]
    given = [str(tmp_path / "damaged.safetensors") if each == "DAMAGED" else each for each in given]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out.parquet")]
    assert main(["embed", *given, *out]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err


def test_programs_get_json(
    image_encoder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vectors.parquet"
    assert main(["embed", str(image_encoder), str(photos), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["dim"], told["out"]) == (24, 8, str(out)) and len(told["skipped"]) == 1


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_what_goes_on(image_encoder: Path, photos: Path, tmp_path: Path) -> None:
    """SIGKILL while parts are written; the second start gives the file of an undisturbed one."""
    many = tmp_path / "many"
    many.mkdir()
    one = next(photos.rglob("07.png")).read_bytes()
    for number in range(3000):
        (many / f"{number:04}.png").write_bytes(one)
    command = [sys.executable, "-m", "ssl_lightning.cli", "embed", str(image_encoder), str(many), "--device", "cpu"]
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    subprocess.run([*command, "--out", str(whole)], check=True, timeout=300)
    process = subprocess.Popen([*command, "--out", str(killed)])
    ends = time.monotonic() + 200
    while not list(tmp_path.glob(".killed.parquet.parts/*.parquet")) and time.monotonic() < ends:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not killed.exists()
    again = subprocess.run([*command, "--out", str(killed)], check=True, timeout=300, capture_output=True, text=True)
    assert "were embedded before the last stop" in again.stderr
    assert whole.read_bytes() == killed.read_bytes()


@pytest.mark.slow
def test_processes_write_what_one_writes(image_encoder: Path, tmp_path: Path) -> None:
    written = []
    for count in (1, 2):
        out = tmp_path / f"{count}.parquet"
        given = ["--processes", str(count), "--data.image_size", "16", "--data.augmentation.mean", "[0.5]"]
        assert main(["embed", str(image_encoder), "digits", "--out", str(out), *given]) in (0, 2)
        written.append(out.read_bytes() if out.exists() else b"")
    assert written[0] == written[1]
