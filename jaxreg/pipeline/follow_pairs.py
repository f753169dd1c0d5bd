"""Lesions of the fixed image and marks of the moving one joined where they are one lesion."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxreg.config import FollowConfig
from jaxreg.metrics.lesions import Outline, distance_to
from jaxreg.pipeline.follow_match import Marked, unlike_mark
from jaxreg.pipeline.follow_result import Followed

_SAME_MM = 2.0  # a mark so near to a lesion is of that lesion
_NOT_JOINED = "the field does not take it to the lesion that is marked in the moving scan"


def told_apart(lesions: Sequence[Followed]) -> list[Followed]:
    """Lesions, uncertain where two were found at one place of the image they were looked for in.

    Args:
        lesions: marked in one image.

    Returns:
        The lesions.
    """
    return [_shared(lesion, lesions) for lesion in lesions]


def _shared(lesion: Followed, lesions: Sequence[Followed]) -> Followed:
    scan = 0 if lesion.measures.get("marked_in") == "moving" else 1
    for other in lesions:
        if other is not lesion and _same(lesion.outlines[scan], other.outlines[scan]):
            image = ("fixed", "moving")[scan]
            remark = f"lesion {other.name} was found at the same place of the {image} image"
            return dataclasses.replace(lesion, status="uncertain", remark=remark)
    return lesion


def joined(
    found: Sequence[Followed],
    marked: Sequence[Marked],
    *,
    config: FollowConfig = FollowConfig(),
) -> tuple[list[Followed], list[Marked]]:
    """Joins marks of the moving image with the lesions of the fixed one that they are of.

    Args:
        found: lesions that are marked in the fixed image.
        marked: marks of the moving image.
        config: settings.

    Returns:
        The lesions with their partners, and the marks that are left. Of these, the ones with the
        name of a lesion are called "NAME (moving)".
    """
    partners, alone = list(found), []
    names = {lesion.name for lesion in found}
    for mark in marked:
        index = _partner(mark, found, config)
        if index is not None:
            partners[index] = _both(partners[index], mark, config)
            continue
        if mark.lesion.name in names:
            lesion = dataclasses.replace(mark.lesion, name=f"{mark.lesion.name} (moving)")
            mark = dataclasses.replace(mark, lesion=lesion)
        alone.append(mark)
    return partners, alone


def seen_already(lesion: Followed, found: Sequence[Followed]) -> Followed:
    """A lesion of the moving image alone, uncertain where the fixed one shows it after all.

    Args:
        lesion: marked in the moving image.
        found: lesions that are marked in the fixed one.

    Returns:
        The lesion.
    """
    if lesion.unlike or lesion.outlines[0] is None:
        return lesion
    remark = "the fixed image shows something like it, which is not marked"
    for other in found:
        if _same(other.outlines[0], lesion.outlines[0]):
            remark = f"it may be lesion {other.name} of the fixed image"
    return dataclasses.replace(lesion, status="uncertain", remark=remark)


def _same(one: Outline | None, other: Outline | None) -> bool:
    if one is None or other is None:
        return False
    return bool(np.linalg.norm(one.centre_mm - other.centre_mm) < _SAME_MM)


def _partner(mark: Marked, found: Sequence[Followed], config: FollowConfig) -> int | None:
    """The number of the lesion that a mark of the moving image is of, the nearest if several."""
    apart = {
        index: float(np.linalg.norm(lesion.places_mm[1] - mark.place_mm))
        for index, lesion in enumerate(found)
        if _is_of(mark, lesion, config)
    }
    return min(apart, key=apart.__getitem__) if apart else None


def _is_of(mark: Marked, lesion: Followed, config: FollowConfig) -> bool:
    """Whether a mark is where a lesion was found, or where the field takes one of the others."""
    outline = lesion.outlines[1]
    if outline is None:
        apart_mm = np.linalg.norm(lesion.places_mm[1] - mark.place_mm)
        return bool(apart_mm <= config.tolerance_mm)
    near = distance_to(outline, mark.lesion.place_mm) < _SAME_MM
    return near or _same(outline, mark.outline)


def _both(lesion: Followed, mark: Marked, config: FollowConfig) -> Followed:
    """A lesion of the fixed image that is marked in the moving one, too."""
    lesion = dataclasses.replace(
        lesion,
        labels=(lesion.labels[0], mark.lesion.mask),
        measures={**lesion.measures, "marked_in": "both"},
    )
    if lesion.outlines[1] is None:
        doubt = f"in the moving scan {mark.doubt}" if mark.doubt else _NOT_JOINED
        outlines = lesion.outlines[0], mark.outline
        places = np.stack([lesion.places_mm[0], mark.place_mm])
        lesion = dataclasses.replace(lesion, outlines=outlines, places_mm=places)
    else:
        doubt = unlike_mark(lesion.outlines[1], mark.lesion, config=config)
        doubt = doubt and f"in the moving scan {doubt}"
    if not doubt or lesion.remark:
        return lesion
    return dataclasses.replace(lesion, status="uncertain", remark=doubt)
