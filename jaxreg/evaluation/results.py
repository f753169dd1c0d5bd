"""Results case by case: what is measured, kept in files, and put into tables.

A record holds everything that a table needs, each landmark's error included, so that tables made
from files are those made at once. Folds and uncertified cells are shares of the lungs; tables show
them in percent.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.data.atomic import replacing
from jaxreg.data.grid import Grid
from jaxreg.data.landmarks import Landmarks
from jaxreg.data.volume import DisplacementField, Volume, resample
from jaxreg.evaluation import folding, metrics, statistics, surfaces
from jaxreg.evaluation.cases import Truth
from jaxreg.evaluation.published import PublishedTre
from jaxreg.evaluation.table import Row
from jaxreg.fields.certificate import uncertified_cells
from jaxreg.fields.jacobian import jacobian_determinant

_INTERVAL_CASES = 5  # fewer cannot tell how far cases spread
_PERCENTILES = ("p25", "median", "p75", "p95")


@dataclasses.dataclass(frozen=True)
class Record:
    """Scores of one method on one case; None, or nothing, where there is no truth to score.

    Attributes:
        case: name.
        method: name.
        fixed_phase: which breathing state was fixed.
        tre_mm: error of each landmark.
        tre_snapped_mm: the same with mapped points rounded to voxels of the moving image.
        overlap: by label, {"dice", "asd_mm", "hd_mm", "hd95_mm"}.
        determinant: `jaxreg.evaluation.folding.DeterminantSummary` as a mapping.
        uncertified: share of cells in the lungs that are not proven free of folds.
        seconds: the registration took, without reading and scoring.
        error: why there are no scores.
    """

    case: str
    method: str
    fixed_phase: str = ""
    tre_mm: Sequence[float] = ()
    tre_snapped_mm: Sequence[float] = ()
    overlap: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    determinant: Mapping[str, float] | None = None
    uncertified: float | None = None
    seconds: float | None = None
    error: str = ""

    def lines(self) -> tuple[str, ...]:
        """The scores in a few lines of words, for a picture."""
        lines = []
        if self.tre_mm:
            tre = metrics.summary(np.array(self.tre_mm))
            lines.append(
                f"{tre.count} landmarks: TRE {tre.mean:.2f} ± {tre.sd:.2f} mm, "
                f"95th percentile {tre.p95:.2f} mm"
            )
        if self.determinant is not None and self.uncertified is not None:
            lines.append(
                f"lungs: {100 * self.determinant['folds']:.2g} % of voxels folded (central "
                f"differences), {100 * self.uncertified:.2g} % of cells not certified free of folds"
            )
        if self.seconds is not None:
            lines.append(f"{self.seconds:.1f} s")
        return tuple(lines)


def landmark_scores(
    landmarks: Landmarks, mapped: np.ndarray, *, snap_grid: Grid | None
) -> dict[str, Any]:
    """Errors of landmarks, as fields of a record.

    Args:
        landmarks: the truth.
        mapped: its fixed points taken to the moving image, RAS mm, (N, 3).
        snap_grid: of the moving image, where landmarks are whole voxels of it; else None.

    Returns:
        tre_mm, and with `snap_grid` tre_snapped_mm.
    """
    if snap_grid is None:
        return {"tre_mm": metrics.tre(mapped, landmarks.moving).tolist()}
    plain, snapped = metrics.tre_dirlab(
        snap_grid.voxel_from_world(mapped),
        snap_grid.voxel_from_world(landmarks.moving).round(6),  # whole again
        spacing_mm=snap_grid.spacing_mm,
    )
    return {"tre_mm": plain.tolist(), "tre_snapped_mm": snapped.tolist()}


def initial_scores(truth: Truth) -> dict[str, Any]:
    """Scores without registration, as fields of a record; landmarks alone, where labels lack."""
    scores = {}
    pair = truth.images() if truth.snap_grid is None else None
    if pair and pair.fixed_labels and pair.moving_labels:
        grid = pair.fixed_labels.grid
        unmoved = resample(pair.moving_labels, grid.affine, grid.shape, order=0, fill=0.0)
        scores |= overlap_scores(pair.fixed_labels, unmoved)
    if truth.landmarks:
        scores |= landmark_scores(truth.landmarks, truth.landmarks.fixed, snap_grid=truth.snap_grid)
    return scores


def overlap_scores(fixed_labels: Volume, warped_labels: Volume) -> dict[str, Any]:
    """Overlap and surface distances of each label, as a field of a record."""
    a, b = (labels.data.astype(np.int32) for labels in (fixed_labels, warped_labels))
    overlap = {}
    for label, dice in metrics.dice(a, b).items():
        scores = {"dice": dice}
        if dice > 0:  # both have it
            masks = a == label, b == label
            for name, distance in (
                ("asd_mm", surfaces.asd),
                ("hd_mm", surfaces.hd),
                ("hd95_mm", surfaces.hd95),
            ):
                scores[name] = distance(*masks, spacing_mm=fixed_labels.spacing_mm)
        overlap[str(label)] = scores
    return {"overlap": overlap}


def fold_scores(displacement: DisplacementField, mask: Volume) -> dict[str, Any]:
    """Volume change and both fold counts in the lungs, as fields of a record."""
    u = displacement.to_voxels()
    determinant = np.asarray(jacobian_determinant(u))
    return {
        "determinant": dataclasses.asdict(folding.determinant_summary(determinant, mask.data)),
        "uncertified": folding.uncertified_share(np.asarray(uncertified_cells(u)), mask.data),
    }


def write_record(path: Path, record: Record, *, settings: Mapping[str, Any]) -> None:
    """Writes a record and the settings that made it as JSON."""
    document = {"settings": settings, "record": dataclasses.asdict(record)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, *, settings: Mapping[str, Any]) -> Record | None:
    """Returns the record of a finished case; None if absent, failed or made by other settings."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**document["record"])
    except (json.JSONDecodeError, KeyError, TypeError):  # not ours, or of another version
        return None
    return record if document["settings"] == settings and not record.error else None


