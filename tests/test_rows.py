"""Tables from records: pooled and by case, failures beside, intervals only of enough cases."""

import numpy as np
import pytest

from jaxreg.benchmark.published import PublishedTre
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import case_rows, summary_rows, tre_rows


def records(count):
    rng = np.random.default_rng(0)
    return [
        Record(str(n), "full", tre_mm=rng.gamma(2.0, n, 3 * n).tolist(), seconds=float(n))
        for n in range(1, count + 1)
    ]


def test_cases_are_pooled_and_averaged():
    found = [*records(3), Record("4", "full", error="broken")]
    rows = case_rows(found)
    assert [row["case"] for row in rows[3:]] == ["4", "all landmarks", "mean of cases"]
    assert rows[3]["error"] == "broken" and rows[3]["TRE mm"] is None
    pooled, by_case = rows[4], rows[5]
    errors = [np.array(record.tre_mm) for record in found[:3]]
    assert pooled["TRE mm"] == pytest.approx(np.concatenate(errors).mean())
    assert pooled["sd"] == pytest.approx(np.concatenate(errors).std())
    assert by_case["TRE mm"] == pytest.approx(np.mean([e.mean() for e in errors]))
    assert by_case["sd"] is None
    assert by_case["seconds"] == 2.0  # of finished cases


def test_cases_of_all_methods_stand_side_by_side():
    found = [*records(3), Record("4", "full", error="broken")]
    snapped = [Record(str(n), "initial", tre_mm=[5.0], tre_snapped_mm=[4.0]) for n in (1, 2)]
    rows = tre_rows(
        {"initial": snapped, "full": found}, published={"the paper": (8.0, 9.0, 13.0, 2.0)}
    )
    assert [row["case"] for row in rows] == ["1", "2", "3", "4", "mean of cases"]
    assert list(rows[0]) == ["case", "initial mm", "full mm", "initial snap mm", "publ. the paper"]
    assert rows[2]["full mm"] == pytest.approx(np.mean(found[2].tre_mm))
    assert rows[2]["initial mm"] is None and rows[3]["full mm"] is None
    assert rows[4]["publ. the paper"] == 8.0 and rows[4]["initial snap mm"] == 4.0
    assert tre_rows({"full": [Record("1", "full")]}) == []


def test_columns_without_values_are_left_out():
    rows = case_rows(records(1))
    assert len(rows) == 1
    assert list(rows[0]) == ["case", "TRE mm", "sd", "seconds", "p25", "median", "p75", "p95"]


@pytest.mark.parametrize("count, shown", [(4, False), (5, True)])
def test_an_interval_needs_cases(count, shown):
    (row,) = summary_rows({"full": records(count)})
    assert ("95 % interval" in row) == shown and row["cases"] == f"{count} of {count}"
    if shown:
        low, high = (float(end) for end in row["95 % interval"].split(" to "))
        assert low < row["mean of cases"] < high


def test_published_rows_stand_in_the_column_of_their_protocol():
    entries = (PublishedTre("A", 1.0, 0.5, "< 0.1", 2.0), PublishedTre("B", 0.9, snapped=True))
    failed = [Record("1", "full", error="broken")]
    rows = summary_rows({"full": failed}, published=[entry.row() for entry in entries])
    assert rows[0]["cases"] == "0 of 1" and rows[0]["TRE mm"] is None
    assert rows[1]["method"] == "published: A" and rows[1]["TRE mm"] == 1.0
    assert rows[1]["folds %"] == "< 0.1" and rows[1]["TRE snap mm"] is None
    assert rows[2]["TRE mm"] is None and rows[2]["TRE snap mm"] == 0.9
