"""`ssl-lightning probe`: wrong uses are one line each, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lightning.cli.main import main

GOOD = "path,age,red,note\na.png,1.5,0,x\nb.png,2,1,y\n"

WRONG = {
    "": "The following arguments are required: RUN, --data, --by",
    "run --data digits": "The following arguments are required: --by",
    "run --by knn": "The following arguments are required: --data",
    "run --data digits --by lineer": "There is no protocol 'lineer'. Did you mean 'linear'?",
    "run --data digits --by ,": "--by ',' names none; give some of knn, linear",
    "run --data digits --by knn,knn": "--by names 'knn' twice",
    "run --data digits --by knn --rows pretraned": "no row 'pretraned' of features. Did you mean 'pretrained'?",
    "run --data digits --by knn --rows raw,raw": "--rows names 'raw' twice",
    "run --data digits --by knn --k 5": "There is no option --k",
    "run --data digits --by knn --seed -1": "'-1' is no whole number of at least 0",
    "run --data digits --by knn --seed 99999999999999999999": "--seed 99999999999999999999 is too large",
    "run --data digits --by knn --test-samples 0": "'0' is no whole number of at least 1",
    "run --data digits --by knn --set k=5": "--set 'k=5' is no setting; write it as PROTOCOL.NAME=VALUE",
    "run --data digits --by knn --set linear.draws=3": "is of 'linear', which --by does not name (knn)",
    "run --data digits --by knn --to results.csv": "--to results.csv is no .json file; name one",
    "run --data digits --by values": "--by values needs targets; give them with --targets FILE",
    "run --data digits --by knn --targets good.csv": "None of --by knn reads --targets; leave it out, or",
    "run --data digits --by values --targets absent.csv": "--targets absent.csv is no file",
    "run --data digits --by values --targets t.txt": "--targets t.txt is no list; give a file in .csv",
    "run --data digits --by values --targets no_key.csv": "has no column 'path' that names the samples",
    "run --data digits --by values --targets empty.csv": "empty.csv holds no samples",
    "run --data digits --by values --targets text.csv": "has no column of numbers or of labels ('note': text)",
    "run --data digits --by values --targets flags.csv": "--by values: --targets flags.csv has no column of numbers",
    "run --data digits --by multilabel --targets numbers.csv": "has no column of 0 and 1, nor lists of labels",
    "run --data digits --by values --targets twice.csv": "twice.csv, line 3: 'a.png' is in line 2 too; keep one",
    "run --data digits --by values --targets infinite.csv": "infinite.csv, line 2: 'age' is infinite",
    "run --data digits --by values --targets nameless.csv": "nameless.csv, line 3: no 'path', which names the sample",
    "run --data digits --by values --targets index.csv": "index.csv, line 2: the index 'x' is no whole number",
    "run --data digits --by values --targets broken.jsonl": "broken.jsonl, line 2: not valid JSON",
    "run --data digits --by values --targets broken.parquet": "broken.parquet is not a parquet file, or is damaged",
}
FILES = {
    "good.csv": GOOD, "t.txt": GOOD, "no_key.csv": "paht,age\na,1", "empty.csv": "path,age\n",
    "text.csv": "path,note\na.png,x", "flags.csv": "path,red\na.png,1\nb.png,0", "numbers.csv": "path,age\na.png,3",
    "twice.csv": "path,age\na.png,1\na.png,2", "infinite.csv": "path,age\na.png,inf",
    "nameless.csv": "path,age\na,1\n,2", "index.csv": "split,index,age\ntrain,x,1",
    "broken.jsonl": '{"path": "a", "age": 1}\n{"path"',
    "broken.parquet": "no parquet",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_one_line(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *line.split()]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and error.startswith("ssl-lightning probe: error: ")
    assert WRONG[line] in error
    assert not (here / "probe-digits.json").exists()


LATER = {
    "absent --data digits --by knn": "absent",
    ". --data digitz --by knn": "There is no file, folder or data set 'digitz'. Did you mean 'digits'?",
    ". --data digits --by knn --set knn.kk=5": "knn has no setting 'kk'. Did you mean 'k'? Settings: ",
    ". --data digits --by knn --set knn.k=five": "--set knn.k=five is of another kind than its default, 20",
    ". --data digits --by sgd --set sgd.momentum=2.0": "--set sgd: momentum=2.0 is out of its range",
    ". --data digits --by knn --device tpu9": "There is no device 'tpu9' here",
}
"""Mistakes that only torch, the run or the data can tell."""


@pytest.mark.parametrize("line", LATER)
def test_a_mistake_in_run_data_or_setting_is_one_line(
    line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *line.split()]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and LATER[line] in error


def test_mistakes_are_told_without_torch(here: Path) -> None:
    code = (
        "import sys\nfrom ssl_lightning.cli.main import main\n"
        "for line in sys.argv[1:]:\n    assert main(['probe', *line.split()]) == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *WRONG], check=False, stderr=subprocess.DEVNULL).returncode == 0
