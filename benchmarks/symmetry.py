"""Development pairs: an image registered to itself, and a pair registered both ways.

    python benchmarks/symmetry.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, landmarks.csv; default
../shared/data). "Itself" is the greatest displacement anywhere in the fixed image registered to
itself. The other figures are those of all landmarks: the error from fixed to moving, that of the
swapped pair (registered anew, masks and prealignment included), and the inverse-consistency error:
how far a fixed landmark is from where both fields, one after the other, take it.
"""

import numpy as np
from harness import development_pairs, development_parser, lengths, print_rows

from jaxreg.config import METHODS
from jaxreg.pipeline.registration import register_volumes


def measure(name, fixed, moving, points, method):
    """Figures of one pair, mm."""
    itself = register_volumes(fixed, fixed, method=method).displacement
    forward = register_volumes(fixed, moving, method=method)
    backward = register_volumes(moving, fixed, method=method)
    reached = forward.map_points(points.fixed)
    inconsistency = lengths(backward.map_points(reached) - points.fixed)
    return {
        "pair": name,
        "itself": lengths(itself.data).max(),
        "fixed to moving": lengths(reached - points.moving).mean(),
        "swapped": lengths(backward.map_points(points.moving) - points.fixed).mean(),
        "inverse-consistency error, median": np.median(inconsistency),
        "95th percentile": np.percentile(inconsistency, 95),
    }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--method", default="classical", choices=METHODS[1:])
    options = parser.parse_args()
    pairs = development_pairs(options.folder)
    rows = (measure(pair.name, *content, options.method) for pair, *content in pairs)
    print_rows(rows, options)


if __name__ == "__main__":
    main()
