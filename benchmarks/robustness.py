"""Prealignment of the development pairs from random starts, and the lung masks.

    python benchmarks/robustness.py [FOLDER] [--starts 5] [--method affine] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, their _mask files, landmarks.csv;
default ../shared/data). Each start moves one image in the world, the fixed and the moving one in
turn: a shift of up to 100 mm and a rotation by up to 15 degrees, each in a random direction, the
first start at both limits. Errors are those of the vessel landmarks. Dice is that of the mask found
with the one supplied.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.grid import transform
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.io.points import read_landmarks
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.pipeline.registration import METHODS, register_volumes

MOST_MM, MOST_DEGREES = 100.0, 15.0
SEED = 0


def offsets(count):
    """Rigid motions about the world's origin, (4, 4), of growing distance from the limits."""
    random = np.random.default_rng(SEED)
    for i in range(count):
        axis, way = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
        turn, shift = (1.0, 1.0) if i == 0 else random.uniform(size=2)
        offset = np.eye(4)
        degrees = MOST_DEGREES * turn
        offset[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
        offset[:3, 3] = MOST_MM * shift * way
        yield offset


def dice(a, b):
    """Dice coefficient of two masks."""
    return float(2 * np.sum(a & b) / max(a.sum() + b.sum(), 1))


def about(offset, volume):
    """The offset taken about the middle of a volume, so that a turn alone shifts nothing."""
    centre = np.eye(4)
    centre[:3, 3] = volume.world_from_voxel((np.array(volume.shape) - 1) / 2)
    return centre @ offset @ np.linalg.inv(centre)


def run(pair, method, starts):
    """Figures of one pair."""
    fixed, moving = (read_volume(pair / f"{name}.nii.gz") for name in ("fixed", "moving"))
    supplied = [read_volume(pair / f"{name}_mask.nii.gz").data > 0 for name in ("fixed", "moving")]
    masks = [lung_mask(image) for image in (fixed, moving)]
    points = read_landmarks(pair / "landmarks.csv", space="LPS")
    vessel = points.kind == "vessel"

    def error_mm(fixed_offset, moving_offset):
        images = [
            [Volume(v.data, offset @ v.affine) for v in (image, mask)]
            for image, mask, offset in zip(
                (fixed, moving), masks, (fixed_offset, moving_offset), strict=True
            )
        ]
        (f, f_mask), (m, m_mask) = images
        start = transform(fixed_offset, points.fixed[vessel])
        if method == "affine":  # the same map, without warping and measuring images
            reached = transform(prealign(f, m, f_mask, m_mask)[0], start)
        else:
            result = register_volumes(f, m, fixed_mask=f_mask, moving_mask=m_mask, method=method)
            reached = result.map_points(start)
        wanted = transform(moving_offset, points.moving[vessel])
        return float(np.linalg.norm(reached - wanted, axis=1).mean())

    still = np.eye(4)
    rows = [(o, "moving") for o in offsets(starts)] + [(o, "fixed") for o in offsets(starts)]
    moved = [
        error_mm(still, about(o, moving)) if which == "moving" else error_mm(about(o, fixed), still)
        for o, which in rows
    ]
    return {
        "pair": pair.name,
        "method": method,
        "dice": [dice(m.data > 0, s) for m, s in zip(masks, supplied, strict=True)],
        "unmoved_mm": error_mm(still, still),
        "moving_moved_mm": moved[:starts],
        "fixed_moved_mm": moved[starts:],
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    parser.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--method", default="affine", choices=METHODS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print("| pair | Dice fixed | Dice moving | unmoved mm | moving moved | fixed moved |")
    print("|---|---|---|---|---|---|")
    for landmarks in sorted(options.folder.glob("*/landmarks.csv")):
        row = run(landmarks.parent, options.method, options.starts)
        rows.append(row)
        ends = [
            f"{min(row[key]):.2f} to {max(row[key]):.2f}"
            for key in ("moving_moved_mm", "fixed_moved_mm")
        ]
        shares = [f"{share:.3f}" for share in row["dice"]]
        cells = [row["pair"], *shares, f"{row['unmoved_mm']:.2f}", *ends]
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
