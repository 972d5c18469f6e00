"""Everything that is to be measured on one GPU, within 8 minutes.

    python benchmarks/gpu.py                       # all parts, on one H100-class card
    python benchmarks/gpu.py throughput augment    # some of them
    python benchmarks/gpu.py smoke simclr byol     # a part, on these methods alone
    python benchmarks/gpu.py --skip learning

Each part runs in a process of its own, which is killed at the part's limit; a part that fails or is
killed keeps what it had measured, with the end of its output, and the others run. The results go to
`benchmarks/results/gpu-<device>.json`, and as a table for RESULTS.md to the file of the same name
with `.md`; both are rewritten after each part. Nothing is downloaded: images, texts and waves are
made on the spot, and `learning` takes Fashion-MNIST where `SSL_LIGHTNING_DATA` has it. Without a
GPU all of it runs at tiny sizes on the CPU, which says nothing of speed and shows that it runs.
`gpu.sh` prepares a machine that reaches no package registry.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

RESULTS = Path(__file__).parent / "results"
LIMIT = 470.0
"""Seconds for everything."""
PRELOADED = ("torch._dynamo", "timm", "sklearn.linear_model", "common", "ssl_lightning.cli.command")
"""What the parts need that takes long to import, and does not start CUDA: a process that has it is
forked for each part."""
LEAST = 10.0
"""Seconds below which no part is started."""
KEPT = 4_000
"""Characters of a part's output that are kept where it failed."""


@dataclass(frozen=True)
class Part:
    """A module of `gpu_parts`, the seconds that it may take, and what it runs on if nothing is
    named: each `separately`, in a process of its own, since what one leaves behind on the device
    must not fail the next."""

    limit: float
    separately: tuple[str, ...] = ()


PARTS = {
    "card": Part(60),
    "throughput": Part(70),
    "fit": Part(60, ("simclr", "mae", "bert", "wav2vec2")),
    "augment": Part(30),
    "nt_xent": Part(30),
    "smoke": Part(120),
    "learning": Part(240),
}
"""In the order in which they run: what is short and asked for first, first."""

Job = tuple[str, tuple[str, ...]]
"""A part, and the names that it is to run on."""


def jobs(words: list[str], skip: list[str]) -> list[Job]:
    """What a command line asks for: parts, each followed by the names it is limited to."""
    wanted: list[tuple[str, list[str]]] = []
    for word in words or [part for part in PARTS if part not in skip]:
        if word in PARTS:
            wanted.append((word, []))
        elif not wanted:
            raise SystemExit(f"There is no part {word!r}; choose from {', '.join(PARTS)}.")
        else:
            wanted[-1][1].append(word)
    return [(part, names) for part, given in wanted for names in shares(part, given)]


def shares(part: str, names: list[str]) -> list[tuple[str, ...]]:
    """What each process of a part runs on."""
    separately = PARTS[part].separately
    return [(name,) for name in names or separately] if separately else [tuple(names)]


