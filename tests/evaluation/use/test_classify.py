"""Files to classes, by a run that was trained on labels: by name, with probabilities."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from ssl_lightning.datamodules.image_folder import ImageFolder
from ssl_lightning.methods.finetune import Finetune

from ssl_lightning import Reader, Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.report import Report
from ssl_lightning.evaluation.use.classifying import classifier_of, scores_of
from ssl_lightning.run.checkpoints.checkpoint import newest_of


@pytest.fixture
def finetuned(photos: Path, tmp_path: Path) -> Path:
    """The folder of a fine-tuned run on images that bear their class: one half is white."""
    for path in photos.rglob("[0-9]*.png"):
        from PIL import Image

        image = Image.new("RGB", (20, 20), "black")
        image.paste("white", (0, 0, 20, 10) if path.parent.name == "a" else (0, 10, 20, 20))
        image.save(path)
    torch.manual_seed(0)
    data = ImageFolder(str(photos), image_size=16, batch_size=8, unreadable="skip", max_unreadable=0.2)
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=tmp_path / "runs",
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(Finetune(ConvEncoder(channels=3, width=4, depth=2)), data)
    assert trainer.run_folder is not None
    return trainer.run_folder


def test_files_get_the_names_of_their_classes(
    finetuned: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.csv"
    assert main(["classify", str(finetuned), str(photos), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert (
        "24 samples classified" in told and "broken.png" in told and "100.0 % of the 24 with a label are right" in told
    )
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    for row in rows:
        assert row["predicted"] == row["label"] == Path(row["path"]).parent.name
        assert float(row["p(a)"]) + float(row["p(b)"]) == pytest.approx(1, abs=1e-5)
        assert float(row["probability"]) == pytest.approx(float(row[f"p({row['predicted']})"]))
    assert out.with_suffix(".confusion.png").is_file()
    assert not out.with_suffix(".mistakes.png").exists(), "there are none"


def test_mistakes_are_shown_and_counted(
    finetuned: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = photos / "test" / "b" / "03.png"
    moved.write_bytes((photos / "test" / "a" / "00.png").read_bytes())
    out = tmp_path / "predictions.parquet"
    assert main(["classify", str(finetuned), str(photos), "--split", "test", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == told["labelled"] == 8 and told["accuracy"] == pytest.approx(7 / 8)
    a, b = told["classes"]
    assert (a["recall"], a["precision"]) == (1.0, pytest.approx(4 / 5))
    assert (b["recall"], b["precision"]) == (pytest.approx(3 / 4), 1.0)
    assert [Path(each).exists() for each in told["pictures"]] == [True, True]


def test_the_classifier_loads_like_an_encoder_and_gives_the_run_s_logits(finetuned: Path, photos: Path) -> None:
    read, paths = Reader(finetuned / "classifier.safetensors"), sorted(photos.rglob("[0-9]*.png"))
    classifier = classifier_of(finetuned)
    assert classifier.classes == ["a", "b"] == classifier_of(newest_of(finetuned)).classes
    assert torch.equal(read(paths).argmax(dim=1), torch.tensor([path.parent.name == "b" for path in paths]).long())
    with torch.no_grad():
        for each in (classifier, classifier_of(newest_of(finetuned))):
            assert torch.allclose(each(read.view(paths)), read(paths), atol=1e-5)


def test_unlabelled_files_are_classified_too(finetuned: Path, photos: Path, tmp_path: Path, capsys: object) -> None:
    one = next((photos / "test" / "a").glob("*.png"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x.png").write_bytes(one.read_bytes())
    out = tmp_path / "predictions.csv"
    assert main(["classify", str(finetuned), str(tmp_path / "new"), "--out", str(out)]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["predicted"] == "a" and row["label"] == ""
    assert not list(tmp_path.glob("predictions.*.png"))


def test_scores_need_a_label() -> None:
    assert scores_of([None, "other"], ["a", "b"], ["a", "b"]) is None
    scores = scores_of(["a", None, "b"], ["a", "b", "a"], ["a", "b", "c"])
    assert scores is not None and scores.accuracy == 0.5 and scores.rows.tolist() == [0, 2]
    assert [(each.name, each.samples, each.recall, each.precision) for each in scores.of_classes(["a", "b", "c"])] == [
        ("a", 1, 1.0, 0.5),
        ("b", 1, 0.0, None),
    ]


@pytest.mark.parametrize(
    "given, message",
    [
        (["ENCODER", "digits", "--out", "x.csv"], "gives no classes. Train a classifier on its encoder"),
        (["RUN", "digits", "--out", "x.npz"], "predictions are written as .csv or .parquet"),
        (["RUN", "nosuch", "--out", "x.csv"], "There is no file, folder or data set"),
        (["nosuch", "digits", "--out", "x.csv"], "nosuch"),
        (["RUN", "tones", "--out", "x.csv"], "cannot read it"),
        (["RUN", "digits"], "required: --out"),
        (["RUN", "digits", "--out", "x.csv", "--tokens"], "There is no option --tokens"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_told_in_one_line(
    given: list[str],
    message: str,
    finetuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"RUN": str(finetuned), "ENCODER": str(finetuned / "encoder.safetensors")}
    capsys.readouterr()
    assert main(["classify", *(names.get(each, each) for each in given)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err
