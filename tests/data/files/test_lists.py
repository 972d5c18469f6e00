"""One reader of lists: every dialect that people export gives the same lines, and what does not fit
is named by its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from ssl_lightning.data.files.lists import rows

LINES = [
    {"path": "a.wav", "text": "plain", "label": "x"},
    {"path": "b.wav", "text": 'a "quoted" word', "label": "y"},
    {"path": "c.wav", "text": '"Wait, she said', "label": "x"},
    {"path": "d.wav", "text": 'he left" at noon, late', "label": "y"},
    {"path": "e.wav", "text": "\u00e4\u4e2d; | \u0439", "label": "x"},
    {"path": "f.wav", "text": "", "label": "y"},
]
BROKEN = {"path": "g.wav", "text": "two\nlines", "label": "x"}
REQUIRED = {"path_column": "path", "label_column": "label"}


def read(path: Path, **named: Any) -> list[dict[str, Any]]:
    return [row for _, row in rows(path, REQUIRED, usual=["text"], **named) if row]


def by_csv(lines: list[dict[str, str]], **dialect: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["path", "text", "label"], **dialect)
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize(
    ("delimiter", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "csv"), ("\t", "tsv"), (",", "tsv")]
)
def test_what_spreadsheets_and_pandas_export(
    tmp_path: Path, delimiter: str, suffix: str, quoting: int, end: str, encoding: str
) -> None:
    path, lines = tmp_path / f"list.{suffix}", [*LINES, BROKEN]
    text = by_csv(lines, delimiter=delimiter, quoting=quoting, lineterminator=end)
    path.write_bytes(text.encode(encoding))
    assert read(path) == lines


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_where_nothing_is_quoted_a_mark_is_a_letter(tmp_path: Path, delimiter: str) -> None:
    """As Common Voice and LJSpeech write lists."""
    path = tmp_path / "list.tsv"
    lines = [line for line in LINES if delimiter not in line["text"]] + [{**LINES[0], "text": '"Hello."'}]
    path.write_text("\n".join(delimiter.join(row) for row in [list(lines[0]), *(line.values() for line in lines)]))
    assert read(path) == lines


def test_of_marks_that_could_swallow_lines_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    path.write_text('path\ttext\tlabel\na\t"Wait, she said\tx\nb\tno\ty\nc\tshe left"\tx\n')
    assert [row["path"] for row in read(path)] == ["a", "b", "c"]
    path.write_text('path\ttext\tlabel\na\t"Wait\tx\nb\t\nc\tleft"\tx\n')
    with pytest.raises(ValueError, match=r"list\.tsv, line 3: 2 of the 3 columns path, text, label"):
        read(path)


def test_parquet_and_jsonl_say_the_same(tmp_path: Path) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = [*LINES, BROKEN]
    pq.write_table(pa.Table.from_pylist([{**line, "bytes": b"x"} for line in lines]), tmp_path / "list.parquet")
    (tmp_path / "list.jsonl").write_text("\n\n".join(json.dumps({**line, "other": 1}) for line in lines))
    assert read(tmp_path / "list.parquet") == read(tmp_path / "list.jsonl") == lines


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "a.csv",
            "path,text,label\na,b,c,d\n",
            r"line 2: 4 values for 3 columns, path, text, label. A value with a ','",
        ),
        ("a.csv", 'path,text,label\na,"b" c,d\n', r"line 2: not valid CSV"),
        ("a.csv", 'path,text,label\na,"b,c\nd,e,f\n', r"line 3: not valid CSV: .* Is a quotation mark left open\?"),
        ("a.csv", "path,label,label\na,b,c\n", r"a\.csv has 2 columns 'label'; keep one"),
        ("a.csv", "path,lable\na,b\n", r"a\.csv has no column 'label'. Did you mean 'lable'\? .*--data\.label_column"),
        ("a.jsonl", '{"path": "a", "label": "x"}\n{"path": "a"}\n', r"line 2, has no column 'label'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path / name)


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_a_named_column_must_be_there(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"list.{form}"
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(LINES), path)
    else:
        path.write_text(
            '{"path": "a", "label": "x", "text": ""}\n' if form == "jsonl" else by_csv(LINES, delimiter="\t")
        )
    assert read(path, named={"text_column": "text"})
    with pytest.raises(ValueError, match=r"has no column 'nosuch'.* It has path, .*--data\.split_column"):
        read(path, named={"split_column": "nosuch"})


def test_trailing_delimiters_and_blank_lines_are_no_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text,label\na,b,x,,\n\nb,c,y\n")
    assert [row for _, row in rows(tmp_path / "a.csv", REQUIRED)] == [
        {"path": "a", "label": "x"},
        {},
        {"path": "b", "label": "y"},
    ]
