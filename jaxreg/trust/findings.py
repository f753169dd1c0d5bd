"""What a person should look at: of a pair before it is registered, and of its registration.

Each finding says what was seen, what it may mean and what to look at. None of them stops a
registration.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import scipy.linalg

from jaxreg.config import TrustConfig
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume
from jaxreg.trust.jumps import SPAN, Jumps
from jaxreg.trust.quality import Lung

_TURNS = {
    (-1, 1, 1): "right and left exchanged",
    (1, -1, 1): "front and back exchanged",
    (1, 1, -1): "head and feet exchanged",
    (-1, -1, 1): "half a turn about the axis of the body",
    (-1, 1, -1): "half a turn about the axis from back to front",
    (1, -1, -1): "half a turn about the axis from left to right",
    (-1, -1, -1): "all three axes reversed",
}


class Finding(NamedTuple):
    """What is doubtful.

    Attributes:
        code: its kind, lower case with hyphens, for programs.
        text: one line for a person.
        lung: "right" or "left" where it concerns one lung.
    """

    code: str
    text: str
    lung: str | None = None


def doubt_of_same_image(fixed: Volume, moving: Volume) -> Iterator[Finding]:
    """Yields a finding where both images have the same value in every voxel.

    Args:
        fixed: of any grid.
        moving: of any grid.

    Yields:
        The finding.
    """
    if fixed.shape != moving.shape:
        return
    planes = zip(fixed.data, moving.data, strict=True)  # the first that differs ends it
    if all(np.array_equal(a, b) for a, b in planes):
        yield Finding(
            "same-image",
            "the fixed and the moving image are the same image: every voxel has the same value. "
            "Check that you gave the two scans that you meant.",
        )


def doubts_of_masks(
    masks: tuple[Volume, Volume], *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields what is doubtful of the lungs of a pair before it is registered.

    Args:
        masks: lungs of the fixed and of the moving image, 1 right and 2 left.
        config: settings.
    """
    sides = []
    for mask, name in zip(masks, ("fixed", "moving"), strict=True):
        count = int(np.count_nonzero(mask.data))
        volume_ml = count * abs(np.linalg.det(mask.affine[:3, :3])) / 1e3
        least, most = config.lungs_ml
        if not least <= volume_ml <= most:
            yield Finding(
                "implausible-lungs",
                f"the lungs of the {name} image hold {volume_ml:,.3g} ml, a person's {least:,.0f} "
                f"to {most:,.0f} ml. The mask or the voxel size in the header may be wrong: look "
                "at both.",
            )
        if count < config.fewest_voxels:
            yield Finding(
                "few-voxels",
                f"the lungs of the {name} image have {count:,} voxels, too few for a statement "
                "about the registration. Look at the mask.",
            )
        sides.append({1, 2} & set(np.unique(mask.data).tolist()))
    for label, lung in ((1, "right"), (2, "left")):
        have = [label in side for side in sides]
        if any(have) and not all(have):
            names = ("fixed", "moving") if have[0] else ("moving", "fixed")
            yield Finding(
                "lung-in-one-image",
                f"the {lung} lung is in the {names[0]} image but not in the {names[1]} one. It may "
                "be collapsed, full of fluid, removed or outside of the scan there; its field is "
                "only continued from the other lung. Look at both images and masks.",
                lung,
            )


