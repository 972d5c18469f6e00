"""What a gain may be by chance: claims are wrong in at most 5 of 100 cases, and real differences
are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lightning.evaluation.closing import Closing, cells_of
from ssl_lightning.evaluation.gains import claims_of, flipped, gain, worsened
from ssl_lightning.evaluation.measures import Outcome, judged

EQUAL, UNEQUAL = np.arange(360) % 10, (np.arange(600) % 20 == 0).astype(np.int64)


def cell(hits, answers):
    """A cell from what was hit in each draw of labels [draws, Q]."""
    outcomes = [Outcome(torch.from_numpy(each)) for each in np.atleast_2d(hits)]
    return judged(outcomes, torch.from_numpy(answers), 100)


def missed(count, first=0):
    """Of 360 samples, all but `count`."""
    hits = np.ones(360, bool)
    hits[first : first + count] = False
    return cell(hits, EQUAL)


def pair(random, answers, draws, corrected=0.0):
    """Two rows that find the same samples hard: each hits a sample with its own probability, which
    a draw of labels moves; of what the first one misses, a part is corrected."""
    easy, rows = random.beta(0.3, 0.05, len(answers)), []
    for part in (corrected, 0.0):
        moved = easy + (0.05 * random.normal(size=(draws, 1)) if draws > 1 else 0.0)
        hits = random.random((draws, len(answers))) < moved
        rows.append(cell(hits | (random.random(hits.shape) < part), answers))
    return rows


@pytest.mark.parametrize(
    ("answers", "draws", "repeats"),
    [
        (EQUAL, 1, 150), (UNEQUAL, 5, 60),
        *(pytest.param(each, draws, 2_000, marks=pytest.mark.slow) for each in (EQUAL, UNEQUAL) for draws in (1, 3, 5)),
    ],
)  # fmt: skip
def test_where_two_rows_are_worth_the_same_at_most_5_of_100_claims_are_made(answers, draws, repeats):
    random = np.random.default_rng(0)
    wrong = sum(gain(*pair(random, answers, draws)).clear for _ in range(repeats)) / repeats
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize(("draws", "corrected"), [(1, 0.4), (5, 0.45)])
def test_real_differences_are_found_that_unpaired_errors_hide(draws, corrected):
    random, repeats, paired, unpaired = np.random.default_rng(0), 40, 0, 0
    for _ in range(repeats):
        rows = pair(random, EQUAL, draws, corrected)
        paired += gain(*rows).clear
        for each in rows:
            del each["parts"]
        unpaired += gain(*rows).clear
    assert paired > 0.6 * repeats and paired > unpaired + 0.1 * repeats, (paired, unpaired)


def test_a_row_with_fewer_draws_is_compared_on_those():
    random = np.random.default_rng(0)
    hits = random.random((2, 5, 360)) < np.array([0.9, 0.8])[:, None, None]
    five, others = (cell(each, EQUAL) for each in hits)
    shorter = [cell(each[:2], EQUAL) for each in hits]
    assert gain(five, shorter[1]) == gain(*shorter) == gain(shorter[0], others)
    assert gain(five, shorter[1]) != gain(five, others)


def test_the_errors_of_the_same_samples_are_compared_one_by_one():
    """McNemar's exact test: six samples that one row alone hits are a difference, five are not
    (p = 1 / 32 and 1 / 16); and so are those beside a hundred that both miss."""
    assert gain(missed(1), missed(8)).clear, "99.7 and 97.8 of 360 samples"
    assert gain(missed(0), missed(6)).clear and not gain(missed(0), missed(5)).clear
    assert gain(missed(100), missed(106)).clear and gain(missed(106), missed(100)).clear
    assert not gain(missed(6), missed(12, first=6)).clear, "12 to 6"
    assert not gain(missed(3), missed(3)).clear and gain(missed(3), missed(3)).margin == 0.0


def test_a_sample_counts_as_much_as_its_class_is_small():
    """30 of 600 samples show a lesion: five of those weigh as much as 95 others, and alone prove
    nothing."""
    one, other = np.ones(600, bool), np.ones(600, bool)
    other[np.flatnonzero(UNEQUAL)[:5]] = False
    few = gain(cell(one, UNEQUAL), cell(other, UNEQUAL))
    assert few.points == pytest.approx(5 / 60) and not few.clear
    other[np.flatnonzero(UNEQUAL)[:6]] = False
    assert gain(cell(one, UNEQUAL), cell(other, UNEQUAL)).clear


def test_the_quantile_is_that_of_random_signs():
    random = np.random.default_rng(1)
    for values in (random.normal(size=40), np.full(30, 0.2), np.r_[np.full(7, 0.5), random.random(300) / 40]):
        signs = random.integers(0, 2, (50_000, len(values))) * 2 - 1
        sums = np.abs(signs @ values)
        assert np.mean(sums > flipped(torch.tensor(list(values), dtype=torch.float64)) + 1e-9) == pytest.approx(
            0.05, abs=0.025
        )
    assert flipped(torch.zeros(2, dtype=torch.float64)) == 0.0


def test_the_files_of_a_run_hold_no_list_of_samples():
    table = {"raw": {"knn": missed(8)}, "pretrained": {"knn": missed(1)}}
    assert claims_of(table) == {"raw": {"knn": 1}}
    cells = cells_of({"": Closing(table, "test", torch.empty(0), torch.empty(0))})
    assert all("parts" not in each and each["samples"] == 360 for each in cells.values()) and len(cells) == 2


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [((0, 0), (60, 0), "kNN all"), ((0, 60), (60, 0), ""), ((0, 0), (0, 0), ""), ((60, 0), (0, 0), "")],
)
def test_an_alarm_where_a_run_made_the_weights_worse_that_it_started_from(before, after, expected):
    """In some column clearly, and better in none."""
    table = {
        row: dict(zip(("knn", "linear"), map(missed, counts), strict=True))
        for row, counts in (("published", before), ("pretrained", after))
    }
    assert (f"worse ({expected})" in worsened(table)) == bool(expected) and bool(worsened(table)) == bool(expected)
