"""Development pairs: an image registered to itself, and a pair registered both ways.

    python benchmarks/symmetry.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, landmarks.csv; default
../shared/data). "Itself" is the greatest displacement anywhere in the fixed image registered to
itself. The other figures are those of all landmarks: the error from fixed to moving, that of the
swapped pair (registered anew, masks and prealignment included), and how far a fixed landmark is
from where both fields, one after the other, take it.
"""

import numpy as np
from development import print_table

from jaxreg.io.nifti import read_volume
from jaxreg.io.points import read_landmarks
from jaxreg.pipeline.registration import register_volumes


def run(pair, method):
    """Yields the figures of one pair, mm."""
    fixed, moving = (read_volume(pair / f"{name}.nii.gz") for name in ("fixed", "moving"))
    points = read_landmarks(pair / "landmarks.csv", space="LPS")
    itself = register_volumes(fixed, fixed, method=method).displacement
    there = register_volumes(fixed, moving, method=method)
    back = register_volumes(moving, fixed, method=method)
    reached = there.map_points(points.fixed)
    returned = np.linalg.norm(back.map_points(reached) - points.fixed, axis=1)
    swapped = np.linalg.norm(back.map_points(points.moving) - points.fixed, axis=1)
    yield {
        "pair": pair.name,
        "itself": float(np.linalg.norm(itself.data, axis=-1).max()),
        "fixed to moving": float(np.linalg.norm(reached - points.moving, axis=1).mean()),
        "swapped": float(swapped.mean()),
        "there and back, median": float(np.median(returned)),
        "95th percentile": float(np.percentile(returned, 95)),
    }


if __name__ == "__main__":
    print_table(run, description=__doc__.splitlines()[0], method="classical")
