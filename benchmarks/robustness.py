"""Prealignment of the development pairs from random starts, and the lung masks.

    python benchmarks/robustness.py [FOLDER] [--starts 5] [--method affine] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, their _mask files, landmarks.csv;
default ../shared/data). Each start moves one image in the world, the fixed and the moving one in
turn: a shift of up to 100 mm and a rotation by up to 15 degrees, each in a random direction, the
first start at both limits. Errors are those of the vessel landmarks. Dice is that of the mask found
with the one supplied.
"""

import numpy as np
from harness import development_pairs, development_parser, lengths, print_rows
from scipy.spatial.transform import Rotation

from jaxreg.config import METHODS
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.grid import transform
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.pipeline.registration import register_volumes

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


def measure(pair, fixed, moving, points, *, method, starts):
    """Figures of one pair."""
    supplied = [read_volume(pair / f"{name}_mask.nii.gz").data > 0 for name in ("fixed", "moving")]
    masks = [lung_mask(image) for image in (fixed, moving)]
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
        return lengths(reached - transform(moving_offset, points.moving[vessel])).mean()

    identity = np.eye(4)
    moving_moved = [error_mm(identity, about(o, moving)) for o in offsets(starts)]
    fixed_moved = [error_mm(about(o, fixed), identity) for o in offsets(starts)]
    return {
        "pair": pair.name,
        "method": method,
        "Dice fixed": dice(masks[0].data > 0, supplied[0]),
        "Dice moving": dice(masks[1].data > 0, supplied[1]),
        "unmoved mm": error_mm(identity, identity),
        "moving moved, least": min(moving_moved),
        "most": max(moving_moved),
        "fixed moved, least": min(fixed_moved),
        "most mm": max(fixed_moved),
    }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--method", default="affine", choices=METHODS)
    options = parser.parse_args()
    pairs = development_pairs(options.folder)
    settings = {"method": options.method, "starts": options.starts}
    print_rows((measure(*content, **settings) for content in pairs), options)


if __name__ == "__main__":
    main()
