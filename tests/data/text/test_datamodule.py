"""What all text data share: tokenizer and stores, samples, views, raw features, the position."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ssl_lightning.datamodules.python_docs import paragraphs
from ssl_lightning.datamodules.text_files import TextFiles

from ssl_lightning import ViewSpec
from ssl_lightning.data.text.augment import TextAugmentation
from ssl_lightning.data.text.tokenizer import digest_of

SMALL = {"vocab_size": 300, "row_length": 32, "batch_size": 16, "label_column": "label"}
ROWS = [(f"class {number % 3}", text) for number, text in enumerate(list(paragraphs())[:200])]


class Asks:
    views = ViewSpec(full=2, clean=True)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    return path


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 150 labelled documents to train on and 50 to judge by."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "set" / "train.csv", ROWS[:150])
    write(tmp_path / "set" / "test.csv", ROWS[150:])
    return tmp_path / "set"


def made(texts: Path, **changes: Any) -> TextFiles:
    return TextFiles(str(texts), **{**SMALL, **changes})


def words(data: TextFiles, source: Any, index: list[int]) -> list[list[int]]:
    samples = source.fetch(torch.tensor(index))
    return [part.tolist() for part in samples.x.split(samples.lengths.tolist())]


def test_after_prepare_data_no_process_reads_the_files(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(texts).prepare_data()
    for name in ("Files.read",):
        monkeypatch.setattr(f"ssl_lightning.data.text.files.{name}", lambda *args: pytest.fail("read again"))
    data = made(texts)
    assert len(data.split("train") or ()) == 150 and len(data.split("test") or ()) == 50 and len(data.vocabulary) == 300
    assert data.class_names == ("class 0", "class 1", "class 2")


def test_a_file_may_go_once_the_first_split_is_open(texts: Path) -> None:
    """As in a process that opens the test split when the run is over."""
    made(texts).prepare_data()
    data = made(texts)
    assert len(data.training_split) > 0
    (texts / "test.csv").unlink()
    assert len(data.split("test") or ()) == 50


def test_pretraining_takes_all_of_long_documents_and_probes_their_beginnings(texts: Path) -> None:
    data = made(texts)
    train, pretraining, held_out = data.split("train"), data.training_split, data.held_out
    assert train is not None and held_out is not None
    ids = [data.tokenizer.encode(text, add_special_tokens=False).ids for _, text in ROWS[:150]]
    assert words(data, train, list(range(150))) == [[2, *some[:30], 3] for some in ids]
    pieces = [tuple([2, *some[start : start + 30], 3]) for some in ids for start in range(0, len(some), 30)]
    kept = [
        tuple(sample) for source in (pretraining, held_out) for sample in words(data, source, list(range(len(source))))
    ]
    assert 0 < len(held_out) <= len(pieces) // 50 and sorted(kept) == sorted(pieces)
    assert sorted(
        map(tuple, words(data, made(texts, row_length=4096).training_split, [0, 1]))
    )  # no document is longer: these are samples
    assert len(made(texts, row_length=4096).training_split) == 147


def test_a_validation_split_is_held_out_and_then_nothing_else_is(texts: Path, tmp_path: Path) -> None:
    data = made(texts, val_path=str(write(tmp_path / "v.csv", ROWS[150:170])), row_length=4096)
    assert len(data.training_split) == 150 and data.held_out is not None and len(data.held_out) == 20
    splits = data.probe_splits()
    assert splits is not None and [len(source) for source in splits] == [150, 20]


def test_documents_called_unlabelled_are_pretrained_on_instead(texts: Path) -> None:
    (texts / "unlabelled.txt").write_text("\n\n".join(f"an unlabelled text {number}" for number in range(40)))
    data = made(texts, row_length=64)
    assert (
        len(data.training_split) == 40 and len(data.split("train") or ()) == 150 and data.training_split.labels is None
    )


def test_labels_of_another_split_are_numbered_as_those_of_train(texts: Path) -> None:
    write(texts / "test.csv", [("class 2", "a"), ("class 1", "b")])
    test = made(texts).source("test")
    assert test is not None and test.labels is not None and test.labels.tolist() == [2, 1]
    write(texts / "test.csv", [("class2", "a"), ("class 1", "b")])
    with pytest.raises(
        ValueError,
        match=r"test\.csv has the class 'class2', which no training document has\. Did you mean 'class 2'",
    ):
        made(texts).source("test")


def test_only_strong_views_lose_tokens(texts: Path) -> None:
    data = made(texts, deletion=0.25)
    transforms = {strength: data.transform(strength) for strength in ("none", "weak", "strong", "strong_a", "strong_b")}  # type: ignore[arg-type]
    assert {name: made.deletion for name, made in transforms.items() if isinstance(made, TextAugmentation)} == {
        "none": 0.0, "weak": 0.0, "strong": 0.25, "strong_a": 0.25, "strong_b": 0.25,
    }  # fmt: skip


def test_batches_are_packed_where_they_are_fetched(texts: Path) -> None:
    data = made(texts)
    data.serve(Asks())
    batch = next(data.train_dataloader())
    assert data.in_workers and [view.samples for view in batch["views"]] == [16] * 3
    one, two, clean = batch["views"]
    assert (
        clean.x.shape[1] == 32 and int((clean.x > 0).sum()) > int((one.x > 0).sum()) and not torch.equal(one.x, two.x)
    )
    assert torch.equal(clean.x[clean.position == 0][clean.segment[clean.position == 0] > 0], torch.full((16,), 2))


def test_raw_features_are_tf_idf(texts: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    data = made(texts, row_length=4096)
    train = data.split("train")
    assert train is not None
    documents = [data.tokenizer.encode(text, add_special_tokens=False).ids for _, text in ROWS[:150]]
    reference = TfidfVectorizer(analyzer=lambda ids: [token for token in ids if token > 4]).fit(documents)
    found = data.raw_features(train.fetch(torch.arange(20))).numpy()
    expected = reference.transform(documents[:20]).toarray()
    column = data._weights[0]
    places = [int(column[token]) for token in sorted(reference.vocabulary_, key=reference.vocabulary_.get)]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, places], expected, atol=1e-5)


def test_raw_features_know_the_most_frequent_tokens(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_lightning.data.text.datamodule.RAW_TOKENS", 10)
    data = made(texts)
    features = data.raw_features(data.training_split.fetch(torch.arange(20)))
    assert features.shape == (20, 10) and float((features > 0).float().mean()) > 0.3


def test_a_run_is_not_resumed_with_another_tokenizer(texts: Path, tmp_path: Path) -> None:
    data = made(texts)
    state = data.state_dict()
    (tmp_path / "run").mkdir()
    for name, text in data.artifacts().items():
        (tmp_path / "run" / name).write_text(text)
    again = made(texts, tokenizer=str(tmp_path / "run"))
    again.load_state_dict(state)
    assert again.training_split.fingerprint == data.training_split.fingerprint
    other = made(texts, vocab_size=301)
    own = digest_of(other.tokenizer)
    with pytest.raises(
        ValueError, match=rf"trained with the tokenizer {state['tokenizer']}, this run has {own}: .* --data\.tokenizer"
    ):
        other.load_state_dict(state)


def test_the_default_encoder_knows_the_tokens_of_the_tokenizer(texts: Path, tmp_path: Path) -> None:
    data = made(texts)
    (tmp_path / "tokenizer.json").write_text(data.artifacts()["tokenizer.json"])
    named = TextFiles.suited_encoders({"tokenizer": str(tmp_path), "vocab_size": 8192, "row_length": 64})
    assert named["TextEncoder"] == {"class_path": "text", "init_args": {"vocab_size": 300, "max_length": 64}}
    trained = TextFiles.suited_encoders({"tokenizer": None, "vocab_size": 777})
    assert trained["Encoder"]["init_args"] == {"vocab_size": 777, "max_length": 128}
    with pytest.raises(ValueError, match=r"--data\.tokenizer: tokenizer='nowhere': there is no nowhere"):
        TextFiles.suited_encoders({"tokenizer": "nowhere"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": "device"}, "cache=device needs samples of one size; .* Leave it out"),
        ({"augment_on": "device"}, "augment_on=device does not suit text"),
        ({"row_length": 7}, "row_length=7 is too short for a text; give 8 tokens or more"),
        ({"deletion": 1.5}, r"\(deletion=1\.5\) must be at least 0 and at most 1"),
        ({"tokenizer_kind": "unigramm"}, r"tokenizer_kind='unigramm' is unknown\. Did you mean 'unigram'"),
        ({"document": "lines"}, r"document='lines' is unknown\. Did you mean 'line'\? Choose paragraph, line or file"),
        ({"path": ""}, "path is empty; give the file or folder"),
        ({"path": "nowhere.txt"}, "There is no file or folder 'nowhere.txt'"),
        ({"tokenizer": "nowhere"}, "tokenizer='nowhere': there is no nowhere"),
    ],
)
def test_a_wrong_value_is_told_before_anything_is_read(texts: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        TextFiles(**{"path": str(texts), **SMALL, **arguments})


def test_every_kind_of_tokenizer_gives_whole_batches(texts: Path) -> None:
    for kind in ("wordpiece", "bpe", "unigram"):
        data = made(texts, tokenizer_kind=kind, vocab_size=350)
        data.serve(Asks())
        batch = next(data.train_dataloader())
        assert int(batch["views"][2].x.max()) < len(data.vocabulary) <= 350, kind


def long_documents(folder: Path, count: int = 40, words: int = 300) -> Path:
    """Each has words of its own."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(" ".join(f"d{number}w{word % 50}" for word in range(words)))
    return folder


