"""What the inverse-consistency error says of the true error, on phantom pairs.

    python benchmarks/inverse_consistency.py [--first 1000] [--count 6] [--method classical]
                                             [--json OUT]

Pairs as in benchmarks/phantom.py. Of every lung voxel in 50 the true error and the
inverse-consistency error; Spearman's rank correlation of both, and their means in tenths of the
voxels, the most consistent first.
"""

import numpy as np
import scipy.stats
from harness import keep, lengths, parser, print_rows
from phantom import synthesise

from jaxreg.config import RegistrationConfig, with_method
from jaxreg.pipeline.registration import register_volumes


def errors(pair, method):
    """Inverse-consistency error and true error, mm, of one lung voxel in 50."""
    config = with_method(RegistrationConfig(inverse_consistency=True), method)
    result = register_volumes(pair.fixed, pair.moving, config=config)
    lung = np.flatnonzero(pair.fixed_labels.data)[::50]
    residual = (result.displacement.data - pair.displacement.data).reshape(-1, 3)[lung]
    return result.inverse_consistency.data.ravel()[lung], lengths(residual)


def correlation(inconsistency, error):
    """Spearman's rank correlation."""
    return float(scipy.stats.spearmanr(inconsistency, error)[0])


def main():
    """Prints the table, then both errors by tenths."""
    arguments = parser(__doc__)
    arguments.add_argument("--first", type=int, default=1000)
    arguments.add_argument("--count", type=int, default=6)
    arguments.add_argument(
        "--method", default="classical", choices=("cascade", "classical", "full")
    )
    options = arguments.parse_args()
    found = []

    def rows():
        for i in range(options.count):
            pair, about = synthesise(options.first, i, options.count)
            found.append(errors(pair, options.method))
            yield {
                "seed": about["seed"],
                "motion mm": about["motion mm"],
                "rank correlation": correlation(*found[-1]),
                "inverse-consistency error, mean mm": found[-1][0].mean(),
                "true error, mean mm": found[-1][1].mean(),
            }

    table = print_rows(rows(), options)
    inconsistency, error = (np.concatenate(values) for values in zip(*found, strict=True))
    print(f"all voxels: rank correlation {correlation(inconsistency, error):.2f}")
    tenths = np.array_split(np.argsort(inconsistency), 10)
    by_tenth = [
        {
            "tenth": number,
            "inverse-consistency error, mm": inconsistency[those].mean(),
            "true error, mm": error[those].mean(),
        }
        for number, those in enumerate(tenths, 1)
    ]
    print_rows(by_tenth)
    keep(options, table, correlation=correlation(inconsistency, error), tenths=by_tenth)


if __name__ == "__main__":
    main()
