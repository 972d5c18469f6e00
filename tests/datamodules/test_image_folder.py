"""Any folder of pictures: what counts as a class, what each view is cut from, and what happens to
files that cannot be read."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.simclr import SimCLR
from torch.utils.data import DataLoader

from ssl_lightning import ConvEncoder, Trainer, ViewSpec
from ssl_lightning.augment.random import fold, sample_keys
from ssl_lightning.cli.main import main
from ssl_lightning.data.images.picture import UnreadablePicture
from ssl_lightning.data.images.source import PictureSource
from ssl_lightning.data.sources import Subset
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing import check_datamodule


def photo(number: int, height: int = 40, width: int = 56) -> Image.Image:
    """Smooth noise whose darkest colour says its class, `number % 3`."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    coarse[:, :, number % 3] //= 4
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def deep(number: int) -> Image.Image:
    grey = np.asarray(photo(number).convert("L")).astype(np.uint16) * 200 + np.arange(56, dtype=np.uint16)
    return Image.fromarray(grey)


FORMS: list[tuple[str, Callable[[int], Image.Image], dict[str, Any]]] = [
    (".jpg", photo, {}),
    (".png", lambda n: photo(n).convert("L"), {}),
    (".webp", lambda n: photo(n).convert("RGBA"), {}),
    (".gif", lambda n: photo(n).convert("P"), {}),
    (".JPEG", lambda n: photo(n).convert("CMYK"), {}),
    (".bmp", photo, {}),
    (".tif", photo, {}),
]  # fmt: skip


