"""What all image data share: probe sets that fit the encoder, and images that are skipped wherever
they belong."""

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

from ssl_lightning import ConvEncoder, Trainer, View, ViewSpec
from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.data.files.skipped import file_source
from ssl_lightning.data.images.picture import UnreadablePicture
from ssl_lightning.data.sources import Source, Subset
from ssl_lightning.evaluation.report import Report


def skipped(source: Source | None) -> list[str]:
    files = file_source(source)
    assert files is not None
    return list(files.skipped_names.values())


class Asks:
    views = ViewSpec(full=2)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    values = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(values.integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / name / f"{number}.png"
            )
    return tmp_path / "photos"


def test_a_probe_set_of_other_channels_is_refused_before_training(photos: Path) -> None:
    def data(**changes: Any) -> ImageFolder:
        return ImageFolder(str(photos), image_size=16, batch_size=8, probe_sets={"numbers": Digits()}, **changes)

    with pytest.raises(
        ValueError, match=r"probe_sets.numbers: Digits has images of 1 channel, ImageFolder of 3, .* `channels`"
    ):
        data().serve(Asks())
    data(channels=1).serve(Asks())


def test_images_that_a_probe_set_skips_are_told_too(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = photos / "cat" / "3.png"
    broken.write_bytes(b"")
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        default_root_dir=tmp_path / "runs",
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    probed = ImageFolder(str(photos), image_size=16, channels=1, unreadable="skip")
    trainer.fit(SimCLR(ConvEncoder(channels=1, width=4)), datamodule=Digits(probe_sets={"photos": probed}))
    assert f"taken: 1 ({broken})" in capsys.readouterr().out
    assert trainer.run_folder is not None and (trainer.run_folder / "unreadable.txt").read_text() == f"{broken}\n"


# Views.


class Ordinary(Digits):
    """Digits as an ordinary image set: all of the recipe is drawn."""

    policy = ImagePolicy(crop_scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, mean=(0.3,), std=(0.4,))


@pytest.mark.parametrize("again", ["view", "pass"])
def test_no_view_of_an_image_is_drawn_twice(again: str) -> None:
    """In another view, or in another pass, the same image is cut and coloured anew."""
    data = Ordinary(batch_size=16)
    data.serve(Asks())
    source, index = data.training_split, torch.arange(16)

    def batch(pass_: int) -> list[torch.Tensor]:
        fetched = {"raw": source.fetch(index), "index": index, "pass": torch.full_like(index, pass_)}
        return [view.x for view in data.make_batch(fetched)["views"]]

    first, repeated = batch(0), batch(0)
    other = first[1] if again == "view" else batch(1)[0]
    assert torch.equal(first[0], repeated[0])
    assert int((first[0] - other).flatten(1).abs().amax(1).gt(0.05).sum()) == 16


@pytest.mark.parametrize("again", ["view", "pass"])
def test_no_view_of_a_file_is_cut_or_coloured_twice_alike(photos: Path, again: str) -> None:
    def batches(**changes: Any) -> list[torch.Tensor]:
        data = ImageFolder(str(photos), image_size=16, batch_size=16, labels="none", augmentation=changes)
        data.serve(Asks())
        source, index, views = data.training_split, torch.arange(16), []
        for pass_ in (0, 1):
            fetched = {"raw": source.fetch(index), "index": index, "pass": torch.full_like(index, pass_)}
            views.append([view.x for view in data.make_batch(fetched)["views"]])
        return [views[0][0], views[0][1] if again == "view" else views[1][0]]

    still = {"flip": 0, "jitter_p": 0, "grey_p": 0, "blur_p": 0, "solarize_p": 0}
    for changes in (
        {**still, "crop_scale": [0.2, 0.6]},
        {**still, "crop_scale": [1, 1], "crop_ratio": [1, 1], "jitter_p": 1},
    ):
        one, other = batches(**changes)
        assert int((one - other).flatten(1).abs().amax(1).gt(0.02).sum()) >= 15, changes


@pytest.mark.parametrize("broken", [b"", b"\x89PNG\r\n\x1a\n and no more", None])
def test_what_an_image_gives_does_not_depend_on_its_batch(photos: Path, broken: bytes | None) -> None:
    """In a batch of more files than are open at once; for one that cannot be opened, or cannot be
    decoded, too."""
    file = photos / "dog" / "2.png"
    file.write_bytes(file.read_bytes()[:-200] if broken is None else broken)
    data = ImageFolder(str(photos), image_size=16, batch_size=8, unreadable="skip", max_unreadable=0.1)
    data.serve(Asks())
    source, number = data.training_split, torch.arange(45)

    def cuts(number: torch.Tensor) -> list[torch.Tensor]:
        index, pass_ = number % 16, number // 16
        return data.maker.cut({"raw": source.fetch(index), "index": index, "pass": pass_})["cuts"]

    together = cuts(number)
    for place in number.tolist():
        alone = cuts(number[place : place + 1])
        assert all(torch.equal(one[0], many[place]) for one, many in zip(alone, together, strict=True)), place


def test_what_workers_skip_is_known_where_the_run_is(photos: Path) -> None:
    (photos / "dog" / "2.png").write_bytes(b"")
    data = ImageFolder(str(photos), image_size=16, batch_size=16, unreadable="skip", max_unreadable=0.1, workers=1)
    data.serve(Asks())
    next(data.train_dataloader())
    assert skipped(data.training_split) == [str(photos / "dog" / "2.png")]


def test_the_vectors_of_files_are_those_of_their_clean_views(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = SimCLR(ConvEncoder(width=4)).eval()
    data = ImageFolder(str(photos), image_size=16, batch_size=5, workers=1)
    trainer = Trainer(
        accelerator="cpu", precision="32-true", default_root_dir=tmp_path / "runs", enable_progress_bar=False
    )
    batches: Any = trainer.predict(method, datamodule=data)
    index = torch.cat([batch["index"] for batch in batches])
    vectors = torch.cat([batch["features"] for batch in batches])
    assert sorted(index.tolist()) == list(range(16))
    clean = data.transform("none")(data.fetch_clean(data.training_split, index), index)
    with torch.no_grad():
        assert torch.allclose(vectors, method.encoder(View(clean)), atol=1e-5)


# Arguments and messages.


def test_images_of_8_and_of_16_bits_come_in_one_batch_on_one_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    values = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    (tmp_path / "mixed").mkdir()
    Image.fromarray(values).save(tmp_path / "mixed" / "8.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "mixed" / "16.png")
    data = ImageFolder(str(tmp_path / "mixed"), image_size=16)
    clean = data.fetch_clean(data.training_split, torch.arange(2))
    assert clean.dtype == torch.float32 and torch.allclose(clean[0], clean[1], atol=1e-6)
    assert torch.allclose(clean[0, 0] * 255, torch.from_numpy(values).float(), atol=1e-3)


def test_every_image_that_is_met_and_cannot_be_read_counts(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was only to stand for another too; and those of the part that the probes watch."""
    for name in ("2.png", "3.png"):
        (photos / "dog" / name).write_bytes(b"")
    data = ImageFolder(str(photos), image_size=16, unreadable="skip", max_unreadable=0.2)
    part = Subset(data.training_split, torch.tensor([10]))  # dog/2.png
    data.fetch_clean(part, torch.tensor([0]))
    assert skipped(part) == [str(photos / "dog" / name) for name in ("2.png", "3.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 7}, r"image_size=7\) must be at least 8"),
        ({"unreadable": "skp"}, "unreadable='skp' is unknown; choose raise or skip"),
        ({"max_unreadable": 2}, "max_unreadable=2 is a part of the images; give a number from 0 to 1"),
        ({"labels": "auot"}, "labels='auot' is unknown. Did you mean 'auto'\\? Choose auto, folders or none"),
        ({"augmentation": {"flip": True}}, "augmentation.flip=True does not fit; give a number"),
        ({"root": ""}, "root is empty; give the folder"),
    ],
)
def test_a_wrong_value_is_told_with_the_right_ones(photos: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolder(**{"root": str(photos), **arguments})


def test_a_root_may_begin_with_the_home_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    assert len(ImageFolder("~/photos").training_split) == 16
    photos.rename(photos.parent / "train")
    data = ImageFolder("~", labels="folders")
    assert data.class_names is None and len(data.training_split) == 16 and data.class_names == ("cat", "dog")


def test_window_percentiles_and_the_limit_of_pixels_reach_the_files(photos: Path) -> None:
    def clean(**arguments: Any) -> torch.Tensor:
        data = ImageFolder(str(photos), image_size=16, **arguments)
        return data.fetch_clean(data.training_split, torch.arange(2))

    plain = clean().float()
    assert torch.allclose(clean(window=(100, 101)).mean(), (plain > 100).float().mean(), atol=0.1)
    assert clean(percentiles=(49, 51)).std() > 1.2 * (plain / 255).std()
    with pytest.raises(UnreadablePicture, match=r"14 x 12 pixels, above the limit of 100 \(max_pixels\)"):
        clean(max_pixels=100)


def test_an_image_beside_the_class_folders_is_named(photos: Path) -> None:
    (photos / "dog" / "2.png").rename(photos / "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png lies in no class folder\. Move it, or set --data\.labels none"):
        ImageFolder(str(photos), labels="folders").split("train")


def test_a_given_mean_stands_for_any_number_of_channels(photos: Path) -> None:
    data = ImageFolder(str(photos), channels=1, augmentation={"mean": [0.4]})
    assert (data.recipe.mean, data.recipe.std) == ((0.4,), (0.25,))


def test_raw_features_are_pixels_reduced_to_32_and_pictures_show_them(photos: Path) -> None:
    data = ImageFolder(str(photos), image_size=64)
    raw = data.fetch_clean(data.training_split, torch.arange(2))
    x = data.transform("none")(raw, torch.arange(2))
    assert data.raw_features(raw).shape == (2, 3 * 32 * 32)
    assert torch.allclose(data.as_pictures(x), raw / 255, atol=1e-5)
    assert ImageFolder(str(photos), image_size=16).local_size(ViewSpec(full=2, local=2)) == 8
    assert (
        data.local_size(ViewSpec(full=2, local=2)) == 24
        and data.local_size(ViewSpec(full=2, local=2, local_size=12)) == 12
    )
