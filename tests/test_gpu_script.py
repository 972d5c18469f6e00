"""`benchmarks/gpu.py` runs: at its tiny sizes, on the CPU, part by part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
spec = spec_from_file_location("gpu", SCRIPT)
assert spec is not None and spec.loader is not None
gpu = sys.modules["gpu"] = module_from_spec(spec)
spec.loader.exec_module(gpu)


def measure(folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the json and the table of some parts, without a GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment.pop("SSL_LIGHTNING_DATA", None)
    command = [sys.executable, str(SCRIPT), *words, "--results", str(folder), "--limit", "2000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (path,) = folder.glob("gpu-*.json")
    return done.returncode, json.loads(path.read_text()), path.with_suffix(".md").read_text()


@pytest.mark.slow
def test_everything_runs_without_a_gpu(tmp_path: Path) -> None:
    """And what is compared is the same: `fit` and the loop by hand end with the same weights, bit
    for bit, and so do a run and the same one resumed."""
    code, results, table = measure(tmp_path)
    assert code == 0, results
    assert results["machine"]["torch"]
    parts = {part["part"]: part["rows"] for part in results["parts"]}
    assert {part.partition(" ")[0] for part in parts} == set(gpu.PARTS)
    assert all(part["ended"] == "whole" for part in results["parts"])
    rows = [row for part in parts.values() for row in part]
    assert all(row["what"].replace("|", "\\|") in table for row in rows)
    assert not [row["what"] for row in rows if row["met"] is False]
    assert len(parts["throughput"]) == 4 and len(parts["augment"]) == len(parts["nt_xent"]) == 2
    assert len(parts["learning"]) == 4 and all(0 <= row["values"]["linear"] <= 100 for row in parts["learning"])
    for name, others in {"simclr": 1, "mae": 1, "bert": 2, "wav2vec2": 1}.items():
        assert len(parts[f"fit {name}"]) == 2 + others
    differences = {row["what"]: row["values"]["difference"] for row in rows if "difference" in row["values"]}
    assert len(differences) >= 4 + 13 + 5  # on a CPU one method of each kind of encoder has its modality
    assert set(differences.values()) == {0}, differences


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others(tmp_path: Path) -> None:
    code, results, table = measure(tmp_path, "fit", "nonsense", "nt_xent")
    failed, whole = results["parts"]
    assert code == 1 and failed["part"] == "fit nonsense" and whole["ended"] == "whole"
    assert "nonsense" in failed["rows"][0]["values"]["traceback"] and "nonsense" in failed["log"]
    assert "| fit nonsense |  | failed: UnknownName" in table


def test_a_part_is_killed_at_its_limit() -> None:
    """In a process of its own, since it forks."""
    code = "import json, gpu; print(json.dumps(gpu.run(('smoke', ()), 0.5)))"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["ended"] == "killed at its limit of 0.5 s" and result["seconds"] < 5


def test_jobs() -> None:
    assert gpu.jobs(["smoke", "simclr", "byol", "card"], []) == [("smoke", ("simclr", "byol")), ("card", ())]
    assert gpu.jobs(["fit"], []) == [("fit", (name,)) for name in ("simclr", "mae", "bert", "wav2vec2")]
    assert not [part for part, _ in gpu.jobs([], ["learning"]) if part == "learning"]
    with pytest.raises(SystemExit, match="There is no part 'smok'"):
        gpu.jobs(["smok"], [])