def case_rows(
    records: Sequence[Record], *, published: Mapping[str, Sequence[float]] | None = None
) -> Sequence[Row]:
    """Rows of a table of one method: its cases, then the two means, published figures beside.

    Args:
        records: of one method.
        published: by name, figures of cases 1, 2, ...; then records must be named by numbers.

    Returns:
        Rows without columns that would be empty.
    """
    rows = []
    for record in records:
        tre, percentiles = _tre_cells([record])
        beside = {
            f"publ. {name}": figures[int(record.case) - 1]
            for name, figures in (published or {}).items()
        }
        row = {"case": record.case, **tre, **beside, **_other_cells(record), **percentiles}
        rows.append(row | ({"error": record.error} if record.error else {}))
    done = [record for record in records if not record.error]
    if len(done) > 1:
        means = _column_means([row for row in rows if "error" not in row])
        tre, percentiles = _tre_cells(done)
        rows.append({"case": "all landmarks", **tre, **percentiles})
        rows.append({"case": "mean of cases", **means})
    return _without_empty(rows)


def summary_rows(
    by_method: Mapping[str, Sequence[Record]], *, published: Sequence[PublishedTre] = ()
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
            by_case = _column_means([_other_cells(record) for record in done])
            row |= {**_tre_cells(done)[0], **_interval_cells(done), **by_case}
        rows.append(row)
    for entry in published:
        kind = " snap" if entry.snapped else ""
        row = {"method": f"published: {entry.method}", f"TRE{kind} mm": entry.mean}
        row |= {f"sd{kind}": entry.sd, "folds %": entry.folds, "seconds": entry.seconds}
        rows.append(row)
    return _without_empty(rows)


def _tre_cells(records):
    """Mean and spread over all landmarks of the records, as in the published tables."""
    row, percentiles = {}, {}
    for kind, name in (("", "tre_mm"), (" snap", "tre_snapped_mm")):
        errors = [np.array(getattr(r, name)) for r in records if getattr(r, name)]
        if errors:
            score = dataclasses.asdict(metrics.summary(np.concatenate(errors)))
            row |= {f"TRE{kind} mm": score["mean"], f"sd{kind}": score["sd"]}
            percentiles |= {f"{name}{kind}": score[name] for name in _PERCENTILES}
    return row, percentiles


def _other_cells(record):
    """Overlap averaged over labels, folds in percent, seconds."""
    row = {}
    for name, key in (("Dice", "dice"), ("ASD mm", "asd_mm"), ("HD mm", "hd_mm")):
        values = [scores[key] for scores in record.overlap.values() if key in scores]
        row[name] = float(np.mean(values)) if values else None
    if record.determinant is not None:
        row["folds %"] = 100 * record.determinant["folds"]
        row["sd log det"] = record.determinant["sd_log"]
    if record.uncertified is not None:
        row["uncertified %"] = 100 * record.uncertified
    return row | {"seconds": record.seconds}


def _interval_cells(records):
    """Mean of the cases' means, and its bootstrap interval."""
    errors = [np.array(record.tre_mm) for record in records if record.tre_mm]
    if len(errors) < _INTERVAL_CASES:
        return {}
    by_case = np.array([values.mean() for values in errors])
    low, high = statistics.bootstrap_interval(by_case)
    mean = statistics.means(errors).per_case
    return {"mean of cases": mean, "95 % interval": f"{low:.2f} to {high:.2f}"}


def _column_means(rows):
    """Means over rows of what may be averaged; spreads and percentiles may not."""
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
