"""Scans of which 5 % show a lesion: the sentence below the table says what the areas under the ROC
curve say, whichever row is worth more."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lightning.evaluation.gains import claims_of, verdict_of
from ssl_lightning.evaluation.protocol import closing_row


def scans(seed, signal, count):
    """Features [count, 8] in which a lesion shows as much as the signal says, and the labels."""
    random = np.random.default_rng([seed, count, round(100 * signal)])
    y = (np.arange(count) % 20 == 0).astype(np.int64)
    return (random.normal(size=(count, 8)) + signal * y[:, None] / np.sqrt(8)).astype(np.float32), y


def table(seed, signals):
    return {
        row: closing_row(*scans(seed, signal, 400), *scans(seed, signal, 2000), draws=3)
        for row, signal in signals.items()
    }


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(20), marks=pytest.mark.slow)])
def test_the_verdict_has_the_sign_of_the_areas(seeds):
    claims = 0
    for seed in seeds:
        better = bool(seed % 2)
        weak, strong = ("raw", "pretrained") if better else ("pretrained", "raw")
        final = table(seed, {weak: 1.0, strong: 3.0})
        for column, sign in claims_of(final)["raw"].items():
            areas = {row: np.mean(final[row][column]["auroc"]) for row in final}
            assert sign * (areas["pretrained"] - areas["raw"]) >= 0 and sign in (0, 1 if better else -1), (seed, column)
            claims += abs(sign)
        assert ("better" if better else "worse") in verdict_of(final)
    assert claims >= 2 * len(seeds), "half of the columns are clear"


def test_who_knows_nothing_is_at_chance_and_nothing_is_claimed():
    final = table(0, {"raw": 0.0, "pretrained": 0.01})
    assert "better" not in verdict_of(final) and "At chance" in verdict_of(final)
    assert all(abs(cell["mean"] - 0.5) < 0.1 for cells in final.values() for cell in cells.values())
