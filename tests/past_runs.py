"""Run folders written by hand, as runs leave them: quick, and of any numbers."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def cell(*draws: float, **facts: float) -> dict:
    mean = sum(draws) / len(draws)
    std = (sum((draw - mean) ** 2 for draw in draws) / max(1, len(draws) - 1)) ** 0.5
    facts = {"error": 0.001, "labels": 100, "samples": 400, "classes": 10} | facts
    return {"mean": mean, "std": std, "n": len(draws), "draws": list(draws), **facts}


def write_run(folder: Path, method="simclr", data="digits", seed=0, cells=None, **settings) -> Path:
    """A run folder, of a few settings and cells by `row/column`."""
    classes = {"simclr": "SimCLR", "mae": "MAE", "digits": "Digits", "tones": "Tones"}
    init = {"seed": seed, "workers": settings.pop("workers", None), "root": settings.pop("root", None)}
    config = {
        "seed_everything": seed,
        "trainer": {"max_steps": 60, "devices": settings.pop("devices", "auto")},
        "data": {"class_path": f"ssl_lightning.datamodules.{data}.{classes[data]}", "init_args": init},
        "model": {"class_path": f"ssl_lightning.methods.{method}.{classes[method]}", "init_args": settings},
    }
    folder.mkdir(parents=True)
    for name in ("config.yaml", "resolved.yaml"):
        (folder / name).write_text(yaml.safe_dump(config, sort_keys=False))
    some = {"pretrained/knn_10": cell(0.5, 0.52, 0.54)} if cells is None else cells
    summary = {"steps": 60, "seconds": 7.5, **{f"final/{name}": each for name, each in some.items()}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.csv").write_text("step,train/loss,val/top1\n10,3.0,\n20,2.0,0.5\n")
    (folder / "data.json").write_text(json.dumps({"Digits": [{"split": "test", "unit": "samples", "found": 397}]}))
    return folder
