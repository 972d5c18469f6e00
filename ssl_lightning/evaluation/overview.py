"""The report of a run without labels: scores of its features that need none, and which samples are
alike, doubled or unusual, beside the untrained encoder and raw features."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.files.atomic import write_text
from ..data.peek import embed_to_host, peek, sample
from ..data.sources import Source
from ..data.views import Views
from ..distributed import on_first
from ..encoders.base import Encoder
from ..nn.spread import effective_rank
from ..types import Strength, ViewSpec
from .budget import EMBEDDING, affordable, seconds_left
from .features import features_of, in_float32, seconds_of_features
from .label_free import alpha_req, finds_own_view, near_duplicates, nearest, outliers
from .rows import ClosingSettings
from .stages import Stages
from .table import MISSING, ROWS

SAMPLES = 2_000
"""Samples that the scores and pictures are of, at most."""
SHOWN = 32
"""Samples of which thumbnails are made at a time."""
FILE = "duplicates_outliers.json"
"""The names of near-duplicates and outliers."""
SCORES = {"rankme": "RankMe", "alpha": "alpha-ReQ", "own_view": "own view"}


class Overview(NamedTuple):
    """What a run without labels ends with, on the first process: `features` [N, D] and `scores` by
    row of `ROWS`, the most telling first, of the samples `places` [N] of a source."""

    data: SSLDataModule
    source: Source
    places: Tensor
    features: dict[str, Tensor]
    scores: dict[str, dict[str, float]]
    note: str

    def name(self, number: int) -> str:
        """Name of one of the N samples."""
        return self.source.name(int(self.places[number]))

    def shown(self, numbers: Tensor) -> list[Tensor] | list[str]:
        """Thumbnails [C, h, w] of some of the N samples, or lines where there are none."""
        return shown_samples(self.data, self.source, self.places[numbers])


def shown_samples(data: SSLDataModule, source: Source, index: Tensor) -> list[Tensor] | list[str]:
    """Thumbnails [C, h, w] of samples [M] under the test transform; where there are none, their
    words or names."""
    shown: list[Any] = []
    for part in index.split(SHOWN):
        view = peek(data, source, part, "cpu")["views"][0]
        pictures = data.thumbnails(view)
        if pictures is None:
            lines = data.in_words(view)
            shown += lines if len(lines) == len(part) else [source.name(int(each)) for each in part]
        else:
            shown += list(pictures)
    return shown


def overview(
    trainer: Any, pl_module: Any, began: dict[str, Encoder], settings: ClosingSettings, stages: Stages
) -> Overview:
    """Embeds a subsample of what a run was pretrained on, and computes its scores. Every process
    must call it, and embeds a share; the scores are those of the first.

    Args:
        trainer: of the run.
        pl_module: the pretrained method.
        began: the encoders to compare with, by row (`began_with`).
        settings: `minutes` limits the time, as that of a closing table.
        stages: shows what is computed.
    """
    data: SSLDataModule = trainer.datamodule
    source = data.training_split
    networks: dict[str, nn.Module | None] = {"pretrained": pl_module, **began, "raw": None}
    index = sample(len(source), SAMPLES)
    seconds = seconds_left(settings.minutes, trainer)
    note = ""
    if math.isfinite(seconds):
        stages.show("speed of features")
        cost = sum(seconds_of_features(each, data, source, index, trainer) for each in networks.values())
        # Each sample is embedded three times, since its two views count too.
        count, _ = affordable(len(index), 0, 3 * cost, EMBEDDING * seconds)
        if count < len(index):
            note = f"Because of the time, {count:,} samples in place of {len(index):,}; --report.minutes 0 uses these."
            index = sample(len(source), count)
    views = Views([data.transform(strength) for strength in pair_of(pl_module.views)], data.seed)
    device = trainer.strategy.root_device
    features, scores = {}, {}
    for row, network in networks.items():
        stages.show(f"{ROWS[row]}: features")
        features[row] = features_of(network, data, source, index, trainer)
        with in_float32(network):
            pairs = embed_to_host(network, data, source, index, device, views=views)  # [N, 2, D]
        stages.show(f"{ROWS[row]}: scores")
        scores[row] = on_first(lambda row=row, pairs=pairs: scores_of(features[row], pairs))  # type: ignore[misc]
    return Overview(data, source, index, features, scores, note)


def pair_of(spec: ViewSpec) -> tuple[Strength, Strength]:
    """How strongly the two views are augmented between which a sample is to be found again: as the
    method's first two, or twice as its only one; strongly, where that is not augmented."""
    first: Strength = next((each for each in spec.strengths if each != "none"), "strong")
    return first, spec.strengths[1] if len(spec.strengths) > 1 and spec.strengths[1] != "none" else first


