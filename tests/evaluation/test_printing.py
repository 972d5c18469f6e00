"""The closing table as text, and the sentence below it: it claims no more than the numbers hold."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lightning.evaluation.gains import at_chance, gain, verdict_of
from ssl_lightning.evaluation.measures import cell_of
from ssl_lightning.evaluation.printing import format_table
from ssl_lightning.evaluation.table import MISSING

SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


def cell(mean, draws=1, error=0.005, labels=1400, **more):
    values = [mean] if draws == 1 else list(mean + SPREAD[:draws] - SPREAD[:draws].mean())
    return {**cell_of(values), "error": error, "labels": labels, "samples": 397, "classes": 10, **more}


def row(knn, few_knn, linear, few, **more):
    return {
        "knn": cell(knn, **more), "knn_10": cell(few_knn, 5, labels=100, **more),
        "linear": cell(linear, **more), "linear_10": cell(few, 5, labels=100, **more),
    }  # fmt: skip


def tables(**more):
    rows = {
        "majority": row(0.1, 0.1, 0.1, 0.1), "raw": row(0.975, 0.914, 0.98, 0.894, **more),
        "untrained": row(0.95, 0.823, 0.98, 0.89, **more), "labels_only": row(0, 0, 0.992, 0.962, **more),
        "pretrained": row(0.99, 0.944, 0.995, 0.96, **more),
    }  # fmt: skip
    rows["labels_only"] = {column: rows["labels_only"][column] for column in ("linear", "linear_10")}
    return rows


def test_the_table_fits_80_columns_and_says_what_its_numbers_are():
    lines = format_table(tables()).splitlines()
    assert all(len(line) <= 80 for line in lines)
    head = " ".join(lines[:2])
    assert "mean over 10 classes, on 397 test samples, ± std over 5 draws of labels, * best" in head
    assert lines[3].split() == ["labels", "1,400", "100", "1,400", "100"]
    assert [line[:18].strip() for line in lines[4:12]] == [
        "largest class", "raw features", "untrained encoder", "labels only", "pretrained encoder",
        "gain over raw", "gain over untrained"[:18], "gain over labels",
    ]  # fmt: skip
    assert lines[5].split() == ["raw", "features", "97.5", "91.4", "±", "1.6", "98.0", "89.4", "±", "1.6"]
    assert lines[7].split() == ["labels", "only", *2 * [MISSING.strip()], "99.2", "96.2", "±", "1.6*"]
    assert lines[8].count("*") == 3
    assert "+6.6 ± 1.4" in lines[9] and lines[9].split()[3:6] == ["+1.5", "±", "1.4"]


def test_one_sentence_speaks_of_every_column_and_claims_only_what_is_beyond_its_margin():
    final = tables()
    assert verdict_of(final) == (
        "Pretraining: better than raw features in every column; better than untrained encoder in every column; no"
        " clear difference from labels only in every column."
    )
    final["raw"]["knn"] = cell(0.995 + 0.02)
    final["raw"]["linear"] = cell(0.99)
    assert verdict_of(final).startswith(
        "Pretraining: better than raw features in kNN 10/class, linear 10/class, worse in kNN all, no clear difference"
        " in linear all; better than untrained"
    )
    del final["pretrained"]
    assert verdict_of(final) == ""


def test_the_deviation_of_a_gain_is_that_of_the_pairs():
    """Draws that move both rows alike say little of their own deviation, and much of the gain."""
    one, other = cell(0.9, 5, error=0.0), cell(0.88, 5, error=0.0)
    assert gain(one, other).clear and gain(one, other).margin == pytest.approx(0, abs=1e-9)
    other["draws"] = other["draws"][::-1]
    student = 2.776 * np.std(2 * SPREAD, ddof=1) / np.sqrt(5)  # the 97.5 % quantile of 4 degrees of freedom
    assert not gain(one, other).clear and gain(one, other).margin == pytest.approx(student, rel=1e-3)
    assert not gain(cell(0.9, error=0.01), cell(0.88, error=0.01)).clear


def test_nothing_is_best_or_better_at_chance():
    """16 classes: a guess has 6.25 %."""
    low = {"error": 0.02, "classes": 16}
    final = {"raw": row(0.056, 0.05, 0.05, 0.05, **low), "pretrained": row(0.03, 0.056, 0.09, 0.3, **low)}
    lines = format_table(final).splitlines()
    assert at_chance(final["raw"]["knn"]) and sum(line.count("*") for line in lines[3:7]) == 1
    text = " ".join(" ".join(lines).split())
    assert (
        "better than raw features in linear 10/class, no clear difference in kNN all, kNN 10/class, linear all" in text
    )
    assert "At chance: raw features; pretrained encoder (kNN all, kNN 10/class, linear all)." in text


@pytest.mark.parametrize(
    ("draws", "words", "deviation"), [(1, "", False), (2, "mean of 2 draws", False), (3, "± std over 3", True)]
)
def test_a_deviation_over_fewer_than_three_draws_is_not_printed(draws, words, deviation):
    final = {"pretrained": {"linear": cell(0.9), "linear_10": cell(0.5, draws, labels=100)}}
    lines = format_table(final).splitlines()
    assert words in " ".join(lines[:2]) and ("draws of labels" in " ".join(lines[:2])) == bool(words)
    assert any("±" in line for line in lines[2:]) == deviation


def test_all_is_not_all_where_samples_are_left_out():
    final = tables()
    for cells in final.values():
        for column in {"knn", "linear"} & set(cells):
            cells[column].update(labels=300, available=1400)
    title = format_table(final).splitlines()[2]
    assert "kNN 300" in title and "linear 300" in title and "all" not in title


def test_two_classes_have_areas_too_and_no_claim_contradicts_them():
    final = tables(auroc=[0.7])
    assert "Area under the ROC curve in %, where a guess has 50" in format_table(final)
    for column in final["raw"]:
        final["raw"][column]["auroc"] = [0.8]
    assert "no clear difference from raw features in every column" in verdict_of(final)


def test_samples_that_pretraining_has_seen_are_said_to_be():
    assert "on 397 val samples that the pretraining has seen" in " ".join(format_table(tables(), "val", True).split())
