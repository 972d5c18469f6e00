"""Seconds of sound per second that wav2vec 2.0 pretrains on: `fit` against a bare loop, and against
transformers' class with its masks.

    python benchmarks/wav2vec2.py            # about 10 minutes on 2 quiet cores

Clips of 0.96 s at 16 kHz (`tones`, resampled), a stem of 7 convolutions with 128 maps, 4 blocks of
256, codebooks of 2 x 320, 100 negatives, AdamW. Contestants, each in a process of its own, resting
while another works: ours by `fit` with its standing callbacks; a bare loop with the same modules
over the same batches; transformers' Wav2Vec2ForPreTraining of the same sizes, its clips ready in
memory, its masks and negatives drawn as its pretraining example does. A round is one step that is
not timed and `--steps` that are; ratios are taken within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys

from common import machine
from turns import PEERS, alternate, quartiles

from ssl_lightning.run.settings.precision import best_precision

SIZES = {"maps": 128, "dim": 256, "depth": 4, "heads": 4}
SECONDS = 0.96
BARS = {"loop": 0.95, "transformers": None}
TITLES = {"loop": "a bare loop with the same modules", "transformers": "transformers, its masks and negatives"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", help=f"{', '.join(TITLES)}; all of them if none is named")
    parser.add_argument("--batch", type=int, default=32, help="clips in a step")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="timed steps in a round")
    parser.add_argument("--precision", nargs="+", default=list(dict.fromkeys(("32-true", best_precision("cpu")))))
    args = parser.parse_args()
    sound = args.batch * SECONDS
    print(
        f"{machine()}\n\nseconds of sound/s, medians over {args.rounds} rounds of {args.steps} steps [quartiles];"
        f" {sound:.0f} s a step\n"
    )
    print("| `fit` against | bar | ratio | fit | the other | |\n| --- | --- | --- | --- | --- | --- |")
    for precision in args.precision:
        common = [str(args.batch), precision, json.dumps(SIZES)]
        commands = {"fit": [sys.executable, str(PEERS / "our_wav2vec2.py"), *common, "fit"]}
        for peer in args.peers or TITLES:
            program = "our_wav2vec2.py" if peer == "loop" else "hf_wav2vec2.py"
            commands[peer] = [sys.executable, str(PEERS / program), *common, peer]
        seconds = alternate(commands, args.rounds, args.steps)
        rates = {
            name: quartiles([sound * args.steps / each for each in values], ",.1f") for name, values in seconds.items()
        }
        for peer in list(commands)[1:]:
            ratios = [other / own for own, other in zip(seconds["fit"], seconds[peer], strict=True)]
            bar = BARS[peer]
            met = "" if bar is None else "met" if statistics.median(ratios) >= bar else "not met"
            print(
                f"| {TITLES[peer]}, {precision} | {bar or ''} | {quartiles(ratios)} | {rates['fit']} | {rates[peer]} |"
                f" {met} |",
                flush=True,
            )
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
