"""Keeps small checkpoints of this version for later ones: `python tests/versions/write.py`.

For each run below: its folder with the checkpoint of half the way (`<run>/run`), its encoder as a
file (`<run>/encoder.safetensors`), and, for fixed inputs, the features of both that encoder and the
one at the run's end (`<run>/features.safetensors`). Run it once, when a version is released;
`tests/run/test_versions.py` reads what it wrote, and nobody replaces it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from ssl_lightning import View, __version__, load
from ssl_lightning.cli.main import main
from ssl_lightning.run.checkpoints.encoder_file import save_encoder

HERE = Path(__file__).parent
TEXTS = HERE / "texts.txt"
SMALL = 200_000
"""Bytes of a run's files, at most."""
HALF, END = "step-00000006.ckpt", "step-00000012.ckpt"
SETTINGS = (
    "--data.batch_size 16 --data.workers 0 --trainer.max_epochs 4 --trainer.limit_train_batches 3"
    " --trainer.accelerator cpu --trainer.precision 32-true --trainer.enable_progress_bar false"
    " --trainer.log_every_n_steps 3 --report.enabled false --knn_probe.enabled false"
    " --checkpoint.every_n_epochs 2 --checkpoint.keep 2"
)
RUNS = {
    "simclr": "--model simclr --model.output_dim 16 --model.encoder conv --model.encoder.width 4"
    " --model.encoder.depth 2 --data digits",
    "bert": "--model bert --model.encoder text --model.encoder.dim 16 --model.encoder.depth 1"
    " --model.encoder.heads 2 --model.encoder.max_length 32 --data text_files --data.path texts.txt"
    " --data.vocab_size 120 --data.row_length 32",
    "next_step": "--model next_step --model.encoder frames --model.encoder.dim 16 --model.encoder.depth 1"
    " --model.encoder.heads 2 --data tones --online_probe.enabled false",
}


def inputs(name: str) -> torch.Tensor:
    """Images [4, 1, 8, 8], token ids [4, 12], or log-mels [4, 1, 32, 24]."""
    generator = torch.Generator().manual_seed(0)
    if name == "bert":
        return torch.randint(5, 100, (4, 12), generator=generator)
    return torch.randn(4, 1, *{"simclr": (8, 8), "next_step": (32, 24)}[name], generator=generator)


def machine() -> dict[str, str]:
    """What results depend on, beside the code: torch, and the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"torch": torch.__version__, "processor": model or platform.processor()}


def write(name: str, folder: Path) -> None:
    """Trains a run in a temporary folder, and keeps what the tests need of it."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        shutil.copy(TEXTS, temporary)
        arguments = f"fit {RUNS[name]} {SETTINGS} --trainer.default_root_dir runs"
        if main(arguments.split()):
            raise SystemExit(f"The run {name} failed.")
        (run,) = Path("runs").glob("*/*")
        x = inputs(name)
        encoders = [load(run / "checkpoints" / each).backbone for each in (HALF, END)]
        with torch.no_grad():
            features, end = (encoder(View(x)).clone() for encoder in encoders)
        (folder / "run" / "checkpoints").mkdir(parents=True)
        shutil.copy(run / "checkpoints" / HALF, folder / "run" / "checkpoints")
        shutil.copy(run / "config.yaml", folder / "run")
        save_encoder(encoders[0], folder / "encoder.safetensors")
        save_file({"x": x, "features": features, "end": end}, folder / "features.safetensors", metadata=machine())
        os.chdir(HERE)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder.relative_to(HERE)}: {size:,} bytes")
    if size > SMALL:
        raise SystemExit(f"{folder} is larger than {SMALL:,} bytes.")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if (HERE / __version__).exists():
        sys.exit(f"{HERE / __version__} exists: what a version has written is never replaced.")
    for each in RUNS:
        write(each, HERE / __version__ / each)
