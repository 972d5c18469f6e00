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
    command = [sys.executable, str(SCRIPT), *words, "--results", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (path,) = folder.glob("gpu-*.json")
    return done.returncode, json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_the_machine_and_what_is_quick(tmp_path: Path) -> None:
    code, results, table = measure(tmp_path, "card", "augment", "nt_xent", "throughput")
    assert code == 0, results
    assert results["machine"]["torch"]
    assert [part["part"] for part in results["parts"]] == ["card", "augment", "nt_xent", "throughput"]
    rows = [row for part in results["parts"] for row in part["rows"]]
    assert len(rows) == 3 + 2 + 2 + 4
    assert all(row["what"].replace("|", "\\|") in table for row in rows)
    assert not [row["what"] for row in rows if row["met"] is False]


@pytest.mark.parametrize(("name", "others"), [("simclr", 1), ("mae", 1), ("bert", 2), ("wav2vec2", 1)])
def test_fit_against_a_loop_and_other_libraries(name: str, others: int, tmp_path: Path) -> None:
    """On a CPU both end with the same weights, bit for bit: the loop does what `fit` does."""
    code, results, _ = measure(tmp_path, "fit", name)
    (part,) = results["parts"]
    assert code == 0 and part["ended"] == "whole", part
    assert len(part["rows"]) == 2 + others
    assert part["rows"][-1]["values"]["difference"] == 0
    assert part["rows"][0]["values"]["flops"] > 0


def test_learning(tmp_path: Path) -> None:
    code, results, _ = measure(tmp_path, "learning")
    assert code == 0, results
    rows = results["parts"][0]["rows"]
    assert len(rows) == 4 and all(0 <= row["values"]["linear"] <= 100 for row in rows)


def test_every_method_passes_and_resumes(tmp_path: Path) -> None:
    """On a CPU a resumed run ends bit for bit like the whole one."""
    code, results, _ = measure(tmp_path, "smoke")
    assert code == 0, results
    rows = results["parts"][0]["rows"]
    assert all(row["met"] for row in rows)
    assert {row["values"].get("difference", 0) for row in rows} == {0}
    assert len(rows) >= 2 * 13 + 1


def test_a_part_that_fails_leaves_the_others(tmp_path: Path) -> None:
    code, results, table = measure(tmp_path, "fit", "nonsense", "nt_xent")
    failed, whole = results["parts"]
    assert code == 1 and failed["part"] == "fit nonsense" and whole["ended"] == "whole"
    assert "nonsense" in failed["rows"][0]["values"]["traceback"] and "nonsense" in failed["log"]
    assert "failed: RegistryError" in table


def test_a_part_is_killed_at_its_limit() -> None:
    result = gpu.run(("smoke", ()), 0.5)
    assert result["ended"] == "killed at its limit of 0.5 s" and result["seconds"] < 5


def test_jobs() -> None:
    assert gpu.jobs(["smoke", "simclr", "byol", "card"], []) == [("smoke", ("simclr", "byol")), ("card", ())]
    assert gpu.jobs(["fit"], []) == [("fit", (name,)) for name in ("simclr", "mae", "bert", "wav2vec2")]
    assert not [part for part, _ in gpu.jobs([], ["learning"]) if part == "learning"]
    with pytest.raises(SystemExit, match="There is no part 'smok'"):
        gpu.jobs(["smok"], [])
