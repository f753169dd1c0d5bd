"""Lesions of the fixed image found in the moving one, and how they changed."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxreg.config import FollowConfig, RegistrationConfig
from jaxreg.geometry.inversion import CONVERGED_MM, invert_at_points
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.lesions import MarkedLesions
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.metrics.lesions import Outline
from jaxreg.pipeline.follow_lungs import around, without_lesions
from jaxreg.pipeline.follow_match import Marked, Match, Scan, delineated, look_for
from jaxreg.pipeline.follow_pairs import joined, seen_already, told_apart
from jaxreg.pipeline.follow_result import Followed, FollowUp, measures_of
from jaxreg.pipeline.judge import registration_of_field
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.registration import register_volumes, versions
from jaxreg.pipeline.result import Registration
from jaxreg.trust.findings import Finding

_IMAGES = ("fixed", "moving")
_NONE = MarkedLesions(())


def follow(
    fixed: Volume,
    moving: Volume,
    lesions: MarkedLesions | None,
    *,
    moving_lesions: MarkedLesions | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    field: DisplacementField | None = None,
    days: float | None = None,
    dates: tuple[datetime.date, datetime.date] | None = None,
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
        lesions: marked in the fixed image; None if only those of the moving one are.
        moving_lesions: marked in the moving image. Beside `lesions`, those without a partner are
            told; alone, they are looked for in the fixed image.
        fixed_mask: lungs, nonzero inside; found if None. On another grid than `fixed`, each voxel
            takes the nearest label, with a warning "other-grid".
        moving_mask: the same for `moving`.
        field: brings both together; they are registered if None.
        days: from the moving image to the fixed one, for doubling times; below 0 where the fixed
            image is the earlier one. By `dates` if None.
        dates: of the studies of the fixed and of the moving image, where they are known.
        config: settings of the registration.
        settings: of the lesions.
        notes: what is doubtful about the files.
        progress: called with the name of each stage when it begins.

    Returns:
        The lesions, and the registration.

    Raises:
        ValueError: as `jaxreg.register_volumes`, or no lesions are given.
    """
    if lesions is None and moving_lesions is None:
        raise ValueError(
            "lesions: expected those of the fixed image, of the moving one (moving_lesions) or of "
            "both, got none. Give the file of one at least."
        )
    if days is None and dates is not None and dates[0] != dates[1]:
        days = float((dates[0] - dates[1]).days)
    progress("lungs")
    given, doubts = masks_on_images((fixed, moving), (fixed_mask, moving_mask))
    notes = (*notes, *doubts)
    lungs = lungs_of_pair(
        fixed, moving, fixed_mask=given[0], moving_mask=given[1], config=config.lungs
    )
    progress("lesions")
    given_lesions = lesions or _NONE, moving_lesions or _NONE
    scans = (
        _scan("fixed", fixed, lungs[0], given_lesions[0]),
        _scan("moving", moving, lungs[1], given_lesions[1]),
    )
    marked = [
        [delineated(scan, lesion, config=settings) for lesion in those.lesions]
        for scan, those in zip(scans, given_lesions, strict=True)
    ]
    cut = [
        without_lesions(mask, [mark.outline for mark in those], labels, settings.margin_mm)
        for mask, those, labels in zip(
            lungs, marked, [those.labels for those in given_lesions], strict=True
        )
    ]
    masks = {"fixed_mask": cut[0], "moving_mask": cut[1], "config": config, "progress": progress}
    if field is None:
        registration = register_volumes(fixed, moving, notes=notes, **masks)
    else:
        registration = registration_of_field(field, fixed, moving, **masks)
    progress("comparing")
    if lesions is None:
        found = told_apart(list(_of_moving(registration, scans, marked[1], days, settings)))
    else:
        found = told_apart(list(_of_fixed(registration, scans, marked[0], days, settings)))
        found, alone = joined(found, marked[1], config=settings)
        others = _of_moving(registration, scans, alone, days, settings)
        found += [seen_already(lesion, found) for lesion in others]
    if days is not None and days < 0:
        found = [_swapped(lesion) for lesion in found]
    told = None if dates is None else {n: str(d) for n, d in zip(_IMAGES, dates, strict=True)}
    summary = {"days": days, "dates": told, **_summary(registration, settings, notes)}
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
    marked: Sequence[Marked],
    days: float | None,
    settings: FollowConfig,
) -> Iterator[Followed]:
    """Yields the lesions that are marked in the fixed image."""
    for mark in marked:
        start, outline, label = mark.place_mm, mark.outline, (mark.lesion.mask, None)
        place = registration.map_points(start[None])[0]
        common: dict[str, Any] = {"marked_in": "fixed", "marked_ml": mark.lesion.ml}
        if outline is None or mark.doubt:
            places, shown = np.stack([start, place]), (outline, None)
            yield _unlike(mark, places, shown, label, common)
            continue
        near = around(registration, outline.mask, config=settings)
        match = look_for(scans[1], outline, place, near.quality, config=settings)
        places = np.stack([start, place if match.outline is None else match.outline.centre_mm])
        status, remark = _status(match, outline, "fixed", "new")
        common |= near._asdict() | {"apart_mm": match.apart_mm}
        pair = outline, match.outline
        common |= measures_of(pair, days, config=settings)
        yield Followed(mark.lesion.name, status, remark, places, pair, common, label)


