"""Lesions of the fixed image found in the moving one, and how they changed."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

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
_ABSENT = ("new", "vanished")  # status of a lesion that the other image lacks
_NONE = MarkedLesions(())
_Own = TypeVar("_Own")
_Other = TypeVar("_Other")


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
    lists = lesions or _NONE, moving_lesions or _NONE
    scans = _scan("fixed", fixed, lungs[0], lists[0]), _scan("moving", moving, lungs[1], lists[1])
    marked = [
        [delineated(scan, lesion, config=settings) for lesion in those.lesions]
        for scan, those in zip(scans, lists, strict=True)
    ]
    cut = [
        without_lesions(mask, [mark.outline for mark in those], found.labels, settings.margin_mm)
        for mask, those, found in zip(lungs, marked, lists, strict=True)
    ]
    masks = {"fixed_mask": cut[0], "moving_mask": cut[1], "config": config, "progress": progress}
    if field is None:
        registration = register_volumes(fixed, moving, notes=notes, **masks)
    else:
        registration = registration_of_field(field, fixed, moving, **masks)
    progress("comparing")
    comparison = _Comparison(registration, scans, days, settings)
    if lesions is None:
        found = told_apart(list(comparison.followed(1, marked[1])))
    else:
        found = told_apart(list(comparison.followed(0, marked[0])))
        found, alone = joined(found, marked[1], config=settings)
        found += [seen_already(lesion, found) for lesion in comparison.followed(1, alone)]
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Comparison:
    """What lesions of one image are looked for in the other one with; sides are 0 and 1."""

    registration: Registration
    scans: tuple[Scan, Scan]
    days: float | None
    settings: FollowConfig

    def followed(self, side: int, marked: Sequence[Marked]) -> Iterator[Followed]:
        """Yields the lesions that are marked in the fixed (0) or the moving (1) image."""
        for mark in marked:
            place, known = self._in_other(side, mark.place_mm)
            outline, label = mark.outline, _ordered(side, mark.lesion.mask, None)
            common = {"marked_in": _IMAGES[side], "marked_ml": mark.lesion.ml}
            if outline is None or mark.doubt:
                places = np.stack(_ordered(side, mark.place_mm, place))
                yield _unlike(mark, places, _ordered(side, outline, None), label, common)
                continue
            shift = (place - mark.place_mm) * side  # to the fixed image, where quality is known
            near = around(self.registration, outline.mask, shift_mm=shift, config=self.settings)
            quality = near.quality if known else 0.0
            match = look_for(self.scans[1 - side], outline, place, quality, config=self.settings)
            other = match.outline
            places = np.stack(
                _ordered(side, mark.place_mm, place if other is None else other.centre_mm)
            )
            status, remark = _status(match, outline, _IMAGES[side], _ABSENT[side])
            pair = _ordered(side, outline, other)
            common |= near._asdict() | {"apart_mm": match.apart_mm}
            common |= measures_of(pair, self.days, config=self.settings)
            yield Followed(mark.lesion.name, status, remark, places, pair, common, label)

    def _in_other(self, side: int, place_mm: np.ndarray) -> tuple[np.ndarray, bool]:
        """Where a point of one image is in the other, and whether that is known."""
        if side == 0:
            return self.registration.map_points(place_mm[None])[0], True
        found, error = invert_at_points(self.registration.displacement, place_mm[None])
        return found[0], bool(error[0] <= CONVERGED_MM)


def _ordered(side: int, own: _Own, other: _Other) -> tuple[_Own | _Other, _Own | _Other]:
    """What belongs to the image of a side and to the other one, that of the fixed image first."""
    return (own, other) if side == 0 else (other, own)


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