def documents_in(data: TextFiles, source: Any) -> set[str]:
    texts = [data.tokenizer.decode(ids) for ids in words(data, source, list(range(len(source))))]
    return {name for text in texts for name in re.findall(r"(?:^| )(d\d+)w", text)}


def test_a_document_that_is_held_out_has_no_row_in_training(tmp_path: Path) -> None:
    data = TextFiles(str(long_documents(tmp_path / "set")), row_length=32, tokenizer_kind="bpe", vocab_size=1000)
    kept, held_out = data.training_split, data.held_out
    assert held_out is not None and len(kept) + len(held_out) > 40 * 10
    (withheld,) = documents_in(data, held_out)
    assert documents_in(data, kept) == {f"d{number}" for number in range(40)} - {withheld}
    tally, _ = data.ledger()
    assert (tally.unit, tally.found, tally.used) == ("documents", 40, {"pretraining": 39, "validation": 1})


def test_groups_are_held_out_whole(tmp_path: Path) -> None:
    folder = long_documents(tmp_path / "set")
    data = TextFiles(str(folder), row_length=32, tokenizer_kind="bpe", vocab_size=1000, group_pattern=r"^(\d?)\d\.txt")
    assert data.held_out is None  # each group has a fourth of the documents
    data = TextFiles(str(folder), row_length=32, tokenizer_kind="bpe", vocab_size=1000, group_pattern=r"(\d)\.txt")
    assert data.held_out is not None
    withheld = {int(name[1:]) for name in documents_in(data, data.held_out)}
    assert len(withheld) == 4 and len({number % 10 for number in withheld}) == 1
    assert not withheld & {int(name[1:]) for name in documents_in(data, data.training_split)}


