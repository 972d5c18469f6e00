"""A folder of JPEGs at 224 pixels, SimCLR's two views with blur: images per second of the whole
loader, against lightly's.

    python benchmarks/folder.py --peer PEER/bin/python            # about 3 minutes on 2 quiet cores

Writes made-up photographs of ImageNet's sizes (`photographs.py`) and reads them from the page
cache. Each loader has 2 workers, in a process of its own that is stopped while the other works; a
round is one batch that is not timed and `--steps` that are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from common import machine
from photographs import write_photographs
from turns import PEERS, alternate, quartiles

BAR = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="of each loader")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="timed batches in a round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kilobytes, density = write_photographs(Path(folder), args.images)
        print(
            f"{machine()}\n{args.images} JPEGs of {kilobytes:.0f} kB on average, {density:.2f} bytes a pixel\n",
            flush=True,
        )
        own = [folder, str(args.batch), str(args.workers)]
        commands = {
            "ours": [sys.executable, str(PEERS / "our_folder.py"), *own],
            "lightly": [args.peer, str(PEERS / "lightly_folder.py"), *own],
        }
        seconds = alternate(commands, args.rounds, args.steps)
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["lightly"], strict=True)]
    rates = {
        who: quartiles([args.batch * args.steps / value for value in values], ".1f") for who, values in seconds.items()
    }
    met = "met" if statistics.median(ratios) >= BAR else "not met"
    print(f"images/s, medians over {args.rounds} rounds of {args.steps} batches of {args.batch} [quartiles]\n")
    print(
        "| two views at 224 pixels | bar | ours / lightly | ours | lightly | |\n| --- | --- | --- | --- | --- | --- |"
    )
    print(
        f"| JPEG folder, {args.workers} workers each | {BAR} | {quartiles(ratios)} | {rates['ours']} |"
        f" {rates['lightly']} | {met} |"
    )
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
