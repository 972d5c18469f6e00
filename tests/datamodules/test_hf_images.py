"""Images through Hugging Face datasets: parquet, saved folders, columns by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.hf_images import HFImages
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import ConvEncoder, Trainer
from ssl_lightning.data.images.picture import UnreadablePicture
from ssl_lightning.evaluation.report import Report

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet is converted into a cache, which is this test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(number: int, side: int = 40) -> bytes:
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 256, (side, side + number % 5, 3), dtype=np.uint8)
    pixels[:, :, number % 3] //= 4  # a class is the colour that is dark
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def table(count: int, first: int = 0) -> dict[str, list[Any]]:
    numbers = range(first, first + count)
    return {
        "image": [{"bytes": encoded(number), "path": None} for number in numbers],
        "label": [number % 3 for number in numbers],
    }


def features(**columns: Any) -> Any:
    return datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green", "blue"]), **columns}
    )


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder of parquet files as the hub has them: two parts of train, and a test split."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for name, count, first in (
        ("train-00000-of-00002", 24, 0),
        ("train-00001-of-00002", 24, 24),
        ("test-00000-of-00001", 12, 48),
    ):
        datasets.Dataset.from_dict(table(count, first), features=features()).to_parquet(folder / f"{name}.parquet")
    return folder


def test_parquet_gives_its_images_labels_and_splits(parquet: Path) -> None:
    data = HFImages(str(parquet), image_size=32, batch_size=8)
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and (len(train), len(test)) == (48, 12)
    assert train.labels is not None and train.labels.tolist() == [number % 3 for number in range(48)]
    assert data.class_names == ("red", "green", "blue")
    clean = data.fetch_clean(train, torch.tensor([30, 2]))
    assert clean.shape == (2, 3, 32, 32) and clean.dtype == torch.uint8
    for place, number in enumerate((30, 2)):
        whole = Image.open(io.BytesIO(encoded(number))).convert("RGB")
        left = (whole.width - 40) // 2
        expected = np.asarray(
            whole.crop((left, 0, left + 40, 40)).resize((32, 32), Image.Resampling.BILINEAR), dtype=int
        )
        assert np.abs(clean[place].permute(1, 2, 0).numpy() - expected).max() <= 1


def test_a_saved_folder_is_read_too_and_one_data_set_is_a_train_split(parquet: Path, tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict(table(20), features=features())
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "validation": whole.select(range(6))}).save_to_disk(tmp_path / "two")
    one, two = HFImages(str(tmp_path / "one")), HFImages(str(tmp_path / "two"))
    assert len(one.training_split) == 20 and one.split("test") is None and len(one.split("val") or ()) == 2  # withheld
    assert len(two.split("val") or ()) == 6


def test_columns_go_by_name_and_classes_may_be_words_or_missing(tmp_path: Path) -> None:
    words = [["cat", "ant", "bee"][number % 3] for number in range(12)]
    plain = {"photo": [encoded(number) for number in range(12)], "animal": words}
    path = tmp_path / "animals.parquet"
    datasets.Dataset.from_dict(plain).to_parquet(path)
    data = HFImages(str(path), image_column="photo", label_column="animal")
    assert data.training_split.labels is not None and data.training_split.labels.tolist() == [2, 0, 1] * 4
    assert data.class_names == ("ant", "bee", "cat")
    assert HFImages(str(path), image_column="photo").training_split.labels is None
    assert data.fetch_clean(data.training_split, torch.arange(2)).shape == (2, 3, 224, 224)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"image_column": "imgae"},
            "no column image_column='imgae'. Did you mean 'image'. The columns are image, label",
        ),
        ({"label_column": "labels"}, "no column label_column='labels'. Did you mean 'label'"),
        ({"split": "trian"}, "no split 'trian'. Did you mean 'train'. The splits are train, test"),
        ({"label_column": "image"}, "is dict .* which is not a class; give a name or an integer"),
    ],
)
def test_a_wrong_name_is_told_with_the_known_ones(parquet: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r".").replace("?", r"\?")):
        HFImages(str(parquet), **arguments).split("train")


def test_a_row_without_an_image_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    rows = table(8)
    rows["image"][3] = None
    datasets.Dataset.from_dict(rows, features=features()).to_parquet(tmp_path / "gap.parquet")
    data = HFImages(str(tmp_path / "gap.parquet"), image_size=32)
    with pytest.raises(
        UnreadablePicture, match=r"row 3 of .*gap\.parquet, train: it holds no image\. Remove it, or .* skip"
    ):
        data.fetch_clean(data.training_split, torch.arange(8))
    skips = HFImages(str(tmp_path / "gap.parquet"), image_size=32, unreadable="skip", max_unreadable=0.1)
    clean = skips.fetch_clean(skips.training_split, torch.arange(8))
    assert torch.equal(clean[3], clean[6]), "the next of its class"


def test_classes_in_words_have_one_number_in_every_split(tmp_path: Path) -> None:
    for split, words in (("train", ["bee", "cat"]), ("test", ["ant", "bee"])):
        rows = {"image": [encoded(number) for number in range(2)], "label": words}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / f"{split}.parquet")
    data = HFImages(str(tmp_path))
    labels = [data.split(split).labels.tolist() for split in ("train", "test")]  # type: ignore[union-attr]
    assert labels == [[1, 2], [0, 1]] and data.class_names == ("ant", "bee", "cat")


def test_a_column_of_no_images_is_told(parquet: Path) -> None:
    data = HFImages(str(parquet), image_column="label")
    with pytest.raises(ValueError, match=r"column 'label' of .*, train holds no images, but ClassLabel"):
        data.split("train")


def test_what_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither parquet nor a folder .* --data image_folder"):
        HFImages(str(tmp_path)).prepare_data()
    with pytest.raises(ValueError, match=r"There is no file .*nowhere\.parquet"):
        HFImages(str(tmp_path / "nowhere.parquet")).prepare_data()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot load '.*torn\.parquet': \w+: .*[Pp]arquet"):
        HFImages(str(tmp_path / "torn.parquet")).prepare_data()


@pytest.mark.slow
def test_a_run_on_parquet_ends_with_a_closing_table(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path / "runs", enable_progress_bar=False,
        callbacks=[Report(draws=1)],
    )  # fmt: skip
    trainer.fit(
        SimCLR(ConvEncoder(width=4)), datamodule=HFImages(str(parquet), image_size=32, batch_size=16, workers=1)
    )
    assert trainer.global_step == 3 and "pretrained encoder" in capsys.readouterr().out


def test_the_images_of_a_group_are_held_out_together(tmp_path: Path) -> None:
    """The labels are of all groups, the patients of a column."""
    rows = table(24)
    rows["patient"] = [f"patient {number // 4}" for number in range(24)]
    datasets.Dataset.from_dict(rows, features=features(patient=datasets.Value("string"))).to_parquet(
        tmp_path / "train.parquet"
    )
    data = HFImages(str(tmp_path / "train.parquet"), group_column="patient", batch_size=4)
    splits: Any = data.probe_splits()
    learned, judged = ({int(group) for group in split.groups} for split in splits)
    assert len(learned | judged) == 6 and learned and judged and not learned & judged
    with pytest.raises(ValueError, match=r"no column group_column='patients'.*Did you mean 'patient'"):
        HFImages(str(tmp_path / "train.parquet"), group_column="patients").split("train")
