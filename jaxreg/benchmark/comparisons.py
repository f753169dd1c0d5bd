"""Methods side by side on the same cases: tests of significance, the ablation, all tables."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.benchmark.published import PublishedAblation
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import case_rows, label_rows, summary_rows, tre_rows
from jaxreg.benchmark.table import Row
from jaxreg.metrics import statistics


def _tre(record: Record) -> float | None:
    return float(np.mean(record.tre_mm)) if record.tre_mm else None


def _keypoint_tre(record: Record) -> float | None:
    return float(np.mean(record.keypoint_tre_mm)) if record.keypoint_tre_mm else None


def _dice(record: Record) -> float | None:
    return record.mean_overlap("dice")


_MEASURES: dict[str, tuple[Callable[[Record], float | None], bool]] = {
    "TRE mm": (_tre, False),
    "keypoint TRE mm": (_keypoint_tre, False),
    "Dice": (_dice, True),  # more is better
}


def comparison_rows(
    by_method: Mapping[str, Sequence[Record]], *, reference: str | None = None
) -> Sequence[Row]:
    """Rows of one-sided tests of whether the first method is better than the second.

    One value a case, its mean. Without a reference every two methods are tested in both directions,
    all of which count in the correction; only the direction in which the means lie is shown.

    Args:
        by_method: records of each method; cases that both have finished are compared.
        reference: the method that is tested against each other one; all against all if None.

    Returns:
        Rows with the difference of means, p and stars, both corrected.
    """
    pairs = list(itertools.permutations(by_method, 2))
    if reference is not None:
        pairs = [pair for pair in pairs if pair[0] == reference]
    rows = []
    for measure, (value, more) in _MEASURES.items():
        for first, second in pairs:
            a, b = _same_cases(by_method[first], by_method[second], value)
            if a.size == 0 or (reference is None and (a.mean() > b.mean()) != more):
                continue
            ordered = (b, a) if more else (a, b)
            test = statistics.wilcoxon_less(*ordered, comparisons=len(pairs))
            row = {"measure": measure, "method": first, "better than": second}
            row |= {"cases": a.size, "difference": float(a.mean() - b.mean())}
            rows.append(row | {"p": test.p_corrected, "stars": test.stars, "tests": len(pairs)})
    return rows


def ablation_rows(
    by_method: Mapping[str, Sequence[Record]], published: Mapping[str, PublishedAblation]
) -> Sequence[Row]:
    """Rows of the paper's Table 2: what a variant scores, and whether "proposed" is better.

    Args:
        by_method: records, those of variants under their names.
        published: the paper's figures, by name.

    Returns:
        Rows in the order of `published`, those of variants that were not trained included.
    """
    by_method = {name: by_method[name] for name in published if name in by_method}
    stars = {
        (row["better than"], row["measure"]): row["stars"]
        for row in comparison_rows(by_method, reference="proposed")
    }
    ours = {row["method"]: row for row in summary_rows(by_method)}
    rows = []
    for name, figures in published.items():
        found = ours.get(name, {})
        row: dict[str, Any] = {"variant": figures.variant}
        row["cases"] = found.get("cases", "not trained")
        for column in ("Dice", "keypoint TRE mm", "folds %", "TRE mm"):
            if any(column in other for other in ours.values()):
                row[column] = found.get(column)
                if column in _MEASURES:
                    row[f"{column.removesuffix(' mm')} stars"] = stars.get((name, column))
        row |= {"publ. Dice": figures.dice, "publ. keypoint TRE mm": figures.keypoint_tre}
        row |= {"publ. folds %": figures.folds, "publ. 4DCT TRE mm": figures.dirlab_tre}
        rows.append(row)
    return rows


def tables(
    by_method: Mapping[str, Sequence[Record]],
    *,
    published: Sequence[Row] = (),
    published_cases: Mapping[str, Sequence[float]] | None = None,
    label_names: Mapping[str, str] | None = None,
    ablation: Mapping[str, PublishedAblation] | None = None,
) -> dict[str, tuple[str, Sequence[Row]]]:
    """Title and rows of every table of a data set, by file name; those without rows left out.

    Args:
        by_method: records of each method.
        published: rows to set below those of the methods.
        published_cases: by name, TRE of cases 1, 2, ..., mm.
        label_names: of the labels, such as {"1": "right upper"}.
        ablation: the paper's figures, where the methods are its variants.

    Returns:
        A table of the cases of each method, then those of all methods.
    """
    found = {
        f"cases-{method}": (f"{method} by case", case_rows(records))
        for method, records in by_method.items()
    }
    found["tre"] = "TRE by case", tre_rows(by_method, published=published_cases)
    found["labels"] = "by label", label_rows(by_method, label_names=label_names)
    found["comparisons"] = "which method is better", comparison_rows(by_method)
    found["methods"] = "methods", summary_rows(by_method, published=published)
    if ablation is not None:
        found["ablation"] = "ablation", ablation_rows(by_method, ablation)
    return {name: table for name, table in found.items() if table[1]}


def _same_cases(first, second, value):
    """Values of the cases that both have, in one order."""
    found = [{r.case: value(r) for r in records if not r.error} for records in (first, second)]
    cases = [case for case in found[0] if found[0][case] is not None]
    cases = [case for case in cases if found[1].get(case) is not None]
    return tuple(np.array([values[case] for case in cases], np.float64) for values in found)
