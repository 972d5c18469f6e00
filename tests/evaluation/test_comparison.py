"""Several runs side by side: what differs, what is subtracted, and what is not claimed. The folders
are written by hand, as runs write them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from past_runs import cell, write_run

from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.comparison import files
from ssl_lightning.evaluation.comparison.differences import difference, same_draws, why_other_data
from ssl_lightning.evaluation.comparison.recorded import read_run, read_runs
from ssl_lightning.evaluation.comparison.settings import ABSENT, differing, groups_of, names_of, shown
from ssl_lightning.evaluation.comparison.tables import sheets_of
from ssl_lightning.evaluation.gains import gain
from ssl_lightning.evaluation.protocols.stamp import Stamp


def test_settings_that_differ_are_rows_and_where_a_run_goes_is_not_among_them(tmp_path):
    runs = read_runs([
        write_run(tmp_path / "a", temperature=0.2, norm="batch"),
        write_run(tmp_path / "b", temperature=0.5, norm="batch", workers=4, devices=2),
        write_run(tmp_path / "c", method="mae", mask_ratio=0.75),
    ], 2)  # fmt: skip
    rows = differing(runs)
    assert rows["model.temperature"] == [0.2, 0.5, ABSENT] and rows["model.mask_ratio"] == [ABSENT, ABSENT, 0.75]
    assert list(rows) == ["model", "model.temperature", "model.norm", "model.mask_ratio"]
    assert names_of(runs) == ["simclr a", "simclr b", "mae"]
    runs = read_runs([str(write_run(tmp_path / f"d{seed}", seed=seed)) for seed in (0, None)], 2)
    assert names_of(runs) == ["seed 0", "simclr-digits"]


def test_equal_draws_are_paired_and_others_are_not(tmp_path):
    one, other = (0.50, 0.60, 0.55), (0.53, 0.631, 0.58)  # always 3 points better, whatever the draw
    paired = difference([cell(*other)], [cell(*one)], paired=True)
    apart = difference([cell(*other)], [cell(*one)], paired=False)
    assert paired == gain(cell(*other), cell(*one)) and paired.clear
    assert apart.points == pytest.approx(paired.points) and not apart.clear and apart.margin > 0.05
    a, b = (
        read_run(write_run(tmp_path / name, seed=seed, cells={"pretrained/knn_10": cell(*draws)}))
        for name, seed, draws in (("a", 0, one), ("b", 1, other))
    )
    assert same_draws(a, b, cell(*one), cell(*other))
    assert not same_draws(a, b, cell(*one), {"mean": 0.5, "std": 0.1, "n": 5})  # of an older version, without draws
    for fact in ("labels", "samples", "classes", "available"):
        assert not same_draws(a, b, cell(*one), cell(*other, **{fact: 7})), fact


def test_labels_drawn_by_the_runs_own_seed_are_not_paired(tmp_path, capsys):
    folders = []
    for name, seed, labels in (("a", 0, 5), ("b", 1, 5), ("c", 0, 5)):
        folders.append(write_run(tmp_path / name, method="mae" if name == "a" else "simclr", seed=seed))
        for file in ("config.yaml", "resolved.yaml"):
            text = (folders[-1] / file).read_text().replace("workers: null", f"labels_per_class: {labels}")
            (folders[-1] / file).write_text(text)
    a, b, c = map(read_run, folders)
    assert not same_draws(a, b, cell(0.5, 0.6), cell(0.5, 0.6)) and same_draws(a, c, cell(0.5, 0.6), cell(0.5, 0.6))
    assert main(["compare", str(folders[0]), str(folders[1])]) == 0
    assert "other labels were drawn, so these differences are not paired" in capsys.readouterr().out


def test_runs_equal_but_for_their_seed_are_one_entry_and_nothing_is_claimed_within_the_spread(tmp_path):
    for seed, (mean, other) in enumerate(zip((0.50, 0.60, 0.55), (0.56, 0.66, 0.58), strict=True)):
        write_run(tmp_path / f"a{seed}", seed=seed, cells={"pretrained/knn_10": cell(mean, mean, mean)})
        write_run(tmp_path / f"b{seed}", "mae", seed=seed, cells={"pretrained/knn_10": cell(other, other, other)})
    runs = read_runs(sorted(map(str, tmp_path.iterdir())), 2)
    (sheet,) = sheets_of(runs)
    assert [entry.name for entry in sheet.entries] == ["simclr (3 seeds)", "mae (3 seeds)"]
    (each,) = sheet.differences
    assert each.gains["knn_10"].points == pytest.approx(0.05) and each.signs == {"knn_10": 0}
    assert sheet.lines == ["mae (3 seeds): no clear difference from simclr (3 seeds) in every column."]
    again = read_runs([*map(str, sorted(tmp_path.iterdir())[:2]), str(write_run(tmp_path / "same", seed=0))], 2)
    assert [len(group) for group in groups_of(again)] == [2, 1]  # of one seed twice: not a further seed


def test_other_data_is_not_subtracted(tmp_path):
    here = read_run(write_run(tmp_path / "a", root="/data/one"))
    for other, words in (
        (write_run(tmp_path / "b", data="tones", root="/data/one"), "digits and tones"),
        (write_run(tmp_path / "c", root="/data/two"), "data.root"),
        (write_run(tmp_path / "d", root="/data/one"), "test has 397 and 12"),
    ):
        if other.name == "d":
            (other / "data.json").write_text((other / "data.json").read_text().replace("397", "12"))
        run = read_run(other)
        assert words in why_other_data(here, run)
        (sheet,) = sheets_of([here, run])
        assert sheet.differences[0].gains == {} and "not comparable" in sheet.lines[0]


DAMAGE = {
    "no summary": ("summary.json", None, "stopped before its end"),
    "half a summary": ("summary.json", '{"steps": 6', "summary.json cannot be read"),
    "a list": ("summary.json", "[1]", "not a mapping"),
    "no table": ("summary.json", '{"steps": 60}', "has no closing table"),
    "a cell of text": ("summary.json", '{"final/pretrained/knn": "x", "final/pretrained/knn_10": []}', "not a cell"),
    "half a name": ("summary.json", '{"final/x": {"mean": 0.5}}', "not a cell"),
    "bytes": ("summary.json", b"\xff\xfe\x00", "summary.json cannot be read"),
    "failed": ("summary.json", '{"report/failed": "map", "failed_writes": 2}', "2 writes failed"),
    "an older version": ("resolved.yaml", None, "no resolved.yaml"),
    "no config": ("config.yaml", None, "no config.yaml"),
    "not yaml": ("config.yaml", "a: [", "config.yaml cannot be read"),
    "a class": ("config.yaml", "a: !!python/object:os.x {}", "config.yaml cannot be read"),
    "no metrics": ("metrics.csv", None, "no metrics.csv"),
    "half a row": ("metrics.csv", "step,a\n1,2\n3", "1 lines of metrics.csv cannot be read"),
    "no steps": ("metrics.csv", "a,b\n1,2\n", "no column step"),
    "bytes in metrics": ("metrics.csv", b"step,a\n1,2\n\x00\xff,1\n", "1 lines of metrics.csv"),
    "data": ("data.json", "{", "data.json cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_a_line_and_the_rest_is_shown(damage, tmp_path, capsys):
    file, content, words = DAMAGE[damage]
    whole, bad = write_run(tmp_path / "a"), write_run(tmp_path / "b", "mae")
    (bad / file).unlink()
    if content is not None:
        (bad / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["compare", str(whole), str(bad)]) == 0
    out = capsys.readouterr()
    assert words in out.out and "52.0 ± 2.0" in out.out and not out.err
    assert main(["compare", "--json", str(whole), str(bad)]) == 0
    assert any(words in fault for fault in json.loads(capsys.readouterr().out)["runs"][1]["faults"])


def test_what_a_folder_holds_cannot_write_to_the_terminal(tmp_path, capsys):
    bad = "\x1b[31mred\n"
    cells = {f"pretrained/{bad}": cell(0.5, 0.6), f"{bad}/pretrained/knn": cell(0.5, 0.6), "raw/knn": bad}
    run, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", "mae", cells=cells, note=bad)
    (other / "metrics.csv").write_text(f"step,{bad[:-1]}\n1,2\n")
    assert main(["compare", str(run), str(other)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.count(r"\x1b[31mred") >= 4


LINES = [
    "step,a,b,c,d", "1,0.5,,3,", "2,nan,1e-3,,", "3,inf,-inf,7,", "4,1", "5,1,2,3,4,5", ",1,2,3,", "6,,0.1,,",
    "7,-2,,1,",
]  # fmt: skip


@pytest.mark.parametrize("further", ["", "8,x,1,2,"], ids=["numbers", "a text"])
def test_metrics_are_read_at_once_as_they_are_line_by_line(further, tmp_path):
    file, faults = tmp_path / "metrics.csv", []
    file.write_text("\n".join([*LINES, *[further] * bool(further)]) + "\n")
    names = LINES[0].split(",")
    curves, bad = files._line_by_line(file.read_text().splitlines()[1:], names)
    assert (files._quickly(file, names) is None) == bool(further) and bad == 3 + bool(further)
    read = files.read_curves(file, faults)
    assert set(read) == set("abc") and faults == [f"{bad} lines of metrics.csv cannot be read"]
    for name, (steps, values) in curves.items():
        np.testing.assert_array_equal(read[name][0], steps)
        np.testing.assert_array_equal(read[name][1], values)
    assert list(read["a"][0]) == [1, 2, 3, 7]


def wrong_uses(tmp_path: Path) -> dict[str, list[str]]:
    run, other = str(write_run(tmp_path / "runs" / "a")), str(write_run(tmp_path / "runs" / "b", "mae"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    return {
        "no run": [],
        "one run": [run],
        "a missing folder": [run, str(tmp_path / "none")],
        "a file": [run, str(tmp_path / "file")],
        "a file of a run": [run, f"{other}/summary.json"],
        "not a run": [run, str(tmp_path / "empty")],
        "a folder of runs": [run, str(tmp_path / "runs")],
        "twice": [run, other, run],
        "twice, named otherwise": [run, f"{run}/../a"],
        "no such row": [run, other, "--row", "pretraned"],
        "a row without name": [run, other, "--row"],
        "an unknown option": [run, other, "--jsn"],
        "an empty name": [run, ""],
    }


@pytest.mark.parametrize("case", range(13))
def test_a_wrong_use_is_one_line(case, tmp_path, capsys):
    name, argv = list(wrong_uses(tmp_path).items())[case]
    assert main(["compare", *argv]) == 2, name
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("ssl-lightning compare: error: "), error
    assert "Traceback" not in error and len(error) < 400


def test_the_rows_of_baselines_are_shown_on_demand_and_json_is_whole(tmp_path, capsys):
    cells = {"pretrained/knn_10": cell(0.5, 0.6, 0.7), "labels_only/knn_10": cell(0.3, 0.4, 0.5),
             "speaker/pretrained/knn_10": cell(0.1, 0.2, 0.3)}  # fmt: skip
    a, b = write_run(tmp_path / "a", cells=cells), write_run(tmp_path / "b", "mae", cells=cells)
    assert main(["compare", str(a), str(b), "--json", "--row", "labels_only"]) == 0
    result = json.loads(capsys.readouterr().out)
    (table,) = result["tables"]
    assert table["row"] == "labels_only" and table["differences"]["mae"]["knn_10"]["points"] == 0
    assert result["last"]["train/loss"] == {"simclr": 2.0, "mae": 2.0} and result["last"]["steps"]["mae"] == 60
    assert main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert (
        "speaker: pretrained encoder" in out
        and "labels only" not in out
        and "mae \N{MINUS SIGN} simclr\t+0.0 ± " in out
    )


def test_comparing_imports_no_torch(tmp_path):
    folders = [str(write_run(tmp_path / "a")), str(write_run(tmp_path / "b", "mae"))]
    code = f"import sys, ssl_lightning.cli.main as cli; cli.main(['compare', *{folders}])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_equal_numbers_are_equal_and_text_is_told_from_what_it_looks_like(tmp_path, capsys):
    a = write_run(tmp_path / "a", warmup=10, name="1", mode="null", rate=float("nan"), lists=[1, 2])
    b = write_run(tmp_path / "b", warmup=10.0, name=1, mode=None, rate=float("nan"), lists="[1, 2]")
    rows = differing(read_runs([str(a), str(b)], 2))
    assert [*rows] == ["model.name", "model.mode", "model.lists"]
    assert [[*map(shown, each)] for each in rows.values()] == [['"1"', 1], ['"null"', "null"], ["[1, 2]", '"[1, 2]"']]
    (tmp_path / "a" / "summary.json").write_text('{"steps": NaN, "samples_per_s": Infinity}')
    assert main(["compare", "--json", str(a), str(b)]) == 0
    json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))


def test_of_fewer_draws_as_many_of_the_others_are_paired():
    few, many = cell(0.50, 0.60, 0.55), cell(0.53, 0.631, 0.58, 0.9, 0.1)
    assert difference([many], [few], paired=True).points == pytest.approx((0.03 + 0.031 + 0.03) / 3)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(("seeds", "others"), [(1, 3), (3, 3), (2, 5)])
def test_of_groups_that_are_worth_the_same_at_most_5_of_100_claims_are_made(seeds, others):
    random = np.random.default_rng(0)
    claims = 0
    for _ in range(1_000):
        means = 0.7 + 0.02 * random.normal(size=seeds + others)
        cells = [cell(mean, mean, error=0.0) for mean in means]
        claims += difference(cells[:seeds], cells[seeds:], paired=False).clear
    assert claims <= 65  # 50 and two deviations


def test_runs_of_other_protocols_are_told_in_one_line(tmp_path, capsys):
    def stamped(name, **changes):
        folder = write_run(tmp_path / name, note=name)
        summary = json.loads((folder / "summary.json").read_text())
        fields = {"settings": {"knn": {"k": 20}}, "transform": {"size": 16}, "data": "ab", "split": "test"} | changes
        stamp = Stamp(protocol="closing table", train=100, judged=50, seed=0, **fields)
        (folder / "summary.json").write_text(json.dumps({**summary, "protocol": {"final": stamp.as_json()}}))
        return str(folder)

    first, same = stamped("a"), stamped("b")
    other = stamped("c", settings={"knn": {"k": 200}}, transform={"size": 32}, data="cd")
    old = str(write_run(tmp_path / "old", note="old"))
    lines = {folder: sheets_of(read_runs([first, folder], 2))[0].lines for folder in (same, other, old)}
    assert not any("protocol" in line for line in lines[same])
    (told,) = [line for line in lines[other] if "protocol" in line]
    assert told.endswith("(knn.k is 20 and 200; transform.size is 16 and 32; other samples or labels).")
    assert next(line for line in lines[old] if "protocol" in line).endswith("is not recorded.")
    assert main(["compare", first, other]) == 0 and told in capsys.readouterr().out
    assert main(["report", first, other, "--out", str(tmp_path / "report.html")]) == 0
    assert "knn.k is 20 and 200" in (tmp_path / "report.html").read_text()
    assert not any(
        "protocol" in line for line in sheets_of(read_runs([old, str(write_run(tmp_path / "o"))], 2))[0].lines
    )
