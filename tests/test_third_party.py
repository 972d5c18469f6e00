"""A stranger's package brings its own method and its own datamodule: installed by pip, trained by
short name, found to conform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_lightning.plugins.archive import read
from ssl_lightning.run.checkpoints.checkpoint import find_newest

FILES = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    "setup.cfg": (
        """
[metadata]
name = acme-ssl
version = 3.1.4
[options]
py_modules =
    acme_ssl
    acme_series
[options.entry_points]
ssl_lightning.methods =
    acme_spread = acme_ssl:Spread
ssl_lightning.datamodules =
    acme_bars = acme_ssl:Bars
    acme_series = acme_series:Series
ssl_lightning.encoders =
    acme_gru = acme_series:GRUEncoder
"""
    ),
    "acme_series.py": (Path(__file__).parent / "strangers" / "acme_series.py").read_text(),
    "acme_ssl.py": (
        '''
from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from ssl_lightning import Batch, Encoder, InMemory, Source, SSLDataModule, SSLMethod, Step, ViewSpec, normal


class Spread(SSLMethod):
    """Two views of a sample stay close while the samples spread over the sphere.

    Wang and Isola (2020), arXiv 2005.10242, Equations 1 and 2.
    """

    views = ViewSpec(full=2, strength="weak")
    couples_samples = "samples repel those of the same batch"

    def __init__(self, encoder: Encoder, *, output_dim: int = 16, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.head = nn.Linear(encoder.dim, output_dim)

    def step(self, batch: Batch) -> Step:
        x, y = (nn.functional.normalize(self.head(self.encoder(view)).float(), dim=1) for view in batch["views"])
        spread = sum(torch.pdist(z).square().mul(-2).exp().mean().log() for z in (x, y)) / 2
        close = (x - y).square().sum(1).mean()
        return {"loss": close + spread, "embeddings": x, "logs": {"close": close, "spread": spread}}


class Noise(nn.Module):
    """Adds noise of this size to images in [0, 1]."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, raw: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        x = raw.float() / 255
        return x + self.size * normal(key, x[0].numel()).view_as(x) if self.size else x


