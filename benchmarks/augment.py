"""Images augmented per second on one core: this package, lightly's SimCLRTransform, torchvision's
v2.

    python benchmarks/augment.py --peer PEER/bin/python            # about 3 minutes on a quiet core

Crop (area 0.08 to 1), flip, colour jitter (0.8, 0.8, 0.8, 0.2), greyscale, normalisation, with blur
and without: two views of 32x32 images from memory, and at 224 pixels what follows the crop. First
each contestant's draws are compared, seen from outside; where they differ the program stops. Then
the three work by turns, each in a process of its own with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys

from common import machine
from turns import PEERS, alternate, quartiles

CASES = [(32, False, 256, 6.0), (32, True, 256, 6.0), (224, False, 32, None), (224, True, 32, None)]
"""Size, whether with blur, images in a step, the bar against lightly."""
ERRORS, ALLOWANCE = 4.0, 0.03
"""How far apart two means may be: so many standard errors of their difference, and for the peers'
rounding to 8 bits so much more."""


def command(who: str, peer: str, size: int, blur: bool, last: str) -> list[str]:
    return [
        peer if who == "lightly" else sys.executable,
        str(PEERS / "augmenter.py"),
        who,
        str(size),
        str(int(blur)),
        last,
    ]


def compare_draws(size: int, blur: bool, peer: str) -> None:
    """Prints what each contestant draws.

    Raises:
        SystemExit: they draw from different distributions.
    """
    drawn = {}
    for who in ("ours", "lightly", "torchvision"):
        asked = subprocess.run(command(who, peer, size, blur, "--statistics"), capture_output=True, text=True)
        if asked.returncode:
            raise SystemExit(f"{who} ended with code {asked.returncode}:\n{asked.stderr[-3000:]}")
        drawn[who] = json.loads(asked.stdout.splitlines()[-1])
    apart = []
    for name, (own, error) in drawn["ours"].items():
        others = {who: drawn[who][name] for who in ("lightly", "torchvision")}
        print(f"  {name}: ours {own:.3f}, " + ", ".join(f"{who} {value:.3f}" for who, (value, _) in others.items()))
        for who, (value, its_error) in others.items():
            if abs(value - own) > ERRORS * math.hypot(error, its_error) + ALLOWANCE:
                apart.append(f"{name} of {who}")
    if apart:
        raise SystemExit(f"The contestants do not do the same: {', '.join(apart)} differs from ours.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="the interpreter of lightly's environment")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for size, blur, images, bar in CASES:
        title = f"{'two views' if size <= 64 else 'after the crop'}, {size} px, {'with' if blur else 'no'} blur"
        print(f"\n{title}", flush=True)
        compare_draws(size, blur, args.peer)
        commands = {who: command(who, args.peer, size, blur, str(images)) for who in ("ours", "lightly", "torchvision")}
        seconds = alternate(commands, args.rounds, 1)
        ratios = [theirs / own for own, theirs in zip(seconds["ours"], seconds["lightly"], strict=True)]
        rates = [quartiles([images / value for value in seconds[who]], ",.0f") for who in commands]
        met = "" if bar is None else "met" if statistics.median(ratios) >= bar else "not met"
        rows.append(f"| {title} | {bar or 'none'} | {quartiles(ratios, '.1f')} | {' | '.join(rates)} | {met} |")
    print(f"\nimages/s on one core, medians over {args.rounds} rounds [quartiles]\n")
    print("| | bar | ours / lightly | ours | lightly | torchvision | |\n| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