def scores_of(features: Tensor, pairs: Tensor) -> dict[str, float]:
    """The scores of features [N, D] and of those of two views [N, 2, D], by name; what cannot be
    computed is missing."""
    usable = len(features) > 1 and features.shape[1] > 0 and bool(features.isfinite().all())
    scores = {"rankme": float(effective_rank(features)), "alpha": alpha_req(features)} if usable else {}
    if len(pairs) > 1 and pairs.shape[2] and bool(pairs.isfinite().all()):
        scores["own_view"] = finds_own_view(pairs[:, 0], pairs[:, 1])
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def summary_of_overview(seen: Overview) -> dict[str, float]:
    """The scores by their names in `summary.json`."""
    return {f"label_free/{row}/{name}": value for row, scores in seen.scores.items() for name, value in scores.items()}


def format_overview(seen: Overview) -> str:
    """The scores as text of at most 80 columns."""
    count = len(seen.places)
    lines = [
        f"Without labels: {count:,} of the {len(seen.source):,} samples seen in pretraining",
        " " * 18 + f"{'RankMe (of at most)':>22}{'alpha-ReQ':>12}{'own view (%)':>15}",
    ]
    for row in (row for row in ROWS if row in seen.scores):
        scores, most = seen.scores[row], min(count - 1, seen.features[row].shape[1])
        rank = f"{scores['rankme']:,.1f} ({most:,})" if "rankme" in scores else MISSING
        alpha = f"{scores['alpha']:.2f}" if "alpha" in scores else MISSING
        view = f"{100 * scores['own_view']:.1f}" if "own_view" in scores else MISSING
        lines.append(f"{ROWS[row]:18}{rank:>22}{alpha:>12}{view:>15}".rstrip())
    lines += [
        "RankMe: directions in use. alpha-ReQ: best near 1. own view: share of samples",
        f"whose other view is the nearest of {count:,} (chance {100 / count:.2g}).",
    ]
    return "\n".join([*lines, *([seen.note] if seen.note else [])])


def write_names(seen: Overview, path: Path) -> tuple[Tensor, Tensor, str]:
    """Writes near-duplicates and outliers among the pretrained features to a JSON file.

    Returns:
        Indices into the N samples: of near-duplicates [P, 2], the nearest first; of outliers [O],
        the farthest first; and a line that says what was written.
    """
    features = seen.features["pretrained"]
    index, distance = nearest(features, torch.arange(len(features)))
    pairs = torch.from_numpy(near_duplicates(index, distance))
    far, times = outliers(distance)
    write_text(
        path,
        json.dumps(
            {
                "samples": len(seen.places),
                "near_duplicates": [[seen.name(a), seen.name(b)] for a, b in pairs.tolist()],
                "outliers": [
                    {"name": seen.name(each), "times_the_median_distance": round(value, 3)}
                    for each, value in zip(far.tolist(), times.tolist(), strict=True)
                ],
            },
            indent=1,
            ensure_ascii=False,
        ),
    )
    line = f"{len(pairs):,} pairs of near-duplicates, and the {len(far)} most unusual samples: {path}"
    return pairs, far, line