def _unlike(mark: Marked, places, outlines, labels, measures) -> Followed:
    """A lesion of which nothing can be told, as what was delineated is not what was marked."""
    name, status = mark.lesion.name, "uncertain"
    return Followed(name, status, mark.doubt, places, outlines, measures, labels, unlike=True)


def _status(match: Match, outline: Outline, scan: str, absent: str) -> tuple[str, str]:
    """Status and remark of a lesion of a scan; `absent` is the status where the other lacks it."""
    if match.doubt:
        return "uncertain", match.doubt
    if not outline.compact:
        return "uncertain", (
            f"in the {scan} scan it cannot be told from vessels or the chest wall; its volume is "
            "doubtful"
        )
    return ("matched" if match.outline is not None else absent), ""


def _of_moving(
    registration: Registration,
    scans: tuple[Scan, Scan],
    marked: Sequence[Marked],
    days: float | None,
    settings: FollowConfig,
) -> Iterator[Followed]:
    """Yields the lesions that are marked in the moving image alone."""
    for mark in marked:
        start, outline, label = mark.place_mm, mark.outline, (None, mark.lesion.mask)
        inverse, error = invert_at_points(registration.displacement, start[None])
        place = inverse[0]
        common: dict[str, Any] = {"marked_in": "moving", "marked_ml": mark.lesion.ml}
        places = np.stack([place, start])
        if outline is None or mark.doubt:
            yield _unlike(mark, places, (None, outline), label, common)
            continue
        near = around(registration, outline.mask, shift_mm=place - start, config=settings)
        quality = near.quality if error[0] <= CONVERGED_MM else 0.0
        match = look_for(scans[0], outline, place, quality, config=settings)
        places = np.stack([place if match.outline is None else match.outline.centre_mm, start])
        status, remark = _status(match, outline, "moving", "vanished")
        common |= near._asdict() | {"apart_mm": match.apart_mm}
        pair = match.outline, outline
        common |= measures_of(pair, days, config=settings)
        yield Followed(mark.lesion.name, status, remark, places, pair, common, label)


def _swapped(lesion: Followed) -> Followed:
    """A lesion where the fixed image is the earlier one."""
    names = {"new": "vanished", "vanished": "new"}
    return dataclasses.replace(lesion, status=names.get(lesion.status, lesion.status))


def _summary(registration, settings, notes) -> dict[str, Any]:
    known = [note._asdict() for note in notes]
    warnings = [warning for warning in registration.warnings if warning not in known]
    return {
        "method": registration.summary["method"],
        "config": dataclasses.asdict(settings),
        "versions": versions(),
        "warnings": [*known, *warnings],
    }
