"""A real pair without landmarks: do lungs and vessels meet, and how alike are the images?

    python benchmarks/real.py [FOLDER] [--methods affine classical] [--json OUT]

FOLDER holds fixed.nii.gz and moving.nii.gz (default ../shared/data/real_4dct). Lungs are found in
both images. "seen" counts only what the moving image shows at all: where a fixed lung reaches
beyond its field of view, nothing can correspond. Vessels are brighter than -500 HU, 6 mm or deeper
in the lungs of both images. The correlation is that of the lungs of both images.
"""

import os
import time
from pathlib import Path

import numpy as np
from harness import parser, print_rows
from scipy import ndimage

from jaxreg.config import METHODS
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.metrics.landmarks import dice
from jaxreg.pipeline.registration import register_volumes

VESSEL_HU, DEPTH_MM = -500.0, 6.0


def overlap(a, b):
    """Dice coefficient of two masks."""
    return dice(a.astype(np.uint8), b.astype(np.uint8))[1]


def measure(fixed, moving, lungs, method):
    """Figures of one method."""
    began = time.perf_counter()
    result = register_volumes(fixed, moving, method=method)
    seconds = time.perf_counter() - began
    ones = Volume(np.ones(moving.shape, np.float32), moving.affine)
    seen = result.warp(image=ones).data > 0.5
    theirs = result.warp_labels(lungs[1]).data > 0
    ours, warped = lungs[0].data > 0, result.warp().data
    both = ours & theirs
    deep = ndimage.distance_transform_edt(both, sampling=fixed.spacing_mm) >= DEPTH_MM
    return {
        "method": method,
        "lung Dice": overlap(ours, theirs),
        "lung Dice, seen": overlap(ours & seen, theirs),
        "vessel Dice": overlap((fixed.data > VESSEL_HU) & deep, (warped > VESSEL_HU) & deep),
        "correlation": np.corrcoef(fixed.data[both], warped[both])[0, 1],
        "folds %": 100 * result.summary["folds_in_lungs"],
        "warnings": len(result.warnings),
        "s": seconds,
    }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    arguments.add_argument("folder", nargs="?", type=Path, default=shared / "data" / "real_4dct")
    arguments.add_argument("--methods", nargs="+", default=["affine", "classical"], choices=METHODS)
    options = arguments.parse_args()
    fixed, moving = (read_volume(options.folder / f"{n}.nii.gz") for n in ("fixed", "moving"))
    lungs = lungs_of_pair(fixed, moving)
    rows = (measure(fixed, moving, lungs, method) for method in options.methods)
    print_rows(rows, options)


if __name__ == "__main__":
    main()
