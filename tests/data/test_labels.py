"""A label that is none is none in every modality, and one that cannot be a class is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from sets import write_sounds
from ssl_lightning.datamodules.audio_folder import AudioFolder
from ssl_lightning.datamodules.hf_images import HFImages
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.labels import class_name
from ssl_lightning.data.sources import InMemory, Source
from ssl_lightning.evaluation.features import closing_splits
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import TinyEncoder, TinyImages

NAN = float("nan")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((value, None) for value in (None, "", " ", -1, "-1", -1.0, "-1.0", NAN, "nan", "NaN", "null", "<NA>")),
        *((value, None) for value in (float("inf"), "-inf", "Infinity")),
        *(("cat", "cat"), ("0", "0"), (3, "3"), (2.0, "2"), ("2.0", "2"), (True, "True"), ("1.2.3", "1.2.3")),
        *(("none", "none"), ("1e3", "1e3"), ("v1.5", "v1.5"), ("007", "007")),
    ],
)
def test_what_is_a_class(value: Any, name: str | None) -> None:
    assert class_name(value, "it") == name


@pytest.mark.parametrize("value", [["en", "x"], {"a": 1}, 0.5, "0.5", b"cat"])
def test_what_cannot_be_a_class_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^line 3: the label 'l' is .* give a name or an integer\."):
        class_name(value, "line 3: the label 'l'")


def texts(folder: Path, labels: list[Any]) -> SSLDataModule:
    lines = [json.dumps({"text": f"a text {number}", "label": label}) for number, label in enumerate(labels)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return TextFiles(str(folder / "texts.jsonl"), label_column="label", vocab_size=300, batch_size=2)


def sounds(folder: Path, labels: list[Any]) -> SSLDataModule:
    write_sounds(folder, [f"{number}.wav" for number in range(len(labels))])
    lines = [json.dumps({"path": f"{number}.wav", "label": label}) for number, label in enumerate(labels)]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return AudioFolder(str(folder / "list.jsonl"), label_column="label", batch_size=2)


def pictures(folder: Path, labels: list[Any]) -> SSLDataModule:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [b"no picture"] * len(labels), "label": labels}
    datasets.config.HF_DATASETS_CACHE = folder / "hf"
    datasets.Dataset.from_dict(rows).to_parquet(folder / "rows.parquet")
    return HFImages(str(folder / "rows.parquet"), batch_size=2)


MODALITIES = (texts, sounds, pictures)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    "labels", [["b", None, "a", ""], [1, -1, 0, None], [1.0, NAN, 0.0, None]], ids=["names", "integers", "gaps"]
)
def test_a_sample_without_a_class_is_told_and_left_out_of_probes(
    tmp_path: Path, modality: Any, labels: list[Any]
) -> None:
    data = modality(tmp_path, labels)
    train = data.split("train")
    assert train is not None and train.labels is not None and train.labels.tolist() == [1, -1, 0, -1]
    assert len(data.training_split) == 4 and len(data.labelled_split) == 2 and data.num_classes == 2
    tally = data.ledger()[0]
    assert tally.found == 4 and "labels of 2 classes" in str(tally)
    assert "; 2 have none and are left out of probes and table" in str(tally) or "2 have no label" in str(tally)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("labels", [[["en", "x"], ["de", "y"]], [0.5, 1.25]], ids=["lists", "measures"])
def test_lists_and_measures_are_refused_in_every_modality(tmp_path: Path, modality: Any, labels: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"[Tt]he label 'label' .*(is list \"\['en', 'x'\]\"|is 0\.5, a measure)"):
        modality(tmp_path, labels).split("train")


@pytest.mark.parametrize("modality", [texts, sounds])
def test_the_order_of_classes_is_that_of_their_names(tmp_path: Path, modality: Any) -> None:
    orders = set()
    for number, labels in enumerate(itertools.permutations(("10", "nan", "2", ""))):
        folder = tmp_path / str(number)
        folder.mkdir()
        data = modality(folder, list(labels))
        data.split("train")
        orders.add(tuple(data.class_names or ()))
    assert orders == {("2", "10")}


class Gaps(TinyImages):
    """Tiny images, some of which have no class."""

    labels: ClassVar[dict[str, list[int]]] = {"train": [0, -1, 1, 2], "val": [0, 1, -1, 2], "test": [-1, 2, 1, 0]}

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        assert isinstance(source, InMemory)
        return InMemory(source.samples, torch.tensor(self.labels[split]).repeat(16))


class OneClass(Gaps):
    labels: ClassVar[dict[str, list[int]]] = {split: [0, 0, 0, 0] for split in Gaps.labels}


class Strange(Gaps):
    labels: ClassVar[dict[str, list[int]]] = {"train": [0, 1, 0, 1], "val": [0, 1, 0, 1], "test": [0, 1, 2, 1]}


class Marked(Gaps):
    """As benchmarks hand out their test split."""

    labels: ClassVar[dict[str, list[int]]] = {"train": [0, 1, 0, 1], "val": [0, 1, 0, 1], "test": [-1, -1, -1, -1]}


def trainer(folder: Path) -> ssl_lightning.Trainer:
    return ssl_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[Report(draws=1, labels_only=False, layers=False)],
    )


def fitted(method: Any, data: SSLDataModule, folder: Path, capsys: Any) -> tuple[dict[str, Any], str]:
    run = trainer(folder)
    run.fit(method, datamodule=data)
    assert run.run_folder is not None and (run.run_folder / "encoder.safetensors").exists()
    return json.loads((run.run_folder / "summary.json").read_text()), capsys.readouterr().out


@pytest.mark.slow
def test_a_run_with_gaps_in_the_labels_ends_with_its_table(tmp_path: Path, capsys: Any) -> None:
    summary, told = fitted(SimCLR(TinyEncoder()), Gaps(), tmp_path, capsys)
    assert summary["final/pretrained/linear"]["mean"] > 0.2 and "report/failed" not in summary
    assert "labels of 3 classes; 16 have none and are left out of probes and table" in told
    assert (
        "test: 64 samples, 48 for test (labels of 3 classes), left out 16: 16 have no label (such as sample 0)" in told
    )


@pytest.mark.slow
def test_labels_of_a_single_class_are_told_and_pretraining_goes_on(tmp_path: Path, capsys: Any) -> None:
    summary, told = fitted(SimCLR(TinyEncoder()), OneClass(), tmp_path, capsys)
    assert not [name for name in summary if name.startswith(("final/", "probe/", "report/"))]
    assert "labels of a single class: nothing to learn from, so there are no probes" in told


def test_a_test_split_without_any_label_leaves_the_table_to_val() -> None:
    data = Marked()
    train, judged, split = closing_splits(data)
    assert (len(train), len(judged), split) == (64, 64, "val") and "64 have no label" in str(data.ledger()[2])


@pytest.mark.slow
def test_finetune_learns_from_the_labelled_samples_alone(tmp_path: Path, capsys: Any) -> None:
    summary, _ = fitted(Finetune(TinyEncoder()), Gaps(), tmp_path, capsys)
    assert "final/test/top1" in summary, summary
    with pytest.raises(ValueError, match=r"test split of Strange has the class 2, which no training sample has"):
        trainer(tmp_path).fit(Finetune(TinyEncoder()), datamodule=Strange())
    with pytest.raises(ValueError, match=r"OneClass has labels of a single class in its train split, .*learns from"):
        trainer(tmp_path).fit(Finetune(TinyEncoder()), datamodule=OneClass())


def test_texts_of_a_table_without_classes_say_how_to_name_their_column(tmp_path: Path) -> None:
    rows = "".join(f'{{"text": "a text of words {number}", "label": "{number % 2}"}}\n' for number in range(40))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "plain.txt").write_text("\n\n".join(f"a text of words {number}" for number in range(40)))
    said = {}
    for name in ("rows.jsonl", "plain.txt"):
        data = TextFiles(str(tmp_path / name), vocab_size=300, batch_size=2)
        data.prepare_data()
        said[name] = data.why_unlabelled
    assert said["plain.txt"] == "has no labels in its train and val splits"
    assert said["rows.jsonl"] == said["plain.txt"] + (
        "; --data.label_column names the column of the class, such as `label`"
    )
