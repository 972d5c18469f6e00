"""A list of recordings: what its columns say, and what is said where they say nothing sensible."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_lightning.data.sound.manifest import Columns, Manifest

CSV = "path,word,split,start,end\na.wav,10,train,,\nsub/a.wav,9,train,0.5,1.5\nb.wav,9,test,2,\n/c.wav,,unlabelled,,\n"


def test_a_csv_and_the_same_jsonl_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(CSV)
    (tmp_path / "list.jsonl").write_text(
        '{"path": "a.wav", "word": 10}\n\n{"path": "sub/a.wav", "word": "9", "start": 0.5, "end": "1.5"}\n{"path":'
        ' "b.wav", "word": 9, "split": "test", "start": 2}\n{"path": "/c.wav", "word": null, "split": "pretrain"}\n'
    )
    one, two = (Manifest(tmp_path / f"list.{form}", Columns(label="word")) for form in ("csv", "jsonl"))
    assert one.recordings == two.recordings and one.fingerprint == two.fingerprint
    assert one.class_names == ("9", "10")  # numbers in their order
    train, test, pretrain = (one.of_split(split) for split in ("train", "test", "pretrain"))
    assert train is not None and test is not None and pretrain is not None and one.of_split("val") is None
    assert [train[0], train[1], pretrain[0]] == [str(tmp_path / "a.wav"), str(tmp_path / "sub/a.wav"), "/c.wav"]
    assert [train.stretch(0), train.stretch(1), test.stretch(0)] == [(0.0, None), (0.5, 1.5), (2.0, None)]
    assert (
        torch.equal(train.labels, torch.tensor([1, 0]))
        and torch.equal(test.labels, torch.tensor([0]))
        and pretrain.labels is None
    )
    assert train.fingerprint != test.fingerprint


def test_without_a_label_column_there_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(CSV)
    manifest = Manifest(tmp_path / "list.csv", Columns())
    train = manifest.of_split("train")
    assert manifest.class_names == () and train is not None and train.labels is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,word\na.wav,x\n", r"line 2: there is no column 'path'.* The columns are file, word"),
        ("path,words\na.wav,x\n", r"line 2: there is no column 'word'. Did you mean 'words'\?"),
        ("path,word\n,x\n", "line 2: path='' is not a path"),
        ("path,word,split\na.wav,x,trian\n", r"split='trian' is not a split. Did you mean 'train'\?"),
        ("path,word,start\na.wav,x,soon\n", "start='soon' is not a time in seconds"),
        ("path,word,start\na.wav,x,-1\n", "start='-1' is not a time in seconds"),
        ("path,word,start,end\na.wav,x,2,1\n", "line 2: the recording ends at 1 s, but begins at 2 s"),
    ],
)
def test_a_line_that_says_nothing_sensible_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        Manifest(tmp_path / "list.csv", Columns(label="word"))


def test_labels_must_be_known_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,word,split\na.wav,cat,train\nb.wav,cats,test\nc.wav,,val\n")
    manifest = Manifest(path, Columns(label="word"))
    for split, reason in (
        ("test", r"b.wav has the class 'cats', .* Did you mean 'cat'\?"),
        ("val", "c.wav has no 'word', but others have one"),
    ):
        part = manifest.of_split(split)
        assert part is not None
        with pytest.raises(ValueError, match=reason):
            _ = part.labels
