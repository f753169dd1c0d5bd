"""Cases of a data set as files that every registration tool reads."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from jaxreg.benchmark.cases import Case
from jaxreg.benchmark.naming import file_name
from jaxreg.io.atomic import replacing
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import write_landmarks

_VOLUMES = (
    *("fixed", "moving", "fixed_mask", "moving_mask"),
    *("fixed_labels", "moving_labels"),
)


def export_cases(folder: str | os.PathLike, cases: Sequence[Case]) -> Path:
    """Writes images, masks and labels as NIfTI, points as CSV, and a manifest of all cases.

    Fields that a tool writes on the grid of `fixed` can be scored on the data set itself as well as
    on the manifest; only the former knows the snapped protocol and the published figures.

    Args:
        folder: gets a folder a case.
        cases: read one after the other.

    Returns:
        The manifest.
    """
    entries = []
    for case in cases:
        ground_truth = case.load()
        pair = ground_truth.images()
        target = Path(folder) / file_name(case.name)
        target.mkdir(parents=True, exist_ok=True)
        entry = {"id": case.name}
        for name in _VOLUMES:
            volume = getattr(pair, name)
            if volume is not None:
                entry[name] = f"{target.name}/{name}.nii.gz"
                write_volume(target / f"{name}.nii.gz", volume)
        for name, points in (("landmarks", ground_truth.landmarks), ("keypoints", pair.keypoints)):
            if points is not None:
                entry[name] = f"{target.name}/{name}.csv"
                write_landmarks(target / f"{name}.csv", points, space="LPS")
        entries.append(entry)
    manifest = Path(folder) / "pairs.json"
    with replacing(manifest) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return manifest