def fill(folder: Path, numbers: range, forms: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        suffix, make, options = FORMS[number % forms]
        make(number).save(folder / f"{number:04d}{suffix}", format={".JPEG": "JPEG"}.get(suffix), **options)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three class folders of eight images each."""
    for label, name in enumerate(("ant", "bee", "cat")):
        fill(tmp_path / "animals" / name, range(label, 24, 3))
    return tmp_path / "animals"


class Asks:
    def __init__(self, **spec: Any) -> None:
        self.views = ViewSpec(**spec)


def served(root: Path, spec: dict[str, Any] | None = None, **arguments: Any) -> ImageFolder:
    data = ImageFolder(str(root), **{"image_size": 32, "batch_size": 8, "workers": 0, **arguments})
    data.serve(Asks(**(spec or {})))
    return data


def pictures_of(source: Any) -> PictureSource:
    source = source.source if isinstance(source, Subset) else source
    assert isinstance(source, PictureSource)
    return source


def trainer(root: Path, **arguments: Any) -> Trainer:
    return Trainer(
        **{
            "accelerator": "cpu",
            "precision": "32-true",
            "default_root_dir": root,
            "enable_progress_bar": False,
            **arguments,
        }
    )


# What is there.


@pytest.mark.slow
def test_a_tree_of_any_shape_mode_and_format_conforms(tmp_path: Path) -> None:
    fill(tmp_path / "photos", range(7), forms=7)
    fill(tmp_path / "photos" / "2021" / "holiday", range(7, 20), forms=7)
    data = ImageFolder(str(tmp_path / "photos"))
    assert len(data.training_split) == 20 and data.training_split.labels is None and data.probe_splits() is None
    check_datamodule(ImageFolder, root=str(tmp_path / "photos"), image_size=24)


def test_class_folders_are_classes_where_each_image_lies_in_one(classes: Path, tmp_path: Path) -> None:
    data = ImageFolder(str(classes))
    assert data.training_split.labels is not None and data.training_split.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert data.class_names == ("ant", "bee", "cat")
    assert ImageFolder(str(classes), labels="none").training_split.labels is None
    fill(classes / "bee" / "queens", range(100, 102))
    assert ImageFolder(str(classes)).training_split.labels is None, "images lie deeper: years and months are no classes"
    deeper = ImageFolder(str(classes), labels="folders").training_split.labels
    assert deeper is not None and torch.bincount(deeper).tolist() == [8, 10, 8]


def test_train_val_test_and_unlabelled_folders_are_splits(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split, names in (("train", "abc"), ("val", "bc"), ("test", "abc")):
        for label, name in enumerate(names):
            fill(root / split / name, range(label, 12, 3))
    fill(root / "unlabeled", range(200, 250))
    data = ImageFolder(str(root))
    sizes = {split: len(data.split(split) or ()) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert (
        sizes == {"train": 12, "val": 8, "test": 12}
        and len(data.training_split) == 50
        and data.training_split.labels is None
    )
    val = data.split("val")
    assert val is not None and val.labels is not None and val.labels.tolist() == [1] * 4 + [2] * 4, (
        "numbered by the training classes"
    )
    assert data.probe_splits() is not None
    fill(root / "test" / "d", range(1))
    with pytest.raises(ValueError, match="has the class 'd', which the training images have not"):
        ImageFolder(str(root)).split("test")


def test_a_folder_without_train_has_no_splits(tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "test", range(4))
    fill(tmp_path / "photos" / "rest", range(4))
    data = ImageFolder(str(tmp_path / "photos"))
    assert len(data.training_split) == 8 and data.split("test") is None


# What a view is.


def test_each_view_is_the_box_that_its_crop_drew(tmp_path: Path) -> None:
    """In a picture whose red is the column and whose green the row, a view's mean colour is the
    middle of its box."""
    (tmp_path / "one").mkdir()
    for number, (height, width) in enumerate([(200, 250), (250, 120), (90, 255), (255, 255)] * 2):
        rows, columns = np.mgrid[:height, :width]
        Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)).save(
            tmp_path / "one" / f"{number}.png"
        )
    data = served(
        tmp_path / "one",
        {"full": 2, "local": 1, "clean": True, "strength": "weak"},
        augment_on="device",
        augmentation={"flip": 0.0},
    )
    fetched = next(data.train_dataloader())
    cuts = fetched["cuts"]
    assert [tuple(cut.shape) for cut in cuts] == [(8, 3, 32, 32)] * 2 + [(8, 3, 12, 12), (8, 3, 32, 32)]
    assert all(cut.dtype == torch.uint8 for cut in cuts) and "raw" not in fetched
    key = sample_keys(0, fetched["pass"], fetched["index"])
    sizes = torch.tensor([[200, 250], [250, 120], [90, 255], [255, 255]] * 2)[fetched["index"]]
    for number, (cut, transform) in enumerate(zip(cuts, data.transforms, strict=True)):
        boxes = transform.cut.boxes(fold(key, number), sizes[:, 0], sizes[:, 1]).float()
        middle = boxes[:, :2] + (boxes[:, 2:] - 1) / 2
        torch.testing.assert_close(cut.float().mean((2, 3))[:, :2].flip(1), middle, atol=1.0, rtol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_the_same_wherever_they_are_made(classes: Path, workers: int) -> None:
    reference = next(served(classes, {"clean": True}, augment_on="worker").train_dataloader())
    for place in ("worker", "device"):
        data = served(classes, {"clean": True}, augment_on=place, workers=workers)
        batch = data.on_after_batch_transfer(next(data.train_dataloader()), 0)
        assert torch.equal(batch["index"], reference["index"]) and torch.equal(batch["label"], reference["label"])
        for one, two in zip(batch["views"], reference["views"], strict=True):
            torch.testing.assert_close(one.x, two.x, rtol=1e-5, atol=1e-5)


def test_a_file_is_opened_once_for_all_views(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    plain = PictureSource.open
    monkeypatch.setattr(PictureSource, "open", lambda self, number: opened.append(number) or plain(self, number))
    data = served(classes, {"full": 2, "local": 4, "clean": True}, augment_on="worker")
    batch = next(data.train_dataloader())
    assert len(batch["views"]) == 7 and sorted(opened) == sorted(batch["index"].tolist())


@pytest.mark.parametrize(("cores", "workers"), [(2, 0), (4, 0), (6, 6), (64, 8)])
def test_files_are_read_and_augmented_by_workers_on_a_cpu_of_many_cores(
    classes: Path, with_cores: Callable[[int], None], cores: int, workers: int
) -> None:
    with_cores(cores)
    data = served(classes, workers=None)
    loader = data._train_loader()
    assert isinstance(loader, DataLoader) and loader.num_workers == workers
    assert data.in_workers == (cores > 4) and not served(classes, augment_on="device").in_workers
    assert served(classes, augment_on="worker").in_workers


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(8):
        deep(number).save(tmp_path / "scans" / f"{number}.png")
    for options in ({}, {"window": (1000.0, 50_000.0)}, {"percentiles": (1.0, 99.0)}):
        data = served(tmp_path / "scans", channels=1, image_size=64, **options)
        clean = data.fetch_clean(data.training_split, torch.arange(8))
        assert clean.dtype == torch.float32 and float(clean.min()) >= 0 and float(clean.max()) <= 1
        assert len(clean[0].unique()) > 300, "more grey levels than 8 bits hold"


def test_the_policy_is_changed_by_name_and_a_wrong_name_is_told(classes: Path) -> None:
    data = ImageFolder(str(classes), augmentation={"crop_scale": [0.2, 1.0], "blur_p": None, "grey_p": 0})
    assert (data.recipe.crop_scale, data.recipe.blur_p, data.recipe.grey_p) == ((0.2, 1.0), None, 0)
    assert data.recipe.mean == ImageFolder.policy.mean
    for wrong, message in (
        ({"crop_scal": [0.2, 1]}, "no field 'crop_scal'. Did you mean 'crop_scale'"),
        ({"crop_scale": 0.2}, "crop_scale=0.2 does not fit; give 2 numbers, such as"),
        ({"jitter": [1, 1, 1]}, "jitter=.* does not fit; give 4 numbers"),
        ({"flip": "yes"}, "flip='yes' does not fit; give a number"),
        ({"flip": 2.0}, r"HorizontalFlip\(p=2.0\) must be"),
        ({"mean": [0.5, 0.5]}, "as many means"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolder(str(classes), augmentation=wrong)


# Files that cannot be read.


def break_file(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


def test_an_unreadable_file_is_named_and_stops_the_run(classes: Path) -> None:
    broken = break_file(classes / "bee" / "0010.jpg")
    data = served(classes, batch_size=24)
    with pytest.raises(UnreadablePicture, match=rf"{broken}.*--data\.unreadable skip"):
        next(data.train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_takes_the_next_image_of_the_class_always_the_same(classes: Path, workers: int, tmp_path: Path) -> None:
    break_file(classes / "bee" / "0010.jpg")
    (classes / "bee" / "0013.jpg").write_bytes(b"")  # the one after it too
    data = served(classes, unreadable="skip", max_unreadable=0.1, workers=workers, batch_size=24)
    source = pictures_of(data.training_split)
    clean = data.fetch_clean(source, torch.arange(24))
    sixteen = next(i for i in range(24) if source.name(i).endswith("0016.jpg"))
    for name in ("0010", "0013"):
        place = next(i for i in range(24) if source.name(i).endswith(f"{name}.jpg"))
        assert torch.equal(clean[place], clean[sixteen])
    one, two = (
        next(served(classes, unreadable="skip", max_unreadable=0.1, workers=w, batch_size=24).train_dataloader())
        for w in (0, workers)
    )
    views = [batch["views"] if "views" in batch else data.make_batch(batch)["views"] for batch in (one, two)]
    assert torch.equal(views[0][0].x, views[1][0].x)
    next(data.train_dataloader())
    assert int(source.skipped.sum()) == 2, "what workers skip is counted here"


def test_a_run_reports_what_it_skipped(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = break_file(classes / "cat" / "0005.jpg")
    run = trainer(tmp_path / "runs", max_epochs=2, callbacks=[Report(enabled=False)])
    run.fit(
        SimCLR(ConvEncoder(width=4)),
        datamodule=ImageFolder(str(classes), image_size=32, batch_size=8, workers=1, unreadable="skip"),
    )
    assert f"Unreadable images, in whose place others were taken: 1 ({broken})" in capsys.readouterr().out
    assert run.run_folder is not None and (run.run_folder / "unreadable.txt").read_text() == f"{broken}\n"


def test_too_many_unreadable_files_stop_the_run(classes: Path) -> None:
    for name in ("0001", "0004", "0007"):
        (classes / "bee" / f"{name}.jpg").write_text("no picture")
    data = served(classes, unreadable="skip", max_unreadable=0.08, batch_size=24)
    with pytest.raises(
        UnreadablePicture, match=r"3 of 24 images cannot be read, more than --data.max_unreadable allows \(2\)"
    ):
        next(data.train_dataloader())


def test_a_class_without_a_readable_image_is_told(classes: Path) -> None:
    for path in (classes / "ant").glob("*"):
        path.write_text("no picture")
    with pytest.raises(UnreadablePicture, match=r"No image can stand for .*ant"):
        next(served(classes, unreadable="skip", max_unreadable=1.0, batch_size=24).train_dataloader())


# Runs.


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(classes: Path, tmp_path: Path) -> None:
    """Resumed in the middle of a pass over the files, with an unreadable one among them and with
    workers that had read ahead."""
    break_file(classes / "bee" / "0010.jpg")

    def fit(name: str, **arguments: Any) -> tuple[Path, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        method = SimCLR(ConvEncoder(width=4))
        quiet = [Report(enabled=False), KNNProbe(enabled=False), OnlineLinearProbe(enabled=False), Checkpoint(keep=9)]
        run = trainer(tmp_path / name, max_epochs=4, limit_train_batches=2, callbacks=quiet)
        run.fit(
            method,
            datamodule=ImageFolder(str(classes), image_size=24, batch_size=8, workers=2, unreadable="skip"),
            **arguments,
        )
        assert run.run_folder is not None and run.global_step == 8
        return run.run_folder, method.state_dict()

    folder, whole = fit("whole")
    (middle,) = (folder / "checkpoints").glob("step-*4.ckpt")
    _, resumed = fit("resumed", ckpt_path=str(middle))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert not all(
        torch.equal(torch.load(middle, weights_only=True)["state_dict"][name], value) for name, value in whole.items()
    )


def test_a_run_is_not_resumed_on_other_files(classes: Path) -> None:
    state = served(classes).state_dict()
    served(classes).load_state_dict(state)
    (classes / "ant" / "0000.jpg").rename(classes / "ant" / "renamed.jpg")
    with pytest.raises(ValueError, match=r"trained with fingerprint=.*order of the samples would change"):
        served(classes).load_state_dict(state)


def test_a_labelled_folder_judges_a_run_on_an_unlabelled_one(classes: Path, tmp_path: Path) -> None:
    fill(tmp_path / "photos", range(50, 66))
    probe = ImageFolder(str(classes), image_size=24)
    data = ImageFolder(str(tmp_path / "photos"), image_size=24, batch_size=8, workers=0, probe_sets={"animals": probe})
    run = trainer(tmp_path / "runs", max_epochs=2, callbacks=[Report(enabled=False)])
    run.fit(SimCLR(ConvEncoder(width=4)), datamodule=data)
    assert run.run_folder is not None
    columns = next(csv.reader((run.run_folder / "metrics.csv").open()))
    assert {"probe/animals/knn/top1", "probe/animals/linear/top1"} <= set(columns) and "probe/knn/top1" not in columns


# Mistakes, on the command line.


def complaint(capsys: pytest.CaptureFixture[str], root: Path | str, *options: str) -> str:
    code = main(
        [
            "fit",
            "--model",
            "simclr",
            "--data",
            "image_folder",
            "--data.root",
            str(root),
            "--trainer.accelerator",
            "cpu",
            *options,
        ]
    )
    captured = capsys.readouterr()
    assert code == 2 and captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building an encoder is a failure."""
    monkeypatch.setattr("timm.create_model", lambda *args, **kwargs: pytest.fail("an encoder was built"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_a_wrong_folder_is_told_before_an_encoder_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    assert "no folder 'fotos'" in complaint(capsys, tmp_path / "fotos") and "photos" in complaint(
        capsys, tmp_path / "fotos"
    )
    assert "holds no files" in complaint(capsys, tmp_path / "photos")
    (tmp_path / "photos" / "a.heic").write_text("x")
    assert ".heic (1)" in complaint(capsys, tmp_path / "photos")
    assert "is a file, not a folder" in complaint(capsys, tmp_path / "photos" / "a.heic")


def test_a_folder_that_does_not_do_is_told_in_one_sentence(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--data.image_size", "32", "--model.encoder", "conv")
    assert "24 training samples, fewer than batch_size=128" in complaint(capsys, classes, *small)
    for name in ("bee", "cat"):
        shutil.rmtree(classes / name)
    told = complaint(capsys, classes, *small, "--data.labels", "folders", "--data.batch_size", "4")
    assert "holds one, 'ant'. Set --data.labels none" in told
    fill(classes / "bee", range(4))
    bomb = photo(0, 400, 500)
    bomb.save(classes / "ant" / "0000.jpg")
    told = complaint(capsys, classes, *small, "--data.batch_size", "4", "--data.max_pixels", "100000")
    assert (
        "500 x 400 pixels, above the limit of 100,000 (max_pixels)" in told
        and str(classes / "ant" / "0000.jpg") in told
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_unreadable_file_in_mid_run_is_told_in_one_sentence(
    classes: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    broken = break_file(classes / "cat" / "0023.jpg")
    small = (
        "--data.image_size",
        "32",
        "--model.encoder",
        "conv",
        "--data.batch_size",
        "8",
        "--data.workers",
        workers,
        "--trainer.max_epochs",
        "2",
    )
    off = ("--online_probe.enabled", "false", "--knn_probe.enabled", "false", "--report.enabled", "false")
    assert str(broken) in complaint(capsys, classes, *small, *off)


def test_a_probe_set_without_labels_is_refused(classes: Path, tmp_path: Path) -> None:
    fill(tmp_path / "photos", range(8))
    probe = ImageFolder(str(tmp_path / "photos"), image_size=24)
    data = ImageFolder(str(classes), image_size=24, batch_size=8, probe_sets={"photos": probe})
    with pytest.raises(ValueError, match=r"probe_sets.photos: ImageFolder has no labels"):
        data.setup("fit")


def test_the_pictures_of_a_group_are_held_out_together(tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        photo(number).save(tmp_path / "ab"[number % 2] / f"patient_{number // 4}_{number}.png")
    for few in (None, 6):
        data = ImageFolder(str(tmp_path), group_pattern=r"patient_(\d+)", batch_size=4, labels_per_class=few)
        splits: Any = data.probe_splits()
        learned, judged = ({int(group) for group in split.groups} for split in splits)
        assert learned and judged and not learned & judged
    torn: Any = ImageFolder(str(tmp_path), batch_size=4).probe_splits()
    assert all(split.groups is None for split in torn)
    with pytest.raises(ValueError, match=r"group_pattern='doctor' does not match 'a/patient_0_0.png'"):
        ImageFolder(str(tmp_path), group_pattern="doctor", batch_size=4).probe_splits()
