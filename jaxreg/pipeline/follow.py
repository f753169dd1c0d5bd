"""Lesions of the fixed image found in the moving one, and how they changed."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxreg.config import FollowConfig, RegistrationConfig
from jaxreg.geometry.inversion import CONVERGED_MM, invert_at_points
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.lesions import MarkedLesion, MarkedLesions
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.metrics.lesions import Outline, distance_to
from jaxreg.pipeline.follow_lungs import around, without_lesions
from jaxreg.pipeline.follow_match import Match, Scan, look_for, marked_outline
from jaxreg.pipeline.follow_result import Followed, FollowUp, measures_of
from jaxreg.pipeline.judge import registration_of_field
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.registration import register_volumes, versions
from jaxreg.pipeline.result import Registration
from jaxreg.trust.findings import Finding

_SAME_MM = 2.0  # a mark so near to a lesion is of that lesion
_NO_LESION = "nothing denser than lung was found at the mark"
_UNCLEAR = "it cannot be told from vessels or the chest wall; its volume is doubtful"


def follow(
    fixed: Volume,
    moving: Volume,
    lesions: MarkedLesions,
    *,
    moving_lesions: MarkedLesions | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    field: DisplacementField | None = None,
    days: float | None = None,
    config: RegistrationConfig = RegistrationConfig(),
    settings: FollowConfig = FollowConfig(),
    notes: Sequence[Finding] = (),
    progress: Callable[[str], None] = lambda stage: None,
) -> tuple[FollowUp, Registration]:
    """Finds lesions of the fixed image in the moving one, and measures both.

    The images are registered with the lesions and a margin cut out of the lungs, so that growth
    does not pull the field.

    Args:
        fixed: CT in HU, today's.
        moving: CT in HU, the earlier one.
        lesions: marked in the fixed image.
        moving_lesions: marked in the moving image; those without a partner are told.
        fixed_mask: lungs, nonzero inside; found if None. On another grid than `fixed`, each voxel
            takes the nearest label, with a warning "other-grid".
        moving_mask: the same for `moving`.
        field: brings both together; they are registered if None.
        days: from the moving image to the fixed one, for doubling times; below 0 where the fixed
            image is the earlier one.
        config: settings of the registration.
        settings: of the lesions.
        notes: what is doubtful about the files.
        progress: called with the name of each stage when it begins.

    Returns:
        The lesions, and the registration.

    Raises:
        ValueError: as `jaxreg.register_volumes`.
    """
    progress("lungs")
    given, doubts = masks_on_images((fixed, moving), (fixed_mask, moving_mask))
    notes = (*notes, *doubts)
    lungs = lungs_of_pair(
        fixed, moving, fixed_mask=given[0], moving_mask=given[1], config=config.lungs
    )
    progress("lesions")
    scans = _scan("fixed", fixed, lungs[0], lesions), _scan("moving", moving, lungs[1])
    if moving_lesions is not None:
        scans = scans[0], _scan("moving", moving, lungs[1], moving_lesions)
    marks = lesions.lesions, () if moving_lesions is None else moving_lesions.lesions
    marked = [
        [marked_outline(scan, lesion, config=settings) for lesion in those]
        for scan, those in zip(scans, marks, strict=True)
    ]
    cut = [
        without_lesions(mask, outlines, labels, settings.margin_mm)
        for mask, outlines, labels in zip(
            lungs, marked, (lesions.labels, moving_lesions and moving_lesions.labels), strict=True
        )
    ]
    masks = {"fixed_mask": cut[0], "moving_mask": cut[1], "config": config, "progress": progress}
    if field is None:
        registration = register_volumes(fixed, moving, notes=notes, **masks)
    else:
        registration = registration_of_field(field, fixed, moving, **masks)
    progress("comparing")
    found = list(_of_fixed(registration, scans, marks[0], marked[0], days, settings))
    found = [_shared(lesion, found) for lesion in found]
    if moving_lesions is not None:
        found, alone = _paired(found, marks[1], marked[1])
        found += _of_moving(registration, scans, alone, found, settings)
    if days is not None and days < 0:
        found = [_swapped(lesion) for lesion in found]
    summary = _summary(registration, days, settings, notes)
    return FollowUp(fixed, moving, registration.warp(), found, summary), registration


def _scan(name: str, image: Volume, lungs: Volume, lesions: MarkedLesions | None = None) -> Scan:
    """An image whose lungs hold the lesions that are marked in it."""
    if lesions is None or lesions.labels is None:
        return Scan(name, image, lungs)
    inside = (lungs.data > 0) | (lesions.labels.data > 0)
    return Scan(name, image, Volume(inside.astype(np.uint8), lungs.affine))


def _of_fixed(
    registration: Registration,
    scans: tuple[Scan, Scan],
    marks: Sequence[MarkedLesion],
    outlines: Sequence[Outline | None],
    days: float | None,
    settings: FollowConfig,
) -> Iterator[Followed]:
    """Yields the lesions that are marked in the fixed image."""
    for mark, outline in zip(marks, outlines, strict=True):
        start = mark.place_mm if outline is None else outline.centre_mm
        place = registration.map_points(start[None])[0]
        common: dict[str, Any] = {"marked_in": "fixed", "marked_ml": mark.ml}
        if outline is None:
            places = np.stack([start, place])
            yield Followed(mark.name, "uncertain", _NO_LESION, places, (None, None), common)
            continue
        near = around(registration, outline.mask, config=settings)
        match = look_for(scans[1], outline, place, near.quality, config=settings)
        places = np.stack([start, place if match.outline is None else match.outline.centre_mm])
        status, remark = _status(match, outline, "new")
        common |= near._asdict() | {"apart_mm": match.apart_mm}
        pair = outline, match.outline
        common |= measures_of(pair, days, config=settings)
        yield Followed(mark.name, status, remark, places, pair, common)


def _status(match: Match, outline: Outline, absent: str) -> tuple[str, str]:
    """Status and remark; `absent` is the status of a lesion that the other image lacks."""
    if match.doubt:
        return "uncertain", match.doubt
    if not outline.compact:
        return "uncertain", _UNCLEAR
    return ("matched" if match.outline is not None else absent), ""


def _shared(lesion: Followed, lesions: Sequence[Followed]) -> Followed:
    """A lesion, uncertain where another one was found at the same place of the moving image."""
    mine = lesion.outlines[1]
    for other in lesions:
        theirs = other.outlines[1]
        if other is lesion or mine is None or theirs is None:
            continue
        if np.linalg.norm(mine.centre_mm - theirs.centre_mm) < _SAME_MM:
            remark = f"lesion {other.name} was found at the same place of the moving image"
            return dataclasses.replace(lesion, status="uncertain", remark=remark)
    return lesion


def _paired(
    found: Sequence[Followed], marks: Sequence[MarkedLesion], outlines: Sequence[Outline | None]
) -> tuple[list[Followed], list[tuple[MarkedLesion, Outline | None]]]:
    """Lesions of the fixed image with their partners, and the marks of the moving one left."""
    partners = list(found)
    alone = []
    for mark, outline in zip(marks, outlines, strict=True):
        index = next((i for i, lesion in enumerate(found) if _is_of(mark, lesion)), None)
        if index is None:
            alone.append((mark, outline))
        else:
            measures = {**partners[index].measures, "marked_in": "both"}
            partners[index] = dataclasses.replace(partners[index], measures=measures)
    return partners, alone


def _is_of(mark: MarkedLesion, lesion: Followed) -> bool:
    outline = lesion.outlines[1]
    return outline is not None and distance_to(outline, mark.place_mm) < _SAME_MM


def _of_moving(
    registration: Registration,
    scans: tuple[Scan, Scan],
    alone: Sequence[tuple[MarkedLesion, Outline | None]],
    found: Sequence[Followed],
    settings: FollowConfig,
) -> Iterator[Followed]:
    """Yields the lesions that are marked in the moving image alone."""
    for mark, outline in alone:
        start = mark.place_mm if outline is None else outline.centre_mm
        inverse, error = invert_at_points(registration.displacement, start[None])
        place = inverse[0]
        common: dict[str, Any] = {"marked_in": "moving", "marked_ml": mark.ml}
        places = np.stack([place, start])
        if outline is None:
            yield Followed(mark.name, "uncertain", _NO_LESION, places, (None, None), common)
            continue
        near = around(registration, outline.mask, shift_mm=place - start, config=settings)
        quality = near.quality if error[0] <= CONVERGED_MM else 0.0
        match = look_for(scans[0], outline, place, quality, config=settings)
        status, remark = _status(match, outline, "vanished")
        if match.outline is not None:
            status, remark = "uncertain", _seen(match.outline, found)
        common |= near._asdict() | {"apart_mm": match.apart_mm}
        pair = match.outline, outline
        yield Followed(mark.name, status, remark, places, pair, common)


def _seen(outline: Outline, found: Sequence[Followed]) -> str:
    """What is said of a lesion of the moving image that the fixed one shows after all."""
    for lesion in found:
        other = lesion.outlines[0]
        if other is not None and np.linalg.norm(other.centre_mm - outline.centre_mm) < _SAME_MM:
            return f"it may be lesion {lesion.name} of the fixed image"
    return "the fixed image shows something like it, which is not marked"


def _swapped(lesion: Followed) -> Followed:
    """A lesion where the fixed image is the earlier one."""
    names = {"new": "vanished", "vanished": "new"}
    return dataclasses.replace(lesion, status=names.get(lesion.status, lesion.status))


def _summary(registration, days, settings, notes) -> dict[str, Any]:
    known = [note._asdict() for note in notes]
    warnings = [warning for warning in registration.warnings if warning not in known]
    return {
        "days": days,
        "method": registration.summary["method"],
        "config": dataclasses.asdict(settings),
        "versions": versions(),
        "warnings": [*known, *warnings],
    }
