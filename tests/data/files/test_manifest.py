"""A list of recordings: what its columns say, and what is said where they say nothing sensible."""

from __future__ import annotations

import hashlib
import json
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from ssl_lightning.data.files.manifest import Columns, Manifest, Recording
from ssl_lightning.data.files.strings import Strings
from ssl_lightning.data.sound.files import SoundFiles

CSV = "path,word,split,start,end\na.wav,10,train,,\nsub/a.wav,9,train,0.5,1.5\nb.wav,9,test,2,\n/c.wav,,unlabelled,,\n"


def test_a_csv_and_the_same_jsonl_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(CSV)
    (tmp_path / "list.jsonl").write_text(
        '{"path": "a.wav", "word": 10}\n\n{"path": "sub/a.wav", "word": "9", "start": 0.5, "end": "1.5"}\n{"path":'
        ' "b.wav", "word": 9, "split": "test", "start": 2}\n{"path": "/c.wav", "word": null, "split": "pretrain"}\n'
    )
    one, two = (Manifest(tmp_path / f"list.{form}", Columns(label="word")) for form in ("csv", "jsonl"))
    everything = torch.arange(4)
    assert [*one.lines(everything)] == [*two.lines(everything)] and len(one) == len(two) == 4
    assert one.fingerprint == two.fingerprint
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
        (
            "file,word\na.wav,x\n",
            r"list.csv has no column 'path'.* It has file, word; name one with --data.path_column",
        ),
        ("path,words\na.wav,x\n", r"list.csv has no column 'word'. Did you mean 'words'\?"),
        ("path,word\n,x\n", "line 2: path='' is not a path"),
        ("path,word,split\na.wav,x,trian\n", r"split='trian' is not a split. Did you mean 'train'\?"),
        ("path,word,start\na.wav,x,soon\n", "start='soon' is not a time in seconds"),
        ("path,word,start\na.wav,x,-1\n", "start='-1' is not a time in seconds"),
        ("", "The list .*list.csv has no entries"),
        ("path,word\n", "The list .*list.csv has no entries"),
        ("path,word,start,end\na.wav,x,2,1\n", "line 2: the recording ends at 1 s, but begins at 2 s"),
    ],
)
def test_a_line_that_says_nothing_sensible_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        Manifest(tmp_path / "list.csv", Columns(label="word"))


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("line", "split", "stretch"),
    [
        ({"split": "test", "start": "1", "end": "3"}, "test", (1.0, 3.0)),
        ({"subset": "dev", "offset": "0.25", "duration": "0.5"}, "val", (0.25, 0.75)),
        ({"set": "train-clean-100", "duration": "2"}, "train", (0.0, 2.0)),
        ({"onset": "1", "offset": "3"}, "train", (1.0, 3.0)),
        ({"partition": "TEST", "begin": "1", "end": "", "duration": "4"}, "test", (1.0, 5.0)),
        ({"start": "1", "end": "3", "duration": "60"}, "train", (1.0, 3.0)),  # the file's
        ({"offset": "1.5"}, "train", (1.5, None)),
    ],
)
def test_columns_go_by_the_names_that_are_usual(
    tmp_path: Path, form: str, line: dict[str, str], split: str, stretch: tuple[float, float | None]
) -> None:
    line = {"path": "a.wav", **line}
    path = tmp_path / f"list.{form}"
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([line]), path)
    elif form == "jsonl":
        path.write_text(json.dumps(line))
    else:
        path.write_text("\n".join(("\t" if form == "tsv" else ",").join(row) for row in (line, line.values())))
    (read,) = Manifest(path, Columns()).lines(torch.arange(1))
    assert (read.split, read.start, read.end) == (split, *stretch)
    (whole,) = Manifest(path, Columns(split="", start="", end="", duration="")).lines(torch.arange(1))
    assert (whole.split, whole.start, whole.end) == ("train", 0.0, None)


@pytest.mark.parametrize("name", ["split", "start", "end", "duration"])
def test_a_column_that_is_named_must_be_there(tmp_path: Path, name: str) -> None:
    for form, text in (("csv", CSV), ("jsonl", '{"path": "a.wav", "split": "train"}\n')):
        (tmp_path / f"list.{form}").write_text(text)
        with pytest.raises(ValueError, match=rf"no column 'nosuch'.* It has path, .*--data\.{name}_column"):
            Manifest(tmp_path / f"list.{form}", Columns(**{name: "nosuch"}))


def test_labels_must_be_known_and_a_recording_may_have_none(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,word,split\na.wav,cat,train\nb.wav,cats,test\nc.wav,,val\n")
    manifest = Manifest(path, Columns(label="word"))
    test, val = manifest.of_split("test"), manifest.of_split("val")
    assert test is not None and val is not None and val.labels is not None and val.labels.tolist() == [-1]
    with pytest.raises(ValueError, match=r"b.wav has the class 'cats', .* Did you mean 'cat'\?"):
        _ = test.labels


def test_the_fingerprint_is_that_of_the_lines_as_json(tmp_path: Path) -> None:
    """As before the lines were held in tensors: runs are resumed by it."""
    lines = [Recording("a.wav", "x", "train", 0.0, None), Recording("\u00e4\ud800.wav", None, "test", 0.1, 1 / 3)]
    for some in (lines, lines[:1]):
        manifest = Manifest(tmp_path / "list.csv", Columns(), iter(some))
        before = json.dumps([line[:5] for line in some])  # the group came later
        assert manifest.fingerprint == hashlib.blake2b(before.encode(), digest_size=16).hexdigest()
        assert list(manifest.lines(torch.arange(len(some)))) == some


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_lines_are_a_handful_of_objects(tmp_path: Path, count: int) -> None:
    """In this process, which a forked worker shares, and in what a worker that is started afresh is
    sent: kilobytes, whatever the number."""
    lines = (
        Recording(f"speaker {number % 997}/{number:09}.wav", f"word {number % 35}", "train", number / 8, None)
        for number in range(count)
    )
    before = sys.getallocatedblocks()
    manifest = Manifest(tmp_path / "list.csv", Columns(label="word"), lines)
    part = manifest.of_split("train")
    assert part is not None
    source = SoundFiles(part, 16_000, part.labels)
    assert sys.getallocatedblocks() - before < 2_000
    assert len(ForkingPickler.dumps(source)) < 10_000
    assert source.name(count - 1).endswith(f"{count - 1:09}.wav") and source.labels[count - 1] == part.labels[count - 1]
    assert part.stretch(count - 1) == ((count - 1) / 8, None) and part.fingerprint == manifest.fingerprint


def test_strings_are_texts_of_any_kind() -> None:
    texts = ["", "a", "\u00e4\u4e2d", "\ud800", "b" * 1000]
    strings = Strings(iter(texts))
    assert [strings[number] for number in range(5)] == texts and strings[-1] == texts[-1] and len(strings) == 5
    assert strings.some(torch.tensor([3, 1, 3])) == [texts[3], "a", texts[3]] and len(Strings([])) == 0
    with pytest.raises(IndexError):
        strings[5]