def doubts_of_lungs(
    lungs: Mapping[str, Lung], *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields what is doubtful of a registration by the measures of each lung.

    Args:
        lungs: measures by "right" and "left".
        config: settings.
    """
    for name, lung in lungs.items():
        if lung.moving_ml > 0 and lung.shown <= config.least_compared:
            yield Finding(
                "not-compared",
                f"the images could be compared in {100 * lung.shown:.0f} % of the {name} lung: the "
                "field takes the rest of it out of the moving lung or out of the scan. Look at the "
                "report, at both fields of view and at the headers.",
                name,
            )
        elif lung.agreement < config.least_agreement and lung.shown > config.least_compared:
            yield Finding(
                "images-disagree",
                f"in the {name} lung the images hardly agree after registration (local correlation "
                f"{lung.agreement:.2f}; of one person's scans above {config.least_agreement:g}). "
                "They may be of two persons, years or treatments apart, or a header may be wrong. "
                "Do not use the field before you have looked at the report.",
                name,
            )
        elif lung.shown > config.least_compared and (
            lung.quality < config.least_quality * lung.shown
        ):
            yield Finding(
                "low-quality",
                f"by the estimated quality, only {100 * lung.quality / lung.shown:.0f} % of what "
                f"the moving image shows of the {name} lung are within 2 mm of where they belong. "
                "Slices may be out of order or displaced, the noise may be high, or the lung may "
                "have changed. Look at quality.nii.gz and at the report.",
                name,
            )
        for fraction, in_view, one, other in (
            (lung.shown, lung.in_view, "fixed", "moving"),
            (lung.covered, lung.moving_in_view, "moving", "fixed"),
        ):
            if lung.moving_ml > 0 and fraction < config.least_shown * in_view:
                yield Finding(
                    "lung-not-shown",
                    f"{100 * (in_view - fraction):.0f} % of the {name} lung of the {one} image "
                    f"meet no lung in the {other} one: fluid, collapse, a tumour or a mask "
                    "that lacks a part. There the field is only continued. Look at valid.nii.gz.",
                    name,
                )
        ratio = lung.moving_ml / lung.fixed_ml
        if ratio > 0 and not 1 / config.breath <= ratio <= config.breath:
            yield Finding(
                "volume-change",
                f"the {name} lung holds {lung.fixed_ml:,.0f} ml in the fixed image and "
                f"{lung.moving_ml:,.0f} ml in the moving one: more than respiration changes it. "
                "Look at masks and voxel sizes.",
                name,
            )


def doubt_of_view(
    cut: tuple[float, float], *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields a finding where a scan ends within the lungs, and the other one does not or less.

    Args:
        cut: fraction of the lungs' surface at which the scan ends
            (`jaxreg.lungs.view.cut_fraction`), of the fixed and of the moving image.
        config: settings.
    """
    for name, fraction, other in (("fixed", *cut), ("moving", *cut[::-1])):
        if fraction > config.most_cut and fraction > 2 * other:
            yield Finding(
                "field-of-view",
                f"the {name} scan ends within the lungs ({100 * fraction:.0f} % of their surface; "
                f"of the other image {100 * other:.0f} %). Outside of it the field is only "
                "continued. Look at valid.nii.gz.",
            )


def doubt_of_jumps(
    jumps: Jumps, grid: Grid, *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields a finding where the field jumps across all of the lungs at one height.

    Args:
        jumps: of the field.
        grid: that of the field, in the fixed world; its third axis lies along the body.
        config: how large they may be.
    """
    plane = int(np.argmax(jumps.size))
    if jumps.size[plane] <= config.largest_jump:
        return
    middle = np.array([*(n // 2 for n in grid.shape[:2]), plane], float)
    height_mm = grid.world_from_voxel(middle)[2]
    change_mm = np.linalg.norm(jumps.shift[plane] * grid.spacing_mm)
    yield Finding(
        "slice-jump",
        f"at z = {height_mm:.0f} mm of the fixed image the field changes by {change_mm:.0f} mm "
        f"within {2 * SPAN * grid.spacing_mm[2]:.0f} mm, in all of the lungs: slices may be "
        "missing, repeated or displaced in one scan. Look at both scans there; beside that place "
        "the field is wrong.",
    )


def doubt_of_correlation(
    before: float, after: float, *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields a finding where the correlation in the lungs fell by the registration.

    Args:
        before: correlation before.
        after: correlation after.
        config: how much it may fall.

    Yields:
        The finding.
    """
    if after < before - config.correlation_loss:
        yield Finding(
            "correlation-fell",
            f"the correlation in the lungs fell from {before:.2f} to {after:.2f} by the "
            "registration. Use another method, or the images as they are; look at the report.",
        )


def doubt_of_orientation(
    similarity: Mapping[tuple[int, int, int], float], *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields a finding where the moving image fits better when it is turned round.

    Args:
        similarity: by the signs of the axes (`jaxreg.trust.orientation`).
        config: settings.
    """
    best = max(similarity, key=lambda signs: similarity[signs])
    as_it_is = similarity[1, 1, 1]
    if similarity[best] > as_it_is + config.orientation_gain:
        yield Finding(
            "orientation",
            f"the moving image fits better with {_TURNS[best]} (similarity {similarity[best]:.2f} "
            f"against {as_it_is:.2f}). The orientation in one header may be wrong: look at it.",
        )


def doubt_of_stretch(
    matrix: np.ndarray, *, config: TrustConfig = TrustConfig()
) -> Iterator[Finding]:
    """Yields a finding where the linear part stretches the lungs as respiration does not.

    Respiration moves the diaphragm by centimetres, but the chest gets wider and deeper by little.
    A wrong voxel size stretches all of a plane, and intensities agree well afterwards.

    Args:
        matrix: (4, 4), fixed world to moving world, RAS mm.
        config: settings.
    """
    _, stretch = scipy.linalg.polar(matrix[:3, :3])  # a rotation is no stretch
    directions = ("right to left", "front to back")
    for axis, (direction, most) in enumerate(zip(directions, config.stretch, strict=True)):
        factor = float(stretch[axis, axis])
        if not 1.0 / most <= factor <= most:
            yield Finding(
                "stretched",
                f"the lungs are {factor:.2f} times as long from {direction} in the moving image; "
                f"respiration changes that by less than a factor of {most:g}. A voxel size may be "
                "wrong, or the images are of two persons. Compare the widths of the body.",
            )


def doubt_of_prealignment(limits: list[str]) -> Iterator[Finding]:
    """Yields a finding where the prealignment ended at its limits, named in `limits`."""
    if limits:
        yield Finding(
            "prealignment-at-limit",
            f"the linear prealignment ended at its limit ({', '.join(limits)}). The images may "
            "not belong together, or lie further apart than it searches: look at the report.",
        )
