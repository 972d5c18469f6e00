"""What `ssl-lightning probe` does once its arguments are checked: computes, and prints tables."""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..encoders.base import Encoder
from ..encoders.published import is_published
from ..evaluation.protocols.base import Protocol, Score
from ..evaluation.protocols.known import protocol_class
from ..evaluation.protocols.probing import MAIN, Probing
from ..evaluation.protocols.result import Difference, spread_of
from ..evaluation.protocols.targets import Targets
from ..evaluation.protocols.token_tasks import TokenFiles
from ..evaluation.table import CURVE_ROWS
from ..evaluation.untrained import began_beside
from ..evaluation.use.processes import device_named
from ..plugins.messages import did_you_mean, printable
from ..run.checkpoints.encoder_file import digest_of
from ..run.pretrained import load_encoder
from ..run.settings.limits import why_unwritable
from .labels import Telling
from .names import UsageError
from .rows import print_rows
from .target import data_for


def probe(
    options: argparse.Namespace,
    names: Sequence[str],
    rows: Sequence[str] | None,
    settings: dict[tuple[str, str], str],
    targets: Targets | None,
    to: Path | None,
    files: dict[str, Path],
) -> int:
    """Computes protocols, and prints their tables; returns the exit code.

    Args:
        options: of the command line.
        names: of the protocols.
        rows: of features; None: all that there are.
        settings: by protocol and name, as text.
        targets: of a file.
        to: the json to write; None: beside the run.
        files: of the targets of single tokens, by option.
    """
    protocols = [
        built(name, {key: text for (protocol, key), text in settings.items() if protocol == name}) for name in names
    ]
    run = Path(options.run if is_published(options.run) else Path(options.run).expanduser())
    folder = run if run.is_dir() else run.parent if run.is_file() else Path()
    file = to or folder / f"probe-{Path(options.data).stem or 'data'}.json"
    if reason := why_unwritable(file.parent):
        raise OSError(f"{printable(file)!r} cannot be written: {reason}. Choose another place with --to.")
    device = device_named(options.device)
    data = data_for(options.run, options.data, options.data_options)
    data.setup("predict")
    encoder = load_encoder(run).float()
    networks: dict[str, Encoder | None] = {MAIN: encoder, **began_beside(run), "raw": None}
    if absent := [row for row in rows or () if row not in networks]:
        raise UsageError(f"{options.run!r} has no row {absent[0]!r}; it has {', '.join(networks)}.")
    networks = {row: network for row, network in networks.items() if rows is None or row in rows}
    most, facts = (options.train_samples, options.test_samples), {"weights": digest_of(encoder)}
    probing = Probing(data, networks, protocols, targets, file, facts, most, options.seed, device, TokenFiles(**files))
    try:
        probing.compute(Telling())
    finally:
        _tell(probing, options.json)
    return 0


def built(name: str, settings: dict[str, str]) -> Protocol:
    """A protocol with settings given as text.

    Raises:
        UsageError: there is no such setting, or its value is of another type.
    """
    cls = protocol_class(name)
    defaults = {each.name: each.default for each in fields(cls)}
    values: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in defaults:
            raise UsageError(
                f"{name} has no setting {key!r}.{did_you_mean(key, defaults)} Settings: {', '.join(defaults)}."
            )
        values[key] = _read(name, key, text, defaults[key])
    try:
        return cls(**values)
    except ValueError as error:
        raise UsageError(f"--set {name}: {error}") from error


def _read(name: str, key: str, text: str, default: Any) -> Any:
    """A value of the type of a default."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, (list, int, float)):
        value = tuple(value) if isinstance(value, list) else (value,)
    if type(value) is not type(default) or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"--set {name}.{key}={text} is of another kind than its default, {default!r}.")
    return value


def _tell(probing: Probing, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**probing.as_json(), "json": str(probing.file)}))
        return
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    for line in probing.remarks:
        print(line)
    for protocol in probing.protocols:
        _table(probing, protocol)
    if probing.results:
        print(f"\n{printable(probing.file)}")


def _table(probing: Probing, protocol: Protocol) -> None:
    """The scores of a protocol by row, the differences, and what they depend on."""
    rows = [row for row in probing.networks if (row, protocol.name) in probing.results]
    if not rows:
        return
    results = {row: probing.results[row, protocol.name] for row in rows}
    metrics = list(results[rows[0]].judgement.scores)
    spreads = dict.fromkeys(spread_of(each).spread_is for each in results[rows[0]].judgement.scores.values())
    stamp = probing.stamps[protocol.name]
    print(f"\n{protocol.name}: {', '.join(f'{key} {_short(value)}' for key, value in stamp.settings.items())}")
    print(
        f"{stamp.train:,} samples to learn from, {stamp.judged:,} judged ({stamp.split}); seed {stamp.seed}; stamp"
        f" {stamp.digest}; ssl_lightning {stamp.versions['ssl_lightning']}, torch {stamp.versions['torch']}"
    )
    unit = "in %; " if protocol.percent else ""
    print(f"{unit}± or in brackets: {', '.join(spreads)}; of differences the {INTERVAL}")
    table = [{"": CURVE_ROWS[row], **{name: _cell(results[row].judgement.scores[name], protocol.percent)
              for name in metrics}} for row in rows]  # fmt: skip
    for row, gains in probing.compared(protocol.name).items():
        cells = {name: _gain(gains[name], protocol.percent) if name in gains else "" for name in metrics}
        table.append({"": f"pretrained \N{MINUS SIGN} {row}", **cells})
    print_rows(table)
    for row in rows:
        for line in results[row].judgement.remarks:
            print(f"{CURVE_ROWS[row]}: {line}")


INTERVAL = "95 % interval over paired samples and draws"


def _cell(score: Score, percent: bool) -> str:
    spread = spread_of(score).spread
    if isinstance(spread, float):
        return f"{_number(score.value, percent)} ± {_number(spread, percent)}"
    return f"{_number(score.value, percent)} [{', '.join(_number(each, percent) for each in spread)}]"


def _gain(gain: Difference, percent: bool) -> str:
    points, low, high = (_number(each, percent, "+") for each in gain)
    return f"{points} [{low}, {high}]"


def _number(value: float, percent: bool, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if percent else f"{value:{sign}.3f}"


def _short(value: Any) -> str:
    return " ".join(f"{each}" for each in value) if isinstance(value, (list, tuple)) else str(value)
