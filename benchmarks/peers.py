"""Other tools beside jaxreg on the development pairs, in turn on the same machine.

    python benchmarks/peers.py [FOLDER] [--tools jaxreg greedy "ANTs SyN"]

Each tool gets files and writes a displacement field on the grid of the fixed image, which is then
measured in the same way for all. Others also get the lung masks that jaxreg finds, and start with
their own affine map; jaxreg finds its masks itself. The seconds are those of the whole process; for
jaxreg those of a second run, which finds its programs compiled. The extra [peers] has the other
tools; ANTsPy asks for an older NumPy, hence an environment of its own.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import (
    development_pairs,
    development_parser,
    in_a_process,
    lengths,
    print_rows,
    run_register,
)
from peer_tools import TOOLS

from jaxreg.geometry.resampling import field_determinant
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_displacement, write_volume
from jaxreg.lungs.pair import lungs_of_pair

JAXREG = "jaxreg"


def run_tool(tool, files, field):
    """Runs a tool.

    Returns:
        Wall seconds, and the greatest memory that its process held, MiB.
    """
    if tool != JAXREG:
        script = Path(__file__).with_name("peer_tools.py")
        words = [sys.executable, script, tool, field, *files]
        return in_a_process([str(word) for word in words])
    out = field.parent / "jaxreg"
    for _ in range(2):
        cost = run_register(files[0].parent, "classical", str(out))
    (out / "displacement.nii.gz").rename(field)
    return cost


def measure(tool, pair, files, lungs, points):
    """Figures of one tool on one pair."""
    with tempfile.TemporaryDirectory() as folder:
        field = Path(folder) / "displacement.nii.gz"
        seconds, memory = run_tool(tool, files, field)
        found = read_displacement(field)
    error = lengths(found.transform_points(points.fixed) - points.moving)
    vessel = points.kind == "vessel"
    return {
        "pair": pair,
        "method": tool,
        "vessels mm": error[vessel].mean(),
        "median": np.median(error[vessel]),
        "p95": np.percentile(error[vessel], 95),
        "random mm": error[~vessel].mean(),
        "folds %": 100 * np.mean(field_determinant(found).data[lungs] <= 0),
        "s": seconds,
        "MiB": memory,
    }


def rows(options):
    """A row for each pair and tool."""
    for pair, fixed, moving, points in development_pairs(options.folder):
        lungs = lungs_of_pair(fixed, moving)
        with tempfile.TemporaryDirectory() as folder:
            files = [pair / f"{name}.nii.gz" for name in ("fixed", "moving")]
            for number, mask in enumerate(lungs):
                files.append(Path(folder) / f"mask_{number}.nii.gz")
                write_volume(files[-1], Volume((mask.data > 0).astype(np.uint8), mask.affine))
            for tool in options.tools:
                yield measure(tool, pair.name, files, lungs[0].data > 0, points)


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    names = [JAXREG, *TOOLS]
    parser.add_argument("--tools", nargs="+", default=names, choices=names)
    options = parser.parse_args()
    print_rows(rows(options), options)


if __name__ == "__main__":
    main()
