"""Documents from files: each once, in order, whatever is in the files; and in bounded memory."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssl_lightning.data.text.documents import PIECE, Corpus, Counts, Texts
from ssl_lightning.data.text.files import Files, beside_splits, find_files, find_splits
from ssl_lightning.data.text.plain import Division
from ssl_lightning.data.text.tables import Columns

TEXTS = ["one line", 'two\nlines, and "quotes"', "naïve \u2013 日本語 🙂", "a,b\tc"]
LABELS = ["x", "y", "x", "z"]


def read(corpus: Corpus) -> tuple[list[tuple[str, str | None]], Counts]:
    """The documents, put together from their pieces."""
    counts, found = Counts(), list[tuple[str, str | None]]()
    for piece in corpus.read(counts):
        assert piece.text.strip() and len(piece.text) <= PIECE
        if piece.begins:
            found.append(("", piece.label))
        found[-1] = (found[-1][0] + piece.text, piece.label)
    return found, counts


def files(path: Path, columns: Columns = Columns(), document: Division = "paragraph") -> Files:  # noqa: B008
    return Files(str(path), find_files(str(path)), columns, document)


def write(path: Path, texts: list[Any], labels: list[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(
                json.dumps({"label": label, "text": text}) + "\n" for text, label in zip(texts, labels, strict=True)
            )
        )
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("label", "text"), *zip(labels, texts, strict=True)])
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"label": labels, "text": texts}), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_columns_are_read_with_labels(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"some{suffix}", [*TEXTS, "", "word " * PIECE], [*LABELS, "z", "z"])
    found, counts = read(files(path, Columns(label="label")))
    assert found == [*zip(TEXTS, LABELS, strict=True), ("word " * PIECE, "z")]
    assert (counts.empty, counts.replaced) == (1, 0)
    assert [label for _, label in read(files(path))[0]] == [None] * 5


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("paragraph", ["\na\nb\n", " c\nd\n", "e"]),
        ("line", ["a\n", "b\n", " c\n", "d\n", "e"]),
        ("file", ["\ufeff\na\nb\n \n\n c\nd\n\t\ne"]),
    ],
)
def test_txt_is_divided_as_asked(tmp_path: Path, document: Division, expected: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff\r\na\nb\r\n \n\n c\nd\n\t\ne".encode())
    found, counts = read(files(path, document=document))
    assert [text.strip("\n\ufeff") for text, _ in found] == [text.strip("\n\ufeff") for text in expected]
    assert counts.empty == (4 if document == "line" else 0)


def test_a_long_line_is_one_document_in_pieces_that_cut_no_word(tmp_path: Path) -> None:
    text = "wörter " * PIECE
    (tmp_path / "a.txt").write_text(f"first\n\n{text}\n\n{'x' * 3 * PIECE}\n\n{' ' * 3 * PIECE}\n\nlast")
    counts = Counts()
    pieces = list(files(tmp_path / "a.txt").read(counts))
    assert [piece.begins for piece in pieces].count(True) == 4
    words = [piece for piece in pieces if "w" in piece.text]
    assert len(words) > 6 and all(word == "wörter" for piece in words for word in piece.text.split())
    assert [text.strip() for text, _ in read(files(tmp_path / "a.txt"))[0]] == [
        "first",
        text.strip(),
        "x" * 3 * PIECE,
        "last",
    ]


def test_a_line_of_a_hundred_megabytes_does_not_need_its_size(tmp_path: Path) -> None:
    """In 100 MB more address space than Python takes by itself there is no room for it."""
    with (tmp_path / "a.txt").open("wb") as file:
        for _ in range(100):
            file.write(b"word " * 200_000)
    code = (
        "import resource, sys; from pathlib import Path; from ssl_lightning.data.text.plain import read_txt; "
        "from ssl_lightning.data.text.documents import Counts; "
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 60_000_000; "
        "resource.setrlimit(resource.RLIMIT_AS, (size, size)); "
        "print(sum(len(piece.text) for piece in read_txt(Path(sys.argv[1]).open(), 'paragraph', Counts())))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "100000000", done.stderr[-500:]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_bytes_that_are_no_utf8_are_replaced_and_counted(tmp_path: Path, suffix: str) -> None:
    path, wrong = tmp_path / f"a{suffix}", b"caf\xe9 \xff! \xef\xbf\xbd"
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        strings = pa.Array.from_buffers(pa.string(), 1, pa.array([wrong]).buffers())
        pq.write_table(pa.table({"text": strings}), path)
    else:
        path.write_bytes({".txt": b"%s", ".jsonl": b'{"text": "%s"}\n', ".csv": b"text\r\n%s\r\n"}[suffix] % wrong)
    found, counts = read(replace(files(path), max_undecodable=0.3))
    assert found == [("caf\ufffd \ufffd! \ufffd", None)]
    assert counts.sentence().startswith(f"2 bytes that are not of the encoding became U+FFFD (the first in {path}")
    with pytest.raises(ValueError, match=r"2 of 9 characters are bytes that are not UTF-8\..*--data.max_undecodable 1"):
        read(files(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "label,txet\na,b\n",
            (
                r"a\.csv has no column 'text'\. Did you mean 'txet'\? It has label, txet; name one with"
                r" --data\.text_column"
            ),
        ),
        ("a.csv", "text,lable\na,b\n", r"a\.csv has no column 'label'\. Did you mean 'lable'\?.* --data\.label_column"),
        ("a.csv", "label,text\na,b\nc\n", r"a\.csv, line 3: 1 of the 2 columns label, text"),
        ("a.csv", "label,text\n0.5,b\n", r"a\.csv, line 2: the label 'label' is '0\.5', a measure"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: list '\[1\]' where an object"),
        ("a.jsonl", '{"text": null, "label": 1}\n', r"a\.jsonl, line 1: the text 'text' is nothing \(null\)"),
        (
            "a.jsonl",
            '{"text": "a", "label": 0.5}\n',
            r"a\.jsonl, line 1: the label 'label' is 0\.5, a measure and not a class",
        ),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"label": 1}\n', r"a\.jsonl, line 2, has no column 'text'"),
        ("a.parquet", "no", r"a\.parquet is not a parquet file, or is damaged"),
        ("a.txt", "text", r"a\.txt is plain text without columns: there is no label_column 'label'"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(files(tmp_path / name, Columns(label="label")))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_line_too_long_to_hold_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_lightning.data.files.lists.LONGEST", 100)
    (tmp_path / name).write_text("text\n" + "x" * 101 if name == "a.csv" else '{"text": "a"}\n' + "x" * 101)
    with pytest.raises(ValueError, match=r"line 2: longer than 100 characters"):
        read(files(tmp_path / name))


def test_an_open_quotation_mark_does_not_swallow_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_lightning.data.files.lists.LONGEST", 1 << 17)
    csv.field_size_limit(1 << 17)
    (tmp_path / "a.csv").write_text('text\n"x\n' + ("y" * 1000 + "\n") * 140)
    with pytest.raises(
        ValueError,
        match=r"a\.csv, line .*: not valid CSV: field larger than field limit .* Is a quotation mark left open",
    ):
        read(files(tmp_path / "a.csv"))


def test_integers_and_nulls_of_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a", None], [1, 2])
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: the text 'text' is nothing"):
        read(files(path, Columns(label="label")))
    assert read(files(write(path, ["a"], [7]), Columns(label="label")))[0] == [("a", "7")]


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")
    return root


def test_files_are_found_by_path_folder_and_pattern(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a.TXT", "c/d.csv", "c/.hidden.txt", "notes.doc")

    def names(path: str) -> list[str]:
        return [str(found.relative_to(tmp_path)) for found in find_files(path)]

    assert names(str(tmp_path)) == ["a.TXT", "b.txt", "c/d.csv"]
    assert names(str(tmp_path / "*.txt")) == ["b.txt"] and names(str(tmp_path / "**" / "*.csv")) == ["c/d.csv"]
    assert names(str(tmp_path / "b.txt")) == ["b.txt"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("b.text", "There is no file or folder 'b.text' in .*Did you mean 'b.txt'"),
        ("*.csv", "does not match any file"),
        ("notes.doc", r"notes.doc ends in '.doc', which is not a text format; give .txt, .*, .jsonl, .*, .parquet"),
        ("a.tar.gz", r"a.tar.gz ends in '.gz', which is not a text format"),
        ("binary", r"binary holds bytes that are not text"),
        ("images", r"None of the 1 files below .* ends in .*They are: .png \(1\)"),
        ("empty", "holds no files"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, path: str, message: str) -> None:
    make(tmp_path, "b.txt", "notes.doc", "a.tar.gz", "images/a.png")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_files(str(tmp_path / path))


def test_a_folder_is_divided_by_the_names_of_its_entries(tmp_path: Path) -> None:
    names = (
        "train-0001.csv",
        "train_2.csv",
        "valid/x.txt",
        "test.jsonl",
        "testament.txt",
        "unlabelled/y.txt",
        "readme.txt",
    )
    splits = find_splits(str(make(tmp_path / "set", *names)))
    found = {split: [path.name for path in of] for split, of in splits.items()}
    assert found == {
        "train": ["train-0001.csv", "train_2.csv"],
        "val": ["x.txt"],
        "test": ["test.jsonl"],
        "pretrain": ["y.txt"],
    }
    assert [path.name for path in find_splits(str(make(tmp_path / "other", "a.txt", "test.txt")))["train"]] == [
        "a.txt",
        "test.txt",
    ]


@pytest.mark.parametrize("change", ["content", "column", "format", "encoding", "touched", "renamed", "moved"])
def test_what_changes_the_documents_changes_their_identity_and_nothing_else_does(tmp_path: Path, change: str) -> None:
    path = tmp_path / "set" / "a.csv"
    path.parent.mkdir()
    path.write_text("text,label\na,b\n")
    date = path.stat().st_mtime_ns
    before = files(path, Columns()).identity()

    def of_equal_size_and_date() -> None:
        path.write_text("text,label\nb,b\n")
        os.utime(path, ns=(date, date))

    changes: dict[str, Callable[[], Any]] = {
        "content": of_equal_size_and_date,
        "format": lambda: path.rename(path.with_suffix(".tsv")),
        "touched": lambda: os.utime(path, ns=(1, 1)),
        "renamed": lambda: path.rename(path.with_name("b.csv")),
        "moved": lambda: path.parent.rename(tmp_path / "elsewhere"),
    }
    changes.get(change, lambda: None)()
    (after,) = tmp_path.rglob("*.?sv")
    again = files(after, Columns("label" if change == "column" else "text"))
    again = replace(again, encoding="cp1251" if change == "encoding" else "auto")
    assert (again.identity() == before) == (change in ("touched", "renamed", "moved"))


def test_texts_in_memory_are_documents_too() -> None:
    found, counts = read(Texts("some", ["a", " ", "\ud800b"], ["x", "y", "z"]))
    assert found == [("a", "x"), ("\ufffdb", "z")] and (counts.empty, counts.replaced) == (1, 1)
    assert Texts("some", ["a", "b"]).identity() != Texts("some", ["ab", ""]).identity()


RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю. "
GERMAN = "Der Fluß trägt große Schiffe, über Köln nach Süden. "


@pytest.mark.parametrize(
    ("text", "encoding", "looks"),
    [(RUSSIAN, "cp1251", "cp1251"), (RUSSIAN, "koi8-r", "koi8_r"), (GERMAN, "latin-1", "cp1252 or cp1250")],
)
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_an_encoding_before_unicode_is_refused_by_name_and_read_when_named(
    tmp_path: Path, text: str, encoding: str, looks: str, suffix: str
) -> None:
    path, text = tmp_path / f"a{suffix}", text * 20
    content = {".txt": text, ".csv": f'text\n"{text}"\n', ".jsonl": '{"text": "%s"}\n' % text}[suffix]  # noqa: UP031
    path.write_bytes(content.encode(encoding))
    with pytest.raises(
        ValueError,
        match=rf"a\{suffix}: .* that are not UTF-8\. It looks like {looks}: --data.encoding {looks.split()[0]}",
    ):
        read(files(path))
    found, counts = read(replace(files(path), encoding=encoding))
    assert found == [(text, None)] and not counts.replaced
    (tmp_path / "b.txt").write_text(RUSSIAN, encoding="utf-8")  # stays what it is beside the others
    assert read(replace(files(tmp_path / "b.txt"), encoding=encoding))[0] == [(RUSSIAN, None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_told_by_its_first_bytes(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text(f"{GERMAN}\n\n{GERMAN}", encoding=encoding)
    found, counts = read(files(tmp_path / "a.txt"))
    assert [text.strip() for text, _ in found] == [GERMAN.strip()] * 2 and not counts.replaced
    (tmp_path / "b.txt").write_bytes("ab".encode("utf-16") + b"\x00\xd8\x00\x00")
    with pytest.raises(ValueError, match=r"b\.txt is not utf-16.*Give --data.encoding"):
        read(files(tmp_path / "b.txt"))


def test_an_encoding_is_checked_at_once() -> None:
    from ssl_lightning.datamodules.text_files import TextFiles

    for wrong in ("cp12511", "base64"):
        with pytest.raises(ValueError, match=rf"encoding='{wrong}' is unknown.*Give auto or one"):
            TextFiles(__file__ + ".txt", encoding=wrong)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.md", b"# one\n\ntwo", ["# one", "two"]),
        ("a.rst", b"one\n\ntwo", ["one", "two"]),
        ("49960", b"one\n\ntwo", ["one", "two"]),
        ("a.txt.gz", gzip.compress(b"one\n\n") + gzip.compress(b"two"), ["one", "two"]),
        ("a.txt.bz2", bz2.compress(b"one\n\ntwo"), ["one", "two"]),
        ("b.txt", gzip.compress(b"one\n\ntwo"), ["one", "two"]),  # by its content, not its name
        ("c.jsonl.gz", b'{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        ("a.xz", lzma.compress("one\n\nzwölf".encode("utf-16")), ["one", "zwölf"]),
        ("a.csv.gz", gzip.compress(b"text\none\ntwo\n"), ["one", "two"]),
        ("a.ndjson", b'{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        (
            "a.html",
            b"<!doctype html><head><title>no</title><style>p {}</style><body><h1>o<b>n</b>e</h1>\n<p>t&amp;wo\n three"
            b"<script>x = 1 < 2</script><ul><li>four<li>five</ul><pre>a\n  b</pre>",
            ["one", "t&wo three", "four", "five", "a\n  b"],
        ),
        ("a.tsv", b"text\tid\n\"one,\" he said\t1\nshe: \"two\t2\nthree\"\t3\n",
         ['"one," he said', 'she: "two', 'three"']),
        ("a.tsv", b"id\ttext\n1\t\"one\nline\"\n2\t\"a \"\"b\"\"\"\n", ["one\nline", 'a "b"']),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_more_kinds_of_files_are_read(tmp_path: Path, name: str, content: bytes, expected: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    assert [text.strip() for text, _ in read(files(tmp_path))[0]] == expected  # found in its folder


@pytest.mark.parametrize(
    ("name", "compress"), [("a.txt.gz", gzip.compress), ("a.txt.bz2", bz2.compress), ("a.txt.xz", lzma.compress)]
)
def test_a_compressed_file_that_is_cut_is_named(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(compress(os.urandom(3000).hex().encode())[:-1000])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        read(files(tmp_path / name))


def test_what_lies_beside_texts_is_not_taken_for_one_and_all_is_counted(tmp_path: Path) -> None:
    make(tmp_path / "plain", "a.txt", "b.md", "c", "README.md", "LICENSE", "readme_of_mine.txt", "d.tar.gz", "e.png")
    (tmp_path / "plain" / "binary").write_bytes(bytes(range(256)))
    make(tmp_path / "tables", "train.csv", "notes.md", "ORIGIN", "page.html")
    make(tmp_path / "divided", "train.txt", "test.txt", "README.md", "other.txt")
    expected = {
        "plain": (
            ["a.txt", "b.md", "c", "readme_of_mine.txt"],
            {"tell of the data": 2, "are not text": 2, "end in .png": 1},
        ),
        "tables": (["train.csv"], {"are text beside tables": 3}),
        "divided": (["test.txt", "train.txt"], {"tell of the data": 1, "are in no split": 1}),
    }  # fmt: skip
    for name, (used, left_out) in expected.items():
        splits = find_splits(str(tmp_path / name))
        assert sorted(path.name for split in splits.values() for path in split) == used
        tally = beside_splits(str(tmp_path / name), splits)
        assert tally is not None and {each.reason: each.count for each in tally.left_out} == left_out
        assert tally.used == {"documents": len(used)} and tally.found == sum(
            len(names) for _, _, names in os.walk(tmp_path / name)
        )


def test_groups_are_those_of_a_column_or_of_the_files_path(tmp_path: Path) -> None:
    def groups(corpus: Files) -> list[str | None]:
        return [piece.group for piece in corpus.read(Counts())]

    (tmp_path / "a.csv").write_text("text,author\none,x\ntwo,y\n")
    assert groups(files(tmp_path / "a.csv")) == [None, None]
    assert groups(files(tmp_path / "a.csv", Columns(group="author"))) == ["x", "y"]
    make(tmp_path / "set", "x/a.txt", "y/b.txt")
    (tmp_path / "set" / "x" / "a.txt").write_text("one\n\ntwo")
    by_folder = replace(files(tmp_path / "set"), group_pattern=re.compile("^([^/]+)/"), root=tmp_path / "set")
    assert groups(by_folder) == ["x", "x", "y"]
    with pytest.raises(ValueError, match=r"group_pattern='z' does not match 'x/a.txt'"):
        groups(replace(by_folder, group_pattern=re.compile("z")))
    (tmp_path / "a.csv").write_text("text,author\none,\n")
    with pytest.raises(ValueError, match=r"line 2: the group 'author' is str ''; give text or an integer"):
        groups(files(tmp_path / "a.csv", Columns(group="author")))
