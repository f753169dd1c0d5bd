"""The error by the number of voxels of the lung grid, for scans with coarse and with fine voxels.

    python benchmarks/lung_grid.py [FOLDER] [--json OUT]

FOLDER holds the development pairs (default ../shared/data). The generated pairs have larger voxels.
Each pair is registered on each shape of `grid.shapes`; "chosen" is the one that it gets by itself.
"ratio" is the voxel size of the lung grid by that of the coarser image, cube roots of volumes.
Errors are means in mm of all landmarks, seconds those of the stages of a second run.
"""

import numpy as np
from harness import development_pairs, development_parser, lengths, print_rows, size

from jaxreg.config import RegistrationConfig, override
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.registration import register_volumes

SEED, SHAPES = 46_000_000, ((96, 80, 96), (112, 96, 80), (128, 104, 64))


def pairs(folder):
    """Yields name, images and landmarks of each pair."""
    for pair, fixed, moving, points in development_pairs(folder):
        yield pair.name, fixed, moving, points.fixed, points.moving
    for number, shape in enumerate(SHAPES):
        pair = phantom_pair(SEED + number, shape=shape)
        landmarks = pair.fixed_landmarks, pair.moving_landmarks
        yield str(SEED + number), pair.fixed, pair.moving, *landmarks


def measure(name, fixed, moving, fixed_points, moving_points):
    """Yields the figures of one pair for each shape."""
    chosen = chosen_shape(fixed, moving)
    voxel = max(np.prod(image.spacing_mm) for image in (fixed, moving))
    for shape in RegistrationConfig().grid.shapes:
        config = override(RegistrationConfig(), f"grid.shape={list(shape)}")
        for _ in range(2):
            found = register_volumes(fixed, moving, config=config)
        yield {
            "pair": name,
            "voxels mm": " x ".join(f"{mm:.2g}" for mm in fixed.spacing_mm),
            "lung grid": size(shape),
            "chosen": "yes" if shape == chosen[0] else "",
            "ratio": float(np.cbrt(chosen[1] / np.prod(shape) / voxel)),
            "mean mm": lengths(found.map_points(fixed_points) - moving_points).mean(),
            "s": sum(found.seconds.values()),
        }


def chosen_shape(fixed, moving):
    """The shape that a pair gets by itself, and the volume of its lung grid in mm^3."""
    grid = align(fixed, moving).grid
    return grid.shape, np.prod(grid.spacing_mm) * np.prod(grid.shape)


def main():
    """Prints the table."""
    options = development_parser(__doc__).parse_args()
    print_rows((row for pair in pairs(options.folder) for row in measure(*pair)), options)


if __name__ == "__main__":
    main()
