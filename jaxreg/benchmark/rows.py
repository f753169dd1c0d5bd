"""Rows of tables from records: by case, by method and by label.

Two means are in use and are distinguished: "TRE mm" of several cases is pooled over all their
landmarks, and "sd" is over landmarks, as in the published tables; everything else is averaged over
cases, with "sd ..." over cases. See `LEGEND`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.benchmark.results import Record
from jaxreg.benchmark.table import Row
from jaxreg.metrics import landmarks as metrics
from jaxreg.metrics import statistics

LEGEND = {
    "TRE mm": "landmarks mapped without rounding, pooled over all landmarks of all cases",
    "sd": "of TRE over landmarks",
    "TRE snap mm": "the same with mapped points rounded to whole voxels of the moving image",
    "mean of cases": "mean over cases of the mean TRE of a case",
    "95 % interval": "of the mean of cases, bootstrap (BCa, 9999 resamples)",
    "TRE30": "70 % quantile over cases of the mean TRE of a case, mm (Learn2Reg)",
    "keypoint TRE mm": "keypoints, mean over cases",
    "Dice": "mean over labels, then over cases; sd over cases",
    "Dice30": "mean and sd over the 30 % of cases with the lowest Dice (Hering et al. 2021)",
    "DSC30": "30 % quantile over cases of Dice (Learn2Reg)",
    "ASD mm": "symmetric average surface distance between voxel centres",
    "HD mm": "Hausdorff distance of surfaces",
    "HD95 mm": "greater 95th percentile of the two directions",
    "boundary %": "points 2 to 20 mm off the lungs' surface on its wrong side (EMPIRE10)",
    "fissures %": "points 2 to 20 mm off a fissure in the wrong lobe",
    "folds %": "lung voxels with determinant <= 0, central differences",
    "uncertified %": "lung cells between voxels that are not proven free of folds",
    "sd log det": "standard deviation of the logarithm of the determinant in the lungs",
    "det p1": "1st percentile of the determinant in the lungs; p99 is the 99th",
    "inverse-consistency mm": "inverse-consistency error in the lungs, mean",
    "SDlogJ": "sd of log(clip(det + 3, 1e-9, 1e9)), Learn2Reg's definition",
    "folded voxels": "det <= 0 off the two border voxels; Learn2Reg's code always prints 0 here",
    "warnings": "what a person should look at; the pages of the case say more",
    "seconds": "wall time of the registration without compilation",
    "process GB": "greatest resident memory of the process during the registration, 1e9 bytes",
    "device GB": "greatest device memory since the process began, 1e9 bytes",
    "stars": "*** p < 0.001, ** p < 0.01, * p < 0.05 after Bonferroni correction",
    "p": "one-sided Wilcoxon signed-rank test over cases, times the number of tests",
}

_INTERVAL_CASES = 5  # fewer give no interval
_PERCENTILES = ("p25", "median", "p75", "p95")
_OVERLAP = (("Dice", "dice"), ("ASD mm", "asd_mm"), ("HD mm", "hd_mm"), ("HD95 mm", "hd95_mm"))


def case_rows(records: Sequence[Record]) -> Sequence[Row]:
    """Rows of a table of one method: its cases, then the two means.

    Args:
        records: of one method.

    Returns:
        Rows without columns that would be empty.
    """
    rows = []
    for record in records:
        tre, percentiles = _tre_cells([record])
        row = {"case": record.case, **tre, **_other_cells(record), **percentiles}
        row["warnings"] = ", ".join(record.warnings) or None
        rows.append(row | ({"error": record.error} if record.error else {}))
    done = [record for record in records if not record.error]
    if len(done) > 1:
        means = _column_means([row for row in rows if "error" not in row])
        tre, percentiles = _tre_cells(done)
        if tre:
            rows.append({"case": "all landmarks", **tre, **percentiles})
        rows.append({"case": "mean of cases", **means})
    return _without_empty(rows)


def tre_rows(
    by_method: Mapping[str, Sequence[Record]],
    *,
    published: Mapping[str, Sequence[float]] | None = None,
) -> Sequence[Row]:
    """Rows of the paper's Table 5: mean TRE of each case by each method, published ones beside.

    Args:
        by_method: records of each method.
        published: by name, figures of cases 1, 2, ...; then records must be named by numbers.

    Returns:
        A row a case and their mean; none where no method has landmarks.
    """
    rows: dict[str, dict[str, Any]] = {}
    for kind, name in (("", "tre_mm"), (" snap", "tre_snapped_mm")):
        for method, records in by_method.items():
            for record in records:
                row = rows.setdefault(record.case, {"case": record.case})
                row |= {f"{method}{kind} mm": _case_mean(getattr(record, name))}
    for case, row in rows.items():
        for name, figures in (published or {}).items():
            row[f"publ. {name}"] = figures[int(case) - 1]
    found = _without_empty(rows.values())
    if not any(f"{method} mm" in row for method in by_method for row in found):
        return []
    return [*found, {"case": "mean of cases", **_column_means(found)}]


def summary_rows(
    by_method: Mapping[str, Sequence[Record]], *, published: Sequence[Row] = ()
) -> Sequence[Row]:
    """Rows of a table of methods: ours, pooled and by case, then the published ones.

    Args:
        by_method: records of each method.
        published: rows to set below ours.

    Returns:
        Rows without columns that would be empty.
    """
    rows = []
    for method, records in by_method.items():
        done = [record for record in records if not record.error]
        row: dict[str, Any] = {"method": method, "cases": f"{len(done)} of {len(records)}"}
        if done:
            means = _column_means([_other_cells(record) for record in done])
            row |= {**_tre_cells(done)[0], **_case_mean_cells(done)}
            row |= _overlap_cells(done)
            row |= {name: value for name, value in means.items() if name not in row}
            warned = sum(bool(record.warnings) for record in done)
            row["cases with warnings"] = warned or None
        rows.append(row)
    return _without_empty([*rows, *published])


def label_rows(
    by_method: Mapping[str, Sequence[Record]], *, label_names: Mapping[str, str] | None = None
) -> Sequence[Row]:
    """Rows of overlap and surface distances by label, mean and standard deviation over cases.

    Args:
        by_method: records of each method.
        label_names: of the labels, such as {"1": "right upper"}.

    Returns:
        One row a method and label; none where there are no labels.
    """
    rows = []
    for method, records in by_method.items():
        labels = {label for record in records for label in record.overlap}
        for label in sorted(labels, key=int):
            row: dict[str, Any] = {"method": method, "label": (label_names or {}).get(label, label)}
            for column, name in _OVERLAP:
                scores = [record.by_label(name).get(label) for record in records]
                row |= _mean_and_sd(column, [score for score in scores if score is not None])
            rows.append(row)
    return rows


def _tre_cells(records):
    """Mean and standard deviation over all landmarks of the records, as in the published tables."""
    row, percentiles = {}, {}
    for kind, name in (("", "tre_mm"), (" snap", "tre_snapped_mm")):
        errors = [np.array(getattr(r, name)) for r in records if getattr(r, name)]
        if errors:
            score = dataclasses.asdict(metrics.summary(np.concatenate(errors)))
            row |= {f"TRE{kind} mm": score["mean"], f"sd{kind}": score["sd"]}
            percentiles |= {f"{name}{kind}": score[name] for name in _PERCENTILES}
    return row | _kind_cells(records), percentiles


def _case_mean(errors):
    return float(np.mean(errors)) if errors else None


def _kind_cells(records):
    """Mean over the landmarks of each kind, where there are several."""
    pairs = [pair for r in records for pair in zip(r.landmark_kind, r.tre_mm, strict=False)]
    kinds = dict.fromkeys(kind for kind, _ in pairs)
    if len(kinds) < 2:
        return {}
    return {
        f"TRE {kind} mm": float(np.mean([error for k, error in pairs if k == kind]))
        for kind in kinds
    }


def _other_cells(record):
    """What is one number a case: overlap averaged over labels, fractions in percent, cost."""
    row: dict[str, Any] = {"keypoint TRE mm": _case_mean(record.keypoint_tre_mm)}
    row |= {column: record.mean_overlap(name) for column, name in _OVERLAP}
    fractions = {"boundary %": record.boundary, "fissures %": record.fissures}
    determinant = record.determinant or {}
    fractions |= {"folds %": determinant.get("folds"), "uncertified %": record.uncertified}
    row |= {name: None if value is None else 100 * value for name, value in fractions.items()}
    row |= {"sd log det": determinant.get("sd_log")}
    row |= {f"det {p}": determinant.get(p) for p in ("p1", "p99")}
    row |= {
        "inverse-consistency mm": (record.inverse_consistency_mm or {}).get("mean"),
        **record.challenge,
    }
    row |= {"seconds": record.seconds, "compile s": record.compile_seconds}
    return row | {"process GB": record.process_gb, "device GB": record.device_gb}


def _overlap_cells(records):
    """Overlap, mean and standard deviation over cases, and of the lowest 30 % of cases."""
    row = {}
    for column, name in _OVERLAP:
        values = [record.mean_overlap(name) for record in records]
        values = [value for value in values if value is not None]
        row |= _mean_and_sd(column, values)
        if column == "Dice" and values:
            row |= _mean_and_sd("Dice30", metrics.lowest30(np.array(values)))
            row["DSC30"] = metrics.learn2reg_dsc30(np.array(values))
    return row


def _mean_and_sd(column, values):
    if len(values) == 0:
        return {}
    return {
        column: float(np.mean(values)),
        f"sd {column.removesuffix(' mm')}": float(np.std(values)),
    }


def _case_mean_cells(records):
    """Mean over cases of their mean TRE with its bootstrap interval, and Learn2Reg's TRE30."""
    row = {}
    for kind, name in (("", "tre_mm"), ("keypoint ", "keypoint_tre_mm")):
        errors = [getattr(record, name) for record in records]
        by_case = np.array([_case_mean(values) for values in errors if values])
        if len(by_case) >= _INTERVAL_CASES:
            if not kind:
                low, high = statistics.bootstrap_interval(by_case)
                row["mean of cases"] = float(by_case.mean())
                row["95 % interval"] = f"{low:.2f} to {high:.2f}"
            row[f"{kind}TRE30"] = metrics.learn2reg_tre30(by_case)
    return row


def _column_means(rows):
    """Means over rows of what may be averaged; standard deviations and percentiles may not."""
    means = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if isinstance(row.get(name), float)]
        if values and name.removesuffix(" snap") not in ("sd", *_PERCENTILES):
            means[name] = float(np.mean(values))
    return means


def _without_empty(rows):
    names = dict.fromkeys(name for row in rows for name in row)
    kept = [name for name in names if any(row.get(name) is not None for row in rows)]
    return [{name: row.get(name) for name in kept} for row in rows]
