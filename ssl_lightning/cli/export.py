"""`ssl-lightning export`: writes the encoder of a run for another library."""

from __future__ import annotations

import argparse
import json

from ..exchange.export import choice, export
from .names import UsageError


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning export`."""
    if options.format is None:
        raise UsageError(choice(options.run))
    exported = export(options.run, options.format, options.to)
    if options.json:
        print(json.dumps(exported._asdict()))
        return 0
    print(
        f"{exported.folder}: equal to {exported.difference:.0e} of the largest feature on {exported.samples}; README.md"
        f" is its card. It is loaded without ssl_lightning:\n\n{exported.lines}"
    )
    return 0
