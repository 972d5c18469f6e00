"""From text files to packed rows: MB a second and memory, for corpora of several sizes.

    python benchmarks/tokens.py            # about 3 minutes on 2 quiet cores

The corpus is the package descriptions, repeated line by line in another order each time, as txt
with a document a line. A process each trains
nothing: it takes a tokenizer of 8,192 WordPieces that was trained before, makes the store of tokens
anew, and packs all of them once in batches of 512. Memory is the peak above that after the imports.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine

ROW_LENGTH = 128


def write_corpus(source: Path, target: Path, megabytes: int) -> None:
    with source.open(newline="") as file:
        texts = [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    order, written = random.Random(0), 0
    with target.open("w") as file:
        while written < megabytes * 1_000_000:
            order.shuffle(texts)
            for text in texts:
                written += file.write(text + "\n")
                if written >= megabytes * 1_000_000:
                    break


def measure(path: str, tokenizer: str) -> None:
    """Prints seconds of storing, seconds of packing, peak MB above the imports, number of
    documents, fill of the rows in %."""
    import torch
    from ssl_lightning.datamodules.text_files import TextFiles

    from ssl_lightning.nn.packing import pack

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    data = TextFiles(path, document="line", tokenizer=tokenizer, row_length=ROW_LENGTH)
    data.prepare_data()
    stored = time.perf_counter()
    source, real, places = data.training_split, 0, 0
    for index in torch.randperm(len(source)).split(512):
        view = pack(source.fetch(index), ROW_LENGTH)
        assert isinstance(view.segment, torch.Tensor)
        real, places = real + int((view.segment > 0).sum()), places + view.x.numel()
    packed = time.perf_counter()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{stored - began:.2f} {packed - stored:.2f} {peak:.0f} {len(source)} {100 * real / places:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[25, 50, 100], help="of the corpora, in MB")
    parser.add_argument(
        "--source", default=os.environ.get("SSL_LIGHTNING_DATA", "data") + "/package_descriptions/train.csv"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the tokenizer")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    print(
        f"{machine()}\n\n| corpus | threads | documents | tokenising and storing, s | MB/s | packing, s | MB/s | peak"
        " above the imports, MB | fill, % |"
    )
    print("| --- |" + " --- |" * 8)
    with tempfile.TemporaryDirectory() as folder:
        from ssl_lightning.datamodules.text_files import TextFiles

        os.environ["SSL_LIGHTNING_CACHE"] = str(Path(folder) / "first")
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_text(TextFiles(args.source, tokenizer_kind="wordpiece").artifacts()["tokenizer.json"])
        for size in args.sizes:
            corpus = Path(folder) / f"{size}.txt"
            write_corpus(Path(args.source), corpus, size)
            for threads in args.threads:
                environment = {
                    **os.environ,
                    "RAYON_NUM_THREADS": str(threads),
                    "SSL_LIGHTNING_CACHE": str(Path(folder) / f"{size}-{threads}"),
                }
                command = [sys.executable, __file__, "--measure", str(corpus), str(tokenizer)]
                out = subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                ).stdout.split()[-5:]
                store, pack_, peak, documents = float(out[0]), float(out[1]), out[2], int(out[3])
                print(
                    f"| {size} MB | {threads} | {documents:,} | {store:.1f} | {size / store:.2f} | {pack_:.1f} |"
                    f" {size / pack_:.0f} | {peak} | {out[4]} |",
                    flush=True,
                )
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
