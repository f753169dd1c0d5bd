"""Development pairs: an image registered to itself, and a pair registered both ways.

    python benchmarks/symmetry.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, landmarks.csv; default
../shared/data). "Itself" is the greatest displacement anywhere in the fixed image registered to
itself. The other figures are those of all landmarks: the error from fixed to moving, that of the
swapped pair (registered anew, masks and prealignment included), and how far a fixed landmark is
from where both fields, one after the other, take it.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from jaxreg.data.landmarks import read_landmarks
from jaxreg.data.nifti import read_volume
from jaxreg.registration import METHODS, register_volumes


def run(pair, method):
    """Figures of one pair, mm."""
    fixed, moving = (read_volume(pair / f"{name}.nii.gz") for name in ("fixed", "moving"))
    points = read_landmarks(pair / "landmarks.csv", space="LPS")
    itself = register_volumes(fixed, fixed, method=method).displacement
    there = register_volumes(fixed, moving, method=method)
    back = register_volumes(moving, fixed, method=method)
    reached = there.map_points(points.fixed)
    returned = np.linalg.norm(back.map_points(reached) - points.fixed, axis=1)
    swapped = np.linalg.norm(back.map_points(points.moving) - points.fixed, axis=1)
    return {
        "pair": pair.name,
        "itself": float(np.linalg.norm(itself.data, axis=-1).max()),
        "fixed to moving": float(np.linalg.norm(reached - points.moving, axis=1).mean()),
        "swapped": float(swapped.mean()),
        "there and back, median": float(np.median(returned)),
        "95th percentile": float(np.percentile(returned, 95)),
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    parser.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    parser.add_argument("--method", default="classical", choices=METHODS[1:])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for landmarks in sorted(options.folder.glob("*/landmarks.csv")):
        row = run(landmarks.parent, options.method)
        if not rows:
            print(f"| {' | '.join(row)} |\n|---|{'---:|' * (len(row) - 1)}")
        rows.append(row)
        pair, *figures = row.values()
        print(f"| {pair} | {' | '.join(f'{figure:.3g}' for figure in figures)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
