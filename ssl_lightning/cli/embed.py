"""`ssl-lightning embed`: a folder, a list or a data set to a file of vectors."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..evaluation.use.embedding import Embedded, Embedding, Wanted
from ..evaluation.use.processes import compute_all, device_named
from ..evaluation.use.rows import check_target
from ..evaluation.use.samples import sources_of
from ..plugins.messages import printable
from ..run.pretrained import load_encoder
from .bar import Bar
from .target import data_for

NAMED = 5
"""Samples that cannot be read, named in the lines about them."""


def main(options: argparse.Namespace) -> int:
    """Embeds what the command line says; see `verbs`."""
    began, out = time.monotonic(), Path(options.out).expanduser()
    check_target(out)
    data = data_for(options.run, options.data, options.data_options)
    wanted = Wanted(options.layers, options.tokens, options.normalise, options.unreadable, options.batch_size)
    encoder = load_encoder(options.run).float().to(device_named(options.device))
    sources = sources_of(data, options.split)
    embedding = Embedding(encoder, data, sources, wanted, out, {"run": printable(options.run)})
    kept = embedding.begin()
    if kept:
        print(f"{kept:,} samples were embedded before the last stop; going on from there.", file=sys.stderr)
    with Bar("samples") as bar:
        compute_all(embedding, options.processes, bar.show)
    _tell(embedding.finish(), out, time.monotonic() - began, options.json)
    return 0


def _tell(embedded: Embedded, out: Path, seconds: float, as_json: bool) -> None:
    facts: dict[str, Any] = {**embedded._asdict(), "out": str(out), "seconds": round(seconds, 1)}
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{embedded.rows:,} vectors of {embedded.dim} values in {seconds:,.1f} s: {out}")
    told_skipped(embedded.skipped)


def told_skipped(skipped: dict[str, str]) -> None:
    """Prints which samples have no row, if any, and why."""
    if skipped:
        reasons = list(skipped.values())
        listed = "; ".join(reasons[:NAMED]) + "; ..." * (len(reasons) > NAMED)
        some = (
            "1 sample cannot be read, and has"
            if len(reasons) == 1
            else f"{len(reasons):,} samples cannot be read, and have"
        )
        print(f"{some} no row: {listed}")
