import json

import pytest

from ssl_lightning.cli.rows import print_rows, table

ROWS = [
    {"file": "a/long/name/of/a/file.png", "score": 0.123456, "count": 3, "label": None},
    {"file": "b\tc\n.png", "score": 12.0, "count": 400, "label": "cat"},
]


def test_a_pipe_gets_whole_values_between_tabs_and_each_row_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "file\tscore\tcount\tlabel", "a/long/name/of/a/file.png\t0.1235\t3\t", "b c .png\t12\t400\tcat",
    ]  # fmt: skip


def test_programs_get_json_and_of_no_rows_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    for rows in (ROWS, []):
        print_rows(rows, as_json=True)
        assert json.loads(capsys.readouterr().out) == rows


def test_a_table_fits_the_terminal_and_cuts_the_widest_column() -> None:
    lines = table(ROWS, 40)
    assert [len(line) <= 40 for line in lines] == [True] * 3
    assert lines[1].split() == ["a/long/name/of/a/…", "0.1235", "3"]
    assert table(ROWS, 80)[1].startswith("a/long/name/of/a/file.png  0.1235      3")
    assert table([]) == []
