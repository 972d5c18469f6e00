"""Scores with their spread, paired differences, and the stamp that keeps numbers apart."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import pytest
import torch

from ssl_lightning.evaluation.measures import Outcome, balanced
from ssl_lightning.evaluation.protocols.base import RESAMPLES, Judgement, Score, mean_of, resamples, score
from ssl_lightning.evaluation.protocols.classes import balanced_score
from ssl_lightning.evaluation.protocols.result import Result, difference, spread_of
from ssl_lightning.evaluation.protocols.stamp import ABSENT, Stamp, differences

STAMP = Stamp(
    protocol="knn", settings={"k": 20, "draws": 5}, transform={"class": "Crop", "size": 16}, data="ab", split="test",
    train=100, judged=50, seed=0,
)  # fmt: skip


def hits(share, count=400, seed=0):
    return (torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share).double()


def test_an_interval_is_that_of_the_binomial_distribution():
    values = hits(0.7)
    mean = float(values.mean())
    result = score([mean_of(values / 400)], 400)
    assert result.value == pytest.approx(mean) and len(result.resampled) == RESAMPLES
    low, high = spread_of(result).spread
    assert spread_of(result).spread_is == "95 % interval over samples"
    margin = 1.96 * math.sqrt(mean * (1 - mean) / 400)
    assert (mean - low, high - mean) == pytest.approx((margin, margin), rel=0.12)


def test_of_draws_the_spread_is_their_standard_deviation_and_is_called_that():
    result = score([mean_of(hits(share) / 400) for share in (0.5, 0.6, 0.9)], 400)
    assert spread_of(result) == (pytest.approx(statistics.stdev(result.draws)), "std over 3 draws of labels")
    assert statistics.mean(result.resampled) == pytest.approx(result.value, abs=0.005), "of the mean over draws"


def test_resampled_classes_keep_their_size_so_that_balanced_accuracy_stays_balanced():
    labels = torch.tensor([0] * 95 + [1] * 5)
    right = torch.ones(100, dtype=torch.bool)
    right[95:98] = False
    result = balanced_score([Outcome(right)], labels)
    assert result.value == pytest.approx(balanced(right, labels)) == 0.7
    assert max(result.resampled) <= 1 and min(result.resampled) >= 0.5
    weights = next(iter(resamples(100, labels)))
    assert weights[:, :95].sum(1).eq(95).all() and weights[:, 95:].sum(1).eq(5).all()


def test_a_difference_is_paired_by_sample():
    """Two rows that err on the same samples but for a few are told apart; unpaired they are not."""
    better = hits(0.7)
    worse = better.clone()
    worse[better.nonzero()[:12, 0]] = 0
    gain = difference(*(score([mean_of(each / 400)], 400) for each in (better, worse)))
    assert gain.points == pytest.approx(0.03) and gain.clear and 0 < gain.low < gain.high < 0.06
    other = hits(0.67, seed=7)
    unpaired = difference(*(score([mean_of(each / 400)], 400) for each in (better, other)))
    assert not unpaired.clear and unpaired.high - unpaired.low > 0.1
    same = difference(score([mean_of(better / 400)], 400), score([mean_of(better / 400)], 400))
    assert tuple(same) == (0, 0, 0) and not same.clear


def test_a_difference_that_is_none_is_claimed_in_at_most_about_5_of_100_cases():
    wrong = 0
    for seed in range(200):
        pair = [score([mean_of(hits(0.6, 100, 1000 + 2 * seed + each) / 100)], 100) for each in range(2)]
        wrong += difference(*pair).clear
    assert 2 <= wrong <= 20, "5 % of 200, within three standard deviations"


def test_draws_widen_a_difference_by_student_s_margin():
    steady, shaky = (Score(draws, (0.5,) * RESAMPLES) for draws in ((0.7, 0.7, 0.7), (0.4, 0.5, 0.6)))
    gain = difference(steady, shaky)
    margin = 4.302652729911275 * statistics.stdev([0.3, 0.2, 0.1]) / math.sqrt(3)
    assert gain.points == pytest.approx(0.2)
    assert gain.high - gain.points == pytest.approx(math.hypot(margin, 0.2), rel=1e-6)


def test_a_stamp_changes_with_all_that_two_numbers_must_share_and_not_with_versions():
    changed = [
        replace(STAMP, **each)
        for each in (
            {"protocol": "linear"}, {"settings": {"k": 10, "draws": 5}}, {"transform": {"class": "Crop", "size": 32}},
            {"data": "cd"}, {"split": "val"}, {"train": 99}, {"judged": 49}, {"seed": 1},
        )
    ]  # fmt: skip
    assert len({each.digest for each in (STAMP, *changed)}) == 9
    assert replace(STAMP, versions={"torch": "9"}).digest == STAMP.digest
    assert replace(STAMP, settings={"draws": 5, "k": 20}).digest == STAMP.digest


def test_what_differs_between_two_stamps_is_named():
    other = replace(STAMP, settings={"k": 200, "temperature": 0.07}, split="val", versions={"torch": "9"})
    assert differences(STAMP.as_json(), other.as_json()) == {
        "settings.k": (20, 200),
        "settings.draws": (5, ABSENT),
        "settings.temperature": (ABSENT, 0.07),
        "split": ("test", "val"),
    }
    assert differences(STAMP.as_json(), json.loads(json.dumps(STAMP.as_json()))) == {}


def test_a_result_survives_json():
    kept = Score((0.5,), (0.25, math.nan, 0.75))
    result = Result("raw", Judgement({"accuracy": kept}, ("a remark",)), STAMP)
    text = json.dumps(result.as_json(), allow_nan=False)
    again = Result.from_json(json.loads(text))
    assert again.stamp == STAMP and again.row == "raw" and again.judgement.remarks == ("a remark",)
    assert again.as_json() == result.as_json() and math.isnan(again.judgement.scores["accuracy"].resampled[1])
    assert json.loads(text)["stamp"]["digest"] == STAMP.digest