def run(job: Job, limit: float) -> dict[str, Any]:
    """Runs a part in a process of its own: how it ended, its seconds and its rows, and where it did
    not end well also what it printed last."""
    part, names = job
    began, code, used = time.monotonic(), None, 0.0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        rows, machine, log = (Path(folder) / name for name in ("rows.jsonl", "machine.json", "log.txt"))
        command = [sys.executable, __file__, part, *names, "--into", str(rows), "--limit", str(limit)]
        pid = os.fork()
        if pid == 0:
            become(command, log)
        try:
            while code is None and time.monotonic() - began < limit:
                code, used = ended(pid)
        finally:
            if code is None:
                kill(pid)
        words = {None: f"killed at its limit of {limit:g} s", 0: "whole"}.get(code, f"failed with code {code}")
        result = {
            "part": " ".join((part, *names)),
            "when": time.strftime("%Y-%m-%d %H:%M"),
            "ended": words,
            "seconds": round(time.monotonic() - began, 1),
            "CPU seconds": round(used, 1),
            "machine": json.loads(machine.read_text()) if machine.exists() else {},
            "rows": [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else [],
        }
        return result if code == 0 else {**result, "log": log.read_text(errors="replace")[-KEPT:]}


def ended(pid: int) -> tuple[int | None, float]:
    """The exit code of a process, None if it still runs after another moment, and the seconds of
    CPU time that it has used."""
    time.sleep(0.02)
    done, status, usage = os.wait4(pid, os.WNOHANG)
    return (os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime) if done else (None, 0.0)


def kill(pid: int) -> None:
    """Ends a process with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def become(command: list[str], log: Path) -> NoReturn:
    """Turns a fork of this process, which has imported everything, into that of a part; where the
    device does not work in a fork, into a new interpreter."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(output, number)
    code = 1
    try:
        if not device_works():
            os.execv(command[0], command)
        code = child(parse(command[2:]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def device_works() -> bool:
    """Whether CUDA starts here, or there is none."""
    import torch

    try:
        if torch.cuda.is_available():
            torch.cuda.init()
            return True
    except RuntimeError:
        return False
    return not Path("/dev/nvidiactl").exists()


def child(args: argparse.Namespace) -> int:
    """Runs a part in this process, whose exit code it returns. A row is written as soon as it is
    known."""
    from gpu_parts.card import machine
    from gpu_parts.sheet import Sheet

    part, *names = args.parts
    args.into.with_name("machine.json").write_text(json.dumps(machine()))
    sheet = Sheet(args.into, args.limit)
    try:
        importlib.import_module(f"gpu_parts.{part}").run(sheet, names)
    except Exception as error:
        sheet.failed(" ".join((part, *names)), error)
        traceback.print_exc()
    return 1 if sheet.failures else 0


def table(results: list[dict[str, Any]]) -> str:
    """The rows as RESULTS.md has them."""
    lines = ["| part | what | bar | measured | |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        for row in result["rows"]:
            met = {True: "met", False: "not met", None: ""}[row["met"]]
            cells = (result["part"], row["what"], row["bar"], row["measured"], met)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        if result["ended"] != "whole":
            lines.append(f"| {result['part']} | | | {result['ended']} | not met |")
    return "\n".join(lines)


def write(folder: Path, results: list[dict[str, Any]]) -> Path:
    """Writes what is known so far, under the device's name, beside the parts that were measured
    before and are not now; returns the path without its ending."""
    machine: dict[str, Any] = next((each["machine"] for each in results if each["machine"]), {})
    name = re.sub("[^a-z0-9]+", "-", machine.get("device", "unknown").lower()).strip("-")
    path = folder / f"gpu-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    if path.with_suffix(".json").exists():
        now, before = {each["part"] for each in results}, json.loads(path.with_suffix(".json").read_text())["parts"]
        results = [each for each in before if each["part"] not in now] + results
    path.with_suffix(".json").write_text(json.dumps({"machine": machine, "parts": results}, indent=1) + "\n")
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    path.with_suffix(".md").write_text(f"{facts}\n\n{table(results)}\n")
    return path


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}, each followed by the names to run it on")
    parser.add_argument("--skip", nargs="+", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the results")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all; if longer, each part has more")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> None:
    args = parse()
    todo = jobs(args.parts, args.skip)
    if args.into:
        sys.exit(child(args))
    ends, results = time.monotonic() + args.limit, []
    os.environ["PYTHONWARNINGS"] = "ignore"
    for name in PRELOADED:
        importlib.import_module(name)
    print(f"imports: {args.limit - ends + time.monotonic():.0f} s", flush=True)
    for job in todo:
        left = ends - time.monotonic()
        if left < LEAST:
            nothing = {"ended": "no time was left", "seconds": 0, "CPU seconds": 0, "machine": {}, "rows": []}
            results.append({"part": " ".join((job[0], *job[1])), **nothing})
        else:
            results.append(run(job, min(PARTS[job[0]].limit * max(1.0, args.limit / LIMIT), left)))
        last = results[-1]
        print(
            f"{last['part']}: {last['ended']}, {last['seconds']:.0f} s ({last['CPU seconds']:.0f} of the CPU)",
            last.get("log", ""),
            flush=True,
        )
        path = write(args.results, results)
    print(f"\n{table(results)}\n\n{path}.json")
    sys.exit(any(result["ended"] != "whole" for result in results))


if __name__ == "__main__":
    main()
