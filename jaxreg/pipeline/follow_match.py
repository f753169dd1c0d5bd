"""One lesion of an image looked for in the other one, at the place to which a field takes it."""

import dataclasses

import numpy as np

from jaxreg.config import FollowConfig
from jaxreg.geometry.volume import Volume, resample
from jaxreg.io.lesions import MarkedLesion
from jaxreg.metrics.lesions import Outline, distance_to, outlines, patch_around
from jaxreg.pipeline.follow_result import measures_of

_MARK_MM = 6.0  # by which a mark may lie beside its lesion
_FIELD_MM = 1.0  # error of a field where its quality is good
_BY_LABEL = 1.5  # reach around a label, by its radius, beyond which ...
_ROOM_MM = 15.0  # ... there is this much room
_NO_LESION = "nothing denser than lung was found at the mark"


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """An image in which lesions are delineated.

    Attributes:
        name: "fixed" or "moving".
        image: HU.
        lungs: with the lesions that were marked, nonzero inside, on its grid.
    """

    name: str
    image: Volume
    lungs: Volume


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """What was found at a place to which a field takes a lesion.

    Attributes:
        place_mm: (3,), RAS mm.
        outline: the lesion found; None where there is none.
        apart_mm: distance of its centre from the place.
        doubt: why it, or that there is none, is doubtful; "" where it is not.
    """

    place_mm: np.ndarray
    outline: Outline | None
    apart_mm: float | None
    doubt: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Marked:
    """What was delineated where a lesion was marked.

    Attributes:
        lesion: the mark.
        outline: nearest to the mark; None where nothing is denser than lung.
        doubt: why it is not what was marked; "" where it is.
    """

    lesion: MarkedLesion
    outline: Outline | None
    doubt: str = ""

    @property
    def place_mm(self) -> np.ndarray:
        """Where it is, (3,), RAS mm: of the outline, or of the mark if that is something else."""
        if self.outline is None or self.doubt:
            return self.lesion.place_mm
        return self.outline.centre_mm


def delineated(
    scan: Scan, lesion: MarkedLesion, *, config: FollowConfig = FollowConfig()
) -> Marked:
    """Delineates a lesion where it was marked.

    Args:
        scan: the image in which it was marked.
        lesion: the mark.
        config: settings.

    Returns:
        What was found.
    """
    outline = _outline_at(scan, lesion, config)
    if outline is None:
        return Marked(lesion, None, _NO_LESION)
    return Marked(lesion, outline, unlike_mark(outline, lesion, config=config))


def unlike_mark(
    outline: Outline, lesion: MarkedLesion, *, config: FollowConfig = FollowConfig()
) -> str:
    """Compares an outline with the label of its lesion.

    Args:
        outline: as it was delineated.
        lesion: as it was marked.
        config: settings.

    Returns:
        Why the outline is not what was marked; "" where it is, or where a point was marked.
    """
    if lesion.mask is None or lesion.ml is None:
        return ""
    least, most = sorted((outline.diameter_mm, float(np.cbrt(6e3 * lesion.ml / np.pi))))
    voxel_mm = float(np.cbrt(np.prod(lesion.mask.spacing_mm)))
    if most <= np.cbrt(config.most_unlike) * least + voxel_mm:
        if _inside(outline.mask, lesion.mask) >= config.least_inside:
            return ""
    return f"the outline ({outline.ml:.3g} ml) is not what was marked ({lesion.ml:.3g} ml)"


def _inside(outline: Volume, label: Volume) -> float:
    """The part of the smaller of two masks that lies in the other one."""
    inside = outline.data > 0
    marked = resample(label, outline.affine, outline.shape, order=0, fill=0.0).data > 0
    counts = [
        np.count_nonzero(mask.data) * abs(np.linalg.det(mask.affine[:3, :3]))
        for mask in (outline, label)
    ]
    common = np.count_nonzero(inside & marked) * abs(np.linalg.det(outline.affine[:3, :3]))
    return float(common / min(counts))