def test_the_probes_of_texts_are_not_judged_by_authors_that_they_learned_from(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{'ab'[number % 2]},author {number // 10}\n" for number in range(200))
    (tmp_path / "a.csv").write_text(f"text,label,author\n{rows}")
    for few in (None, 20):
        data = TextFiles(
            str(tmp_path / "a.csv"), label_column="label", group_column="author", labels_per_class=few, vocab_size=300
        )
        splits = data.probe_splits()
        assert splits is not None and all(split.groups is not None for split in splits)
        learned, judged = (set(split.groups.tolist()) for split in splits)  # type: ignore[union-attr]
        assert judged and learned and not judged & learned


def test_a_run_from_before_goes_on_with_the_rows_that_it_held_out(tmp_path: Path) -> None:
    data = TextFiles(str(long_documents(tmp_path / "set")), row_length=32, tokenizer_kind="bpe", vocab_size=1000)
    new = data.state_dict()
    rows = len(data.training_split) + len(data.held_out or ())
    before = {name: value for name, value in new.items() if name != "withholds_whole"}
    data.load_state_dict({**before, "samples": rows - rows // 50})
    assert data.held_out is not None and len(data.held_out) == rows // 50
    assert len(documents_in(data, data.held_out)) > 1
    assert data.state_dict()["withholds_whole"] is False
    data.start_again()
    data._sources.clear()
    assert len(documents_in(data, data.held_out)) == 1
    data.load_state_dict(new)


def test_the_ledger_counts_each_document_once(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n\n".join(f"text {number}" for number in range(100)))
    (tmp_path / "dev.jsonl").write_text('{"text": "a"}\n{"text": " "}\n\n{"text": "b"}\n')
    (tmp_path / "unlabelled.csv").write_text("text\n" + "some text\n" * 200 + '""\n')
    (tmp_path / "notes.doc").touch()
    data = TextFiles(str(tmp_path), vocab_size=300)
    tallies = {each.split: each for each in data.ledger()}
    assert {split: (each.unit, each.found, dict(each.used)) for split, each in tallies.items()} == {
        "train": ("documents", 100, {"probes": 100}),
        "val": ("documents", 4, {"validation": 2}),
        "pretrain": ("documents", 201, {"pretraining": 200}),
        "files": ("files", 4, {"documents": 3}),
    }
    (left,) = tallies["val"].left_out
    assert left.reason == "are empty" and left.example.endswith("dev.jsonl, line 2")


def test_files_to_judge_on_are_not_trained_on(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    data = TextFiles(str(tmp_path), val_path=str(tmp_path / "b.txt"), test_path=str(tmp_path / "[cd].txt"))
    assert {split: [file.name for file in files] for split, files in data.files.items()} == {
        "train": ["a.txt"], "val": ["b.txt"], "test": ["c.txt", "d.txt"],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"val_path and test_path take all files of path='.*'; give more"):
        TextFiles(str(tmp_path / "a.txt"), val_path=str(tmp_path / "?.txt"))
