"""Development pairs made unusual: error of the landmarks that both show, and folds.

    python benchmarks/unusual.py [FOLDER] [--method cascade] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, fixed_mask.nii.gz, landmarks.csv;
default ../shared/data), axes parallel to the world's, slices from feet to head. Nothing but the two
images is given to the registration:

    as it is       the pair
    one lung       the half of both images left of the middle between the lungs filled with 40 HU
    base missing   the moving image ends above the lowest quarter of the lungs
    apex, base     the fixed image begins below the highest quarter as well
    8 mm slices    the moving image smoothed along the body and resampled to slices of 8 mm
    noise          60 HU (standard deviation) added to both images, 5 mm smooth noise of 20 HU too

Errors are those of landmarks that both images still show.
"""

import numpy as np
import scipy.ndimage
from harness import development_pairs, development_parser, lengths, print_rows

from jaxreg.config import METHODS
from jaxreg.geometry.volume import Volume, resample
from jaxreg.io.nifti import read_volume
from jaxreg.pipeline.registration import register_volumes

TISSUE_HU = 40.0
SLICE_MM = 8.0


def cropped(volume, low, high):
    """The slices of a volume whose index along Z is in [low, high)."""
    affine = volume.affine.copy()
    affine[:3, 3] += low * affine[:3, 2]
    return Volume(volume.data[:, :, low:high], affine)


def thick(volume):
    """The volume in slices of SLICE_MM, smoothed along the body for it."""
    ratio = SLICE_MM / volume.spacing_mm[2]
    affine = volume.affine.copy()
    affine[:3, 3] += (ratio - 1) / 2 * affine[:3, 2]
    affine[:3, 2] *= ratio
    return resample(volume, affine, (*volume.shape[:2], int(volume.shape[2] / ratio)))


def without_left(volume, middle_mm):
    """The image with tissue where the world's x is on the patient's left of the middle."""
    x = np.arange(volume.shape[0]) * volume.affine[0, 0] + volume.affine[0, 3]
    data = volume.data.copy()
    data[x < middle_mm] = TISSUE_HU
    return Volume(data, volume.affine)


def noisy(volume, seed):
    """White and smooth noise added."""
    random = np.random.default_rng(seed)
    white, smooth = random.normal(size=(2, *volume.shape)).astype(np.float32)
    smooth = scipy.ndimage.gaussian_filter(smooth, 5.0 / np.asarray(volume.spacing_mm))
    return Volume(volume.data + 60.0 * white + 20.0 / smooth.std() * smooth, volume.affine)


def kinds(fixed, moving, lungs):
    """Yields name, fixed and moving image, and the test for points (RAS mm) that both show."""
    slices = np.flatnonzero(lungs.data.any(axis=(0, 1)))
    quarter = len(slices) // 4
    low, high = int(slices[0]) + quarter, int(slices[-1]) - quarter
    inside = scipy.ndimage.center_of_mass(lungs.data > 0)
    middle = float(lungs.world_from_voxel(np.array([inside]))[0, 0])
    base = fixed.affine[2, 3] + low * fixed.affine[2, 2]
    apex = fixed.affine[2, 3] + high * fixed.affine[2, 2]
    first = round((base - moving.affine[2, 3]) / moving.affine[2, 2])
    top = moving.shape[2]

    def everywhere(points):
        return np.ones(len(points.fixed), bool)

    def above(points):
        return points.moving[:, 2] > base

    yield "as it is", fixed, moving, everywhere
    yield (
        "one lung",
        without_left(fixed, middle),
        without_left(moving, middle),
        lambda points: points.fixed[:, 0] > middle,
    )
    yield "base missing", fixed, cropped(moving, first, top), above
    yield (
        "apex, base",
        cropped(fixed, 0, high),
        cropped(moving, first, top),
        lambda points: above(points) & (points.fixed[:, 2] < apex),
    )
    yield "8 mm slices", fixed, thick(moving), everywhere
    yield "noise", noisy(fixed, 0), noisy(moving, 1), everywhere


def measure(pair, fixed, moving, points, method):
    """Yields the figures of one pair, kind by kind."""
    lungs = read_volume(pair / "fixed_mask.nii.gz")
    for name, one, other, visible in kinds(fixed, moving, lungs):
        result = register_volumes(one, other, method=method)
        error = lengths(result.map_points(points.fixed) - points.moving)[visible(points)]
        yield {
            "pair": pair.name,
            "kind": name,
            "landmarks": len(error),
            "mean mm": error.mean(),
            "95th percentile": np.percentile(error, 95),
            "folds %": 100 * result.summary["folds_in_lungs"],
        }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--method", default="cascade", choices=METHODS[1:])
    options = parser.parse_args()
    pairs = development_pairs(options.folder)
    rows = (row for content in pairs for row in measure(*content, options.method))
    print_rows(rows, options)


if __name__ == "__main__":
    main()