def _outline_at(scan: Scan, lesion: MarkedLesion, config: FollowConfig) -> Outline | None:
    """The lesion nearest to a mark; None where nothing is denser than lung."""
    radius_mm = 0.0 if lesion.ml is None else np.cbrt(lesion.ml * 1e3 * 3 / (4 * np.pi))
    reaches = sorted({*np.clip([_BY_LABEL * radius_mm + _ROOM_MM], *config.reach_mm)})
    for reach_mm in (*reaches, config.reach_mm[1]):
        patch = patch_around(scan.image, scan.lungs, lesion.place_mm, reach_mm, config=config)
        found = outlines(patch, lesion.place_mm, _MARK_MM + radius_mm / 2, config=config)
        near = [outline for outline in found if distance_to(outline, lesion.place_mm) < _MARK_MM]
        compact = [outline for outline in near if outline.compact]
        if compact:
            return compact[0]
        if not near or 2 * near[0].radius_mm < reach_mm / 4:  # no large lesion: a larger patch
            return near[0] if near else None  # shows no more
    return near[0]


def look_for(
    scan: Scan,
    lesion: Outline,
    place_mm: np.ndarray,
    quality: float,
    *,
    config: FollowConfig = FollowConfig(),
) -> Match:
    """Looks for a lesion of the other image.

    Args:
        scan: the image in which it is looked for.
        lesion: as it is in the other image.
        place_mm: to which the field takes it, (3,), RAS mm.
        quality: estimated probability that the field's error there is below 2 mm.
        config: settings.

    Returns:
        What was found.
    """
    voxel = scan.image.voxel_from_world(place_mm)
    if np.any((voxel < -0.5) | (voxel > np.array(scan.image.shape) - 0.5)):
        return Match(place_mm, None, None, f"the {scan.name} scan ends before this place")
    reach_mm = float(np.clip(2.5 * lesion.radius_mm + _ROOM_MM + config.search_mm, 0, 1e3))
    patch = patch_around(
        scan.image, scan.lungs, place_mm, max(reach_mm, config.reach_mm[0]), config=config
    )
    found = outlines(patch, place_mm, config.search_mm, config=config)
    best = _nearest(found, lesion, place_mm, config.tolerance_mm)
    trusted = quality >= config.least_quality
    if best is not None:
        doubt = "" if trusted else f"the registration is poor here (quality {quality:.2f})"
        ratio = measures_of((lesion, best), None, config=config)["volume_ratio"]
        ratio = max(ratio, 1 / ratio)
        if trusted and ratio > config.most_ratio:
            doubt = f"the volumes differ {ratio:.0f}-fold: what was found may be a vessel"
        apart_mm = float(np.linalg.norm(best.centre_mm - place_mm))
        return Match(place_mm, best, apart_mm, doubt)
    if not trusted:
        return Match(place_mm, None, None, f"the registration is poor here (quality {quality:.2f})")
    unclear = [o for o in found if not o.compact and distance_to(o, place_mm) <= _FIELD_MM]
    if any(o.radius_mm >= 0.5 * lesion.radius_mm for o in unclear):
        doubt = (
            f"what is there in the {scan.name} scan cannot be told from vessels or the chest wall"
        )
        return Match(place_mm, None, None, doubt)
    return Match(place_mm, None, None)


def _nearest(
    found: list[Outline], lesion: Outline, place_mm: np.ndarray, tolerance_mm: float
) -> Outline | None:
    """The compact outline nearest to a place, less the distance that uneven growth explains."""
    best, least = None, tolerance_mm
    for outline in found:
        growth_mm = abs(outline.diameter_mm - lesion.diameter_mm) / 4
        apart = float(np.linalg.norm(outline.centre_mm - place_mm)) - growth_mm
        if outline.compact and apart <= least:
            best, least = outline, apart
    return best
