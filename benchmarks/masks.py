"""The same lungs under other numbers: errors must not depend on what a mask calls them.

    python benchmarks/masks.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds the development pairs (default ../shared/data), whose masks of right and left lung are
renumbered; each lung in halves stands for lobes. A convention is used in the fixed image, the
moving one, or both; where it is used in one, the lungs of the other are found. Errors are of all
landmarks.
"""

import numpy as np
from harness import development_pairs, development_parser, lengths, print_rows

from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.pipeline.registration import register_volumes

# Numbers of right upper, right lower, left upper and left lower half.
CONVENTIONS = {
    "1": (1, 1, 1, 1),
    "255": (255, 255, 255, 255),
    "1, 2": (1, 1, 2, 2),
    "2, 3": (2, 2, 3, 3),
    "30, 20": (30, 30, 20, 20),
    "1 to 5": (1, 3, 4, 5),
    "10 to 14": (12, 14, 10, 11),
}


def renumbered(lungs, numbers):
    """The mask with a number for each half of each lung."""
    upper = np.indices(lungs.shape)[2] > np.argwhere(lungs.data > 0)[:, 2].mean()
    right, left = lungs.data == 1, lungs.data == 2
    parts = [right & upper, right & ~upper, left & upper, left & ~upper]
    return Volume(np.select(parts, numbers, 0).astype(np.int16), lungs.affine)


def measure(pair, fixed, moving, points, method):
    """Yields the figures of one pair."""
    lungs = [read_volume(pair / f"{name}_labels.nii.gz") for name in ("fixed", "moving")]
    for where, given in (("fixed", (1, 0)), ("moving", (0, 1)), ("both", (1, 1))):
        for name, numbers in CONVENTIONS.items():
            fixed_mask, moving_mask = (
                renumbered(mask, numbers) if use else None
                for mask, use in zip(lungs, given, strict=True)
            )
            result = register_volumes(
                fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, method=method
            )
            error = lengths(result.map_points(points.fixed) - points.moving)
            yield {
                "pair": pair.name,
                "masks of": where,
                "numbers": name,
                "mean mm": error.mean(),
                "p95": np.percentile(error, 95),
                "warnings": len(result.warnings),
            }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--method", default="classical")
    options = parser.parse_args()
    pairs = development_pairs(options.folder)
    rows = (row for content in pairs for row in measure(*content, options.method))
    print_rows(rows, options)


if __name__ == "__main__":
    main()
