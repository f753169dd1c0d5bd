"""Tests between methods, the ablation, and rows by label."""

import numpy as np
import pytest
import scipy.stats

from jaxreg.benchmark import published
from jaxreg.benchmark.comparisons import ablation_rows, comparison_rows, tables
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import label_rows, summary_rows
from jaxreg.metrics.landmarks import lowest30


def records(method, tre, dice=(), **other):
    """One record a case; landmarks of a case lie around its TRE."""
    found = []
    for case, value in enumerate(tre, 1):
        overlap = {}
        if len(dice):
            overlap = {str(k): {"dice": dice[case - 1] - 0.01 * k, "asd_mm": 1.0} for k in (1, 2)}
        marks = [value - 0.1, value + 0.1] if value else []
        found.append(Record(str(case), method, tre_mm=marks, overlap=overlap, **other))
    return found


@pytest.fixture
def by_method():
    rng = np.random.default_rng(0)
    good = rng.uniform(1, 2, 10)
    return {
        "good": records("good", good, 0.95 + 0.03 * rng.random(10)),
        "poor": records("poor", good + rng.uniform(0.1, 0.5, 10), 0.90 + 0.03 * rng.random(10)),
        "alike": records("alike", good + rng.normal(0, 0.2, 10), 0.95 + 0.03 * rng.random(10)),
    }


def test_every_two_methods_are_tested_and_corrected(by_method):
    rows = comparison_rows(by_method)
    assert {(row["measure"], row["tests"]) for row in rows} == {("TRE mm", 6), ("Dice", 6)}
    assert len(rows) == 6  # one direction of each of three pairs, twice
    found = {(r["measure"], r["method"], r["better than"]): r for r in rows}
    row = found["TRE mm", "good", "poor"]
    a, b = (np.array([np.mean(r.tre_mm) for r in by_method[m]]) for m in ("good", "poor"))
    assert row["p"] == pytest.approx(6 / 2**10)  # all ten signs alike
    assert row["p"] == pytest.approx(6 * scipy.stats.wilcoxon(a, b, alternative="less")[1])
    assert row["stars"] == "**" and row["difference"] == pytest.approx((a - b).mean())
    assert row["cases"] == 10
    assert found["Dice", "good", "poor"]["stars"] == "**"  # more is better
    assert found["Dice", "good", "poor"]["difference"] > 0


def test_a_reference_is_tested_against_each_other_method(by_method):
    rows = comparison_rows(by_method, reference="poor")
    assert {(row["method"], row["tests"]) for row in rows} == {("poor", 2)}
    assert all(row["stars"] == "" and row["p"] > 0.5 for row in rows if row["measure"] == "TRE mm")


def test_only_cases_that_both_have_are_compared(by_method):
    by_method["poor"][3] = Record("4", "poor", error="broken")
    by_method["good"] = by_method["good"][:8]
    rows = [row for row in comparison_rows(by_method) if row["better than"] == "poor"]
    assert [row["cases"] for row in rows if row["method"] == "good"] == [7, 7]
    assert comparison_rows({"a": by_method["good"]}) == []
    assert comparison_rows({"a": [Record("1", "a")], "b": [Record("1", "b")]}) == []


def test_ablation_is_the_papers_table_with_ours_beside(by_method):
    variants = {"proposed": by_method["good"], "beta0": by_method["poor"]}
    rows = ablation_rows(variants, published.ABLATION)
    assert [row["variant"] for row in rows] == [
        *("beta = 0", "gamma = 0", "delta = 0", "L = 1", "L = 2", "proposed")
    ]
    assert [row["cases"] for row in rows] == ["10 of 10", *["not trained"] * 4, "10 of 10"]
    expected = np.mean([r.tre_mm for r in by_method["poor"]])
    assert rows[0]["TRE mm"] == pytest.approx(expected) and rows[1]["TRE mm"] is None
    assert rows[0]["TRE stars"] == rows[0]["Dice stars"] == "***"  # one test: no correction
    assert rows[-1]["TRE stars"] is None
    assert (rows[2]["publ. keypoint TRE mm"], rows[2]["publ. 4DCT TRE mm"]) == (4.59, 1.72)
    assert "keypoint TRE mm" not in rows[0]  # nobody has any


def test_labels_have_rows_of_their_own(by_method):
    rows = label_rows({"good": by_method["good"]}, label_names={"2": "left"})
    assert [(row["method"], row["label"]) for row in rows] == [("good", "1"), ("good", "left")]
    dice = [r.overlap["2"]["dice"] for r in by_method["good"]]
    assert rows[1]["Dice"] == pytest.approx(np.mean(dice))
    assert rows[1]["sd Dice"] == pytest.approx(np.std(dice))
    assert rows[1]["ASD mm"] == 1.0 and "HD mm" not in rows[1]


def test_summary_names_its_means(by_method):
    (row,) = summary_rows({"good": by_method["good"]})
    by_case = np.array([np.mean(r.tre_mm) for r in by_method["good"]])
    dice = np.array([r.mean_overlap("dice") for r in by_method["good"]])
    assert row["TRE30"] == pytest.approx(np.quantile(by_case, 0.7))
    assert row["DSC30"] == pytest.approx(np.quantile(dice, 0.3))
    assert row["Dice30"] == pytest.approx(lowest30(dice).mean())
    assert row["sd Dice30"] == pytest.approx(np.sort(dice)[:3].std())
    assert row["sd Dice"] == pytest.approx(dice.std())


def test_kinds_of_landmarks_stand_apart():
    found = [
        Record(str(k), "full", tre_mm=[1.0, 3.0, 5.0], landmark_kind=["a", "b", "b"])
        for k in (1, 2)
    ]
    (row,) = summary_rows({"full": found})
    assert (row["TRE mm"], row["TRE a mm"], row["TRE b mm"]) == (3.0, 1.0, 4.0)


def test_tables_without_rows_are_left_out(by_method):
    found = tables({"good": records("good", [1.0])}, ablation=None)
    assert list(found) == ["cases-good", "tre", "methods"]
    found = tables(by_method, ablation=published.ABLATION)
    names = ["tre", "labels", "comparisons", "methods", "ablation"]
    assert list(found) == [*(f"cases-{m}" for m in by_method), *names]
