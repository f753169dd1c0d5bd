"""A pair as large as scans come from files to files: seconds, memory of the process, error.

    python benchmarks/full_size.py [--folder DIR] [--shape 512 512 128]
        [--spacing 0.72 0.72 2.5] [--slices N] [--methods classical full] [--json OUT]

A phantom in two breath-holds, by default with voxels of 0.72 x 0.72 x 2.5 mm, is written to
--folder (made in a minute or more; kept and used again) and registered by `python -m jaxreg
register`, no mask given, twice; the seconds are those of both runs, of which the second finds its
programs compiled. A phantom takes 80 bytes a voxel to make; with --slices it is made with fewer
slices than are written, and linearly interpolated between them.
"""

import tempfile
from pathlib import Path

import numpy as np
from harness import lengths, parser, print_rows, run_register

from jaxreg.geometry.volume import Volume, resample
from jaxreg.io.nifti import read_displacement, write_volume
from jaxreg.io.points import Landmarks, read_landmarks, write_landmarks
from jaxreg.phantom.pair import phantom_pair

SEED = 1000


def make(folder, shape, spacing_mm, *, slices=None):
    """Writes the pair as scanners do, in whole HU; between the same ends in more slices if given.

    Args:
        folder: to write to.
        shape: of the phantom, voxels.
        spacing_mm: of the phantom.
        slices: of the files; those of the phantom if None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair = phantom_pair(
        SEED,
        shape=shape,
        spacing_mm=spacing_mm,
        motion="breath-hold",
        moving_shift_mm=(10.0, -5.0, 15.0),
    )
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        image = with_slices(image, slices or shape[2])
        values = Volume(np.rint(image.data).astype(np.int16), image.affine)
        write_volume(folder / f"{name}.nii.gz", values)
    kind = np.full(len(pair.fixed_landmarks), "vessel")
    points = Landmarks(pair.fixed_landmarks, pair.moving_landmarks, kind)
    write_landmarks(folder / "landmarks.csv", points)


def with_slices(image, count):
    """The image in another number of slices between the same ends, linear."""
    if count == image.shape[2]:
        return image
    thinner = np.diag([1.0, 1.0, (image.shape[2] - 1) / (count - 1), 1.0])
    return resample(image, image.affine @ thinner, (*image.shape[:2], count))


def measure(folder, points, method):
    """Figures of one method."""
    with tempfile.TemporaryDirectory() as out:
        runs = [run_register(folder, method, out) for _ in range(2)]
        field = read_displacement(Path(out) / "displacement.nii.gz")
    error_mm = lengths(field.transform_points(points.fixed) - points.moving)
    return {
        "method": method,
        "first run s": runs[0][0],
        "second run s": runs[1][0],
        "MiB": max(memory for _, memory in runs),
        "mean mm": error_mm.mean(),
        "p95": np.percentile(error_mm, 95),
    }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, default=Path("scratch/full_size"))
    arguments.add_argument("--shape", type=int, nargs=3, default=[512, 512, 128])
    arguments.add_argument("--spacing", type=float, nargs=3, default=[0.72, 0.72, 2.5], help="mm")
    arguments.add_argument("--slices", type=int, help="of the files, made of fewer")
    arguments.add_argument("--methods", nargs="+", default=["classical", "full"])
    options = arguments.parse_args()
    if not (options.folder / "landmarks.csv").exists():
        make(options.folder, options.shape, options.spacing, slices=options.slices)
    points = read_landmarks(options.folder / "landmarks.csv")
    rows = (measure(options.folder, points, method) for method in options.methods)
    print_rows(rows, options)


if __name__ == "__main__":
    main()
