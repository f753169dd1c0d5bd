"""Results case by case: what is measured, and kept in files.

A record holds everything that a table or a figure needs, each landmark's error included, so that
what is made from files is what was made at once. Fractions are in [0, 1]; tables show percent.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.io.atomic import replacing
from jaxreg.metrics import landmarks as metrics


@dataclasses.dataclass(frozen=True)
class Record:
    """Scores of one method on one case; None, or nothing, where there is no ground truth to score.

    Attributes:
        case: name.
        method: name.
        fixed_phase: which respiratory state was fixed.
        tre_mm: error of each landmark.
        tre_snapped_mm: the same with mapped points rounded to voxels of the moving image.
        landmark_kind: what each landmark is, where the data set says so.
        keypoint_tre_mm: error of each keypoint.
        overlap: by label, {"dice", "asd_mm", "hd_mm", "hd95_mm"}.
        boundary: `jaxreg.metrics.boundaries.boundary_error`, a fraction.
        fissures: `jaxreg.metrics.boundaries.fissure_error`, a fraction.
        determinant: `jaxreg.metrics.folding.DeterminantSummary` as a mapping.
        uncertified: fraction of the cells in the lungs that are not proven free of folds.
        inverse_consistency_mm: inverse-consistency error in the lungs, {"mean", "max"}.
        warnings: codes of what a person should look at, with the lung.
        challenge: scores by the data set's own definitions, by column.
        seconds: the registration took, without compilation, reading and scoring.
        compile_seconds: compilation took.
        process_gb, device_gb: memory; see `jaxreg.benchmark.cost.Cost`.
        made_with: versions and device that made the record.
        error: why there are no scores.
    """

    case: str
    method: str
    fixed_phase: str = ""
    tre_mm: Sequence[float] = dataclasses.field(default_factory=list)
    tre_snapped_mm: Sequence[float] = dataclasses.field(default_factory=list)
    landmark_kind: Sequence[str] = dataclasses.field(default_factory=list)
    keypoint_tre_mm: Sequence[float] = dataclasses.field(default_factory=list)
    overlap: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    boundary: float | None = None
    fissures: float | None = None
    determinant: Mapping[str, float] | None = None
    uncertified: float | None = None
    inverse_consistency_mm: Mapping[str, float] | None = None
    warnings: Sequence[str] = dataclasses.field(default_factory=list)
    challenge: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    compile_seconds: float | None = None
    process_gb: float | None = None
    device_gb: float | None = None
    made_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    error: str = ""

    def lines(self) -> tuple[str, ...]:
        """The scores in a few lines of words, for a figure."""
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

    def by_label(self, name: str) -> dict[str, float]:
        """One of the overlap scores of each label that has it."""
        return {label: score[name] for label, score in self.overlap.items() if name in score}

    def mean_overlap(self, name: str) -> float | None:
        """One of the overlap scores, averaged over labels; None without labels."""
        values = list(self.by_label(name).values())
        return float(np.mean(values)) if values else None


def write_record(path: Path, record: Record, *, inputs: Mapping[str, Any]) -> None:
    """Writes a record and its inputs as JSON.

    Args:
        path: file to write.
        record: scores of one case by one method.
        inputs: what the record depends on; `read_record` compares them.
    """
    document = {"inputs": inputs, "record": dataclasses.asdict(record)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, *, inputs: Mapping[str, Any]) -> Record | None:
    """Returns the stored record of a finished case.

    Args:
        path: file that `write_record` wrote.
        inputs: what the record must depend on.

    Returns:
        The record; None if it is absent, failed or was made from other inputs.
    """
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**document["record"])
        stored = document["inputs"]
    except (json.JSONDecodeError, KeyError, TypeError):  # not ours, or of another version
        return None
    same = stored == json.loads(json.dumps(inputs))  # tuples are lists there
    return record if same and not record.error else None
