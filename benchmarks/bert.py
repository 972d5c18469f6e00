"""Real tokens per second of BERT's pretraining, 4 layers of 256 with a vocabulary of 8,192, against
transformers' BertForMaskedLM.

    python benchmarks/bert.py            # about 15 minutes on 2 quiet cores

The texts are the package descriptions: short ones, so that rows are packed, or padded. Both take as
many texts a step, cut at 128 tokens, with dropout 0.1, 15 % masked, AdamW, the same tokenizer.
Contestants, each in a process of its own, resting while another works: ours by `fit` with its
standing callbacks; the bare loop over the same packed batches; transformers with its
DataCollatorForLanguageModeling in a plain loop, each text padded to the longest of its batch,
padded to 128, or all texts cut into full rows that mix them (`group_texts` of run_mlm.py: no
padding, but a text sees others). A round is one step that is not timed and `--steps` that are;
ratios are taken within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from common import machine
from ssl_lightning.datamodules.text_files import TextFiles
from turns import PEERS, alternate, quartiles

from ssl_lightning.run.settings.precision import best_precision

SIZES = {"vocab_size": 8192, "dim": 256, "depth": 4, "heads": 4, "max_length": 128}
BARS = {"lines": 3.0, "fixed": None, "grouped": None, "loop": 0.97}
TITLES = {
    "lines": "transformers, padded to the longest of the batch",
    "fixed": "transformers, padded to 128",
    "grouped": "transformers, full rows that mix texts",
    "loop": "a bare loop over the same packed batches",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", help=f"{', '.join(TITLES)}; all of them if none is named")
    parser.add_argument(
        "--path", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/package_descriptions/train.csv"
    )
    parser.add_argument("--batch", type=int, default=256, help="texts in a step")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="timed steps in a round")
    parser.add_argument("--precision", nargs="+", default=list(dict.fromkeys(("32-true", best_precision("cpu")))))
    args = parser.parse_args()
    path, sizes = os.path.abspath(args.path), json.dumps(SIZES)
    data = TextFiles(path, row_length=SIZES["max_length"], tokenizer_kind="wordpiece", vocab_size=SIZES["vocab_size"])
    data.prepare_data()
    train = data.training_split
    lengths = train.fetch(torch.arange(len(train))).lengths
    tokens = float(lengths.double().mean()) * args.batch
    print(
        f"{machine()}\n\nreal tokens/s, medians over {args.rounds} rounds of {args.steps} steps [quartiles];"
        f" {tokens:,.0f} tokens a step\n"
    )
    print("| `fit` against | bar | ratio | fit | the other | |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_text(data.artifacts()["tokenizer.json"])
        for precision in args.precision:
            common = [path, str(args.batch), precision, sizes]
            commands = {"fit": [sys.executable, str(PEERS / "our_bert.py"), *common, "fit"]}
            for peer in args.peers or TITLES:
                program = (
                    [str(PEERS / "our_bert.py"), *common]
                    if peer == "loop"
                    else [str(PEERS / "hf_bert.py"), *common, str(tokenizer)]
                )
                commands[peer] = [sys.executable, *program, peer]
            seconds = alternate(commands, args.rounds, args.steps)
            rates = {
                name: quartiles([tokens * args.steps / each for each in values], ",.0f")
                for name, values in seconds.items()
            }
            for peer in list(commands)[1:]:
                ratios = [other / own for own, other in zip(seconds["fit"], seconds[peer], strict=True)]
                bar = BARS[peer]
                met = "" if bar is None else "met" if statistics.median(ratios) >= bar else "not met"
                print(
                    f"| {TITLES[peer]}, {precision} | {bar or ''} | {quartiles(ratios)} | {rates['fit']} |"
                    f" {rates[peer]} | {met} |",
                    flush=True,
                )
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