class Bars(SSLDataModule):
    """Grey images of one bar, at one of four heights."""

    default_encoders: ClassVar = {
        "Encoder": {"class_path": "conv", "init_args": {"channels": 1, "width": 8, "depth": 2}}
    }
    default_epochs = 3
    class_names = ("top", "upper", "lower", "bottom")

    def __init__(self, *, samples: int = 128, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if samples < 1:
            raise ValueError(f"Bars(samples={samples}) must be at least 1.")
        self.samples = samples

    def source(self, split: str) -> Source | None:
        if split == "val":
            return None
        labels = torch.arange(self.samples) % 4
        images = torch.zeros(self.samples, 1, 8, 8, dtype=torch.uint8)
        for height in range(2):
            images[torch.arange(self.samples), 0, 2 * labels + height] = 255
        return InMemory(images, labels)

    def transform(self, strength: str, local_size: int | None = None) -> nn.Module:
        return Noise(0.0 if strength == "none" else 0.3)
'''
    ),
}

CHECK = """
import torch
torch.set_num_threads(1)
from ssl_lightning.testing import check_datamodule, check_method
check_method("acme_spread")
check_datamodule("acme_bars", samples=64)
"""


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the stranger's package is installed."""
    root = tmp_path_factory.mktemp("acme")
    for name, text in FILES.items():
        (root / name).write_text(text)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(root / "site"),
    ]
    done = subprocess.run([*pip, str(root)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return root / "site"


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("kind", "name", "summary"),
    [
        ("methods", "acme_spread", "Two views of a sample stay close while the samples spread over the sphere."),
        ("datamodules", "acme_bars", "Grey images of one bar, at one of four heights."),
    ],
)
def test_it_is_listed_with_package_version_and_summary(acme: Path, kind: str, name: str, summary: str) -> None:
    command = [sys.executable, "-m", "ssl_lightning.cli", kind, "--json"]
    path = os.pathsep.join(filter(None, (str(acme), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == name]
    assert row == {"name": name, "summary": summary, "package": "acme-ssl", "version": "3.1.4"}


def well(ended: dict[str, Any]) -> str:
    """What a run printed that ended well."""
    assert ended["code"] == 0, ended["log"][-3000:]
    return str(ended["log"])


def test_it_trains_by_short_name_and_its_encoder_loads(run: Any, acme: Path, tmp_path: Path) -> None:
    fit = [
        "fit",
        "--model",
        "acme_spread",
        "--data",
        "acme_bars",
        "--trainer.max_steps",
        "5",
        "--trainer.log_every_n_steps",
        "1",
    ]
    fit += ["--model.output_dim", "8", "--trainer.accelerator", "cpu", "--report.draws", "1"]
    well(run(tmp_path, argv=fit, path=[acme], cwd=tmp_path))
    (folder,) = (tmp_path / "runs" / "acme_spread-acme_bars").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 5 and {"train/close", "train/spread", "final/pretrained/knn"} <= summary.keys()
    assert "output_dim: 8" in (folder / "config.yaml").read_text()
    load = tmp_path / "load.py"
    load.write_text(
        f"from ssl_lightning import load, load_encoder\nprint(type(load({str(folder)!r})).__name__,"
        f" load_encoder({str(folder)!r}).dim)"
    )
    assert well(run(tmp_path, script=[load], path=[acme])).split() == ["Spread", "16"]


def test_it_passes_the_conformance_kit(run: Any, acme: Path, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(CHECK)
    well(run(tmp_path, script=[tmp_path / "check.py"], path=[acme]))


@pytest.fixture(scope="module")
def series(run: Any, acme: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run on a modality that the core has never heard of, and what it printed."""
    root = tmp_path_factory.mktemp("series")
    fit = ["fit", "--model", "acme_spread", "--data", "acme_series", "--data.window", "20"]
    fit += ["--trainer.max_steps", "4", "--trainer.accelerator", "cpu", "--report.draws", "1"]
    log = well(run(root, argv=fit, path=[acme], cwd=root))
    (folder,) = (root / "runs" / "acme_spread-acme_series").iterdir()
    return folder, log


def test_a_modality_of_a_stranger_gets_what_the_built_in_ones_get(
    run: Any, acme: Path, series: tuple[Path, str], tmp_path: Path
) -> None:
    """Its own picture of the views, its own lines for loading, its files in the run folder and in
    the checkpoint, its raw features as a row of the closing table, and its encoder, with the data's
    channels."""
    folder, log = series
    with Image.open(folder / "plots" / "views.png") as picture:
        assert picture.size == (640, 480)  # matplotlib's own, not one of ours
    shown = str(folder.relative_to(folder.parents[2]))  # as the run knew it
    lines = f"import acme_series\nfeatures = acme_series.embed({shown!r}, series)  # [S, 12]"
    assert lines in log and lines in (folder / "encoder.md").read_text()
    assert json.loads((folder / "series.json").read_text()) == {"window": 20}
    checkpoint = find_newest(folder / "checkpoints")
    assert checkpoint is not None and read(checkpoint)["artifacts"] == {"series.json": '{"window": 20}'}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final/raw/linear"]["mean"] == 0.25 < summary["final/untrained/linear"]["mean"]
    assert "acme_series.GRUEncoder" in (folder / "config.yaml").read_text()
    use = tmp_path / "use.py"
    use.write_text(f"import torch\nseries = torch.zeros(2, 3, 32)\n{lines}\nprint(tuple(features.shape))")
    assert well(run(tmp_path, script=[use], path=[acme], cwd=folder.parents[2])).split() == ["(2,", "12)"]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "window"), [([], 20), (["--data.window", "16"], 16)])
def test_a_second_step_on_it_takes_over_how_the_run_made_views_and_refuses_others(
    run: Any, acme: Path, series: tuple[Path, str], tmp_path: Path, arguments: list[str], window: int
) -> None:
    fit = ["fit", "--model", "finetune", "--model.checkpoint", str(series[0]), "--data", "acme_series", *arguments]
    fit += ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--report.enabled", "false"]
    ended = run(tmp_path, argv=fit, path=[acme], cwd=tmp_path)
    if window == 20:
        config = next((tmp_path / "runs" / "finetune-acme_series").glob("*/config.yaml")).read_text()
        assert "window: 20" in config and "acme_series.GRUEncoder" in config, well(ended)
    else:
        assert ended["code"], ended["log"]
        assert "error: The data's series.json differs from that of the encoder's run" in ended["log"]
