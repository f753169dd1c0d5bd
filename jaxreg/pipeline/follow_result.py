"""What following lesions gives: a row a lesion, label maps, a picture, and their files."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.config import FollowConfig
from jaxreg.geometry.volume import Volume
from jaxreg.io.atomic import replacing_set
from jaxreg.io.documents import table_text
from jaxreg.io.nifti import write_volume
from jaxreg.metrics.lesions import Outline, on_grid

# Files that `FollowUp.save` writes; the last one says that the set is whole.
FOLLOW_SET = (
    "lesions_fixed.nii.gz",
    "lesions_moving.nii.gz",
    "follow.png",
    "follow.csv",
    "follow.json",
)
_MOST_LABELS = 255
_WIDTH = 38  # of a remark in the picture, characters


@dataclasses.dataclass(frozen=True, eq=False)
class Followed:
    """One lesion in both images.

    Attributes:
        name: of the mark.
        status: "matched", "new", "vanished" or "uncertain".
        remark: why it is uncertain, or what is doubtful; "" if nothing is.
        places_mm: where it is or should be in the fixed and in the moving image, (2, 3), RAS mm.
        outlines: in the fixed and in the moving image; None where it was not found.
        measures: other columns of its row.
        labels: as it was marked in both images; None where it was not, or by a point.
        unlike: whether what was delineated where it was marked is something else.
    """

    name: str
    status: str
    remark: str
    places_mm: np.ndarray
    outlines: tuple[Outline | None, Outline | None]
    measures: Mapping[str, Any]
    labels: tuple[Volume | None, Volume | None] = (None, None)
    unlike: bool = False

    @property
    def doubted(self) -> tuple[int, ...]:
        """The images, 0 and 1, in which what was found may be something else."""
        if self.unlike:
            return (0, 1)
        if self.status != "uncertain":
            return ()
        return (0,) if self.measures.get("marked_in") == "moving" else (1,)

    @property
    def trusted(self) -> tuple[Outline | None, Outline | None]:
        """Its outlines; None also where what was found may be something else."""
        fixed, moving = self.outlines
        return (None if 0 in self.doubted else fixed), (None if 1 in self.doubted else moving)

    def row(self) -> dict[str, Any]:
        """Its row of the table; None where there is nothing to tell, or it is too doubtful."""
        row: dict[str, Any] = {"lesion": self.name, "status": self.status}
        row["marked_in"] = self.measures.get("marked_in")
        row |= {n: None if self.doubted else self.measures.get(n) for n in _CHANGE}
        for image, outline in zip(("fixed", "moving"), self.trusted, strict=True):
            row |= {f"{image}_ml": None, f"{image}_diameter_mm": None, f"{image}_hu": None}
            if outline is not None:
                row[f"{image}_ml"] = self.measures.get(f"{image}_ml", outline.ml)
                diameter = np.cbrt(6e3 * row[f"{image}_ml"] / np.pi)
                row |= {f"{image}_diameter_mm": float(diameter), f"{image}_hu": outline.hu}
        row |= {name: self.measures.get(name) for name in _LAST}
        for image, place in zip(("fixed", "moving"), self.places_mm, strict=True):
            row |= {f"{image}_{axis}": float(x) for axis, x in zip("xyz", place, strict=True)}
        return row | {"remark": self.remark}


_CHANGE = ("change", "volume_ratio", "doubling_days")
_LAST = ("marked_ml", "jacobian", "quality", "apart_mm")


@dataclasses.dataclass(frozen=True, eq=False)
class FollowUp:
    """Lesions followed from the moving image, the earlier one, to the fixed one.

    Attributes:
        fixed: HU.
        moving: HU.
        warped: moving image on the fixed grid.
        lesions: those marked in the fixed image, then those marked in the moving one alone.
        summary: all else that follow.json has.
    """

    fixed: Volume
    moving: Volume
    warped: Volume
    lesions: Sequence[Followed]
    summary: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """The table."""
        return [lesion.row() for lesion in self.lesions]

    def document(self) -> dict[str, Any]:
        """What follow.json holds."""
        return {**self.summary, "lesions": self.rows()}

    def counts(self) -> dict[str, int]:
        """How many lesions have each status."""
        names = ("matched", "new", "vanished", "uncertain")
        return {n: sum(lesion.status == n for lesion in self.lesions) for n in names}

    def label_map(self, scan: int) -> Volume:
        """Lesions of the fixed (0) or the moving (1) image, numbered as the rows, from 1 on."""
        image = (self.fixed, self.moving)[scan]
        outlines = [lesion.trusted[scan] for lesion in self.lesions]
        kind = np.uint8 if len(outlines) <= _MOST_LABELS else np.int32
        data = np.zeros(image.shape, kind)
        for number, outline in enumerate(outlines, start=1):
            if outline is not None:
                box, inside = on_grid(outline.mask, image.grid)
                data[box][inside] = number
        return Volume(data, image.affine)

    def save(self, folder: str | Path) -> None:
        """Writes the files of FOLLOW_SET; the folder has all new ones or all old ones.

        Raises:
            OSError: the folder cannot be written, or the disk is full; an old set is as it was.
        """
        from jaxreg.figures.lesions import lesions_figure  # matplotlib: only where drawn

        with replacing_set(folder, FOLLOW_SET) as hidden:
            for scan, name in enumerate(("fixed", "moving")):
                write_volume(hidden / f"lesions_{name}.nii.gz", self.label_map(scan))
            lesions_figure(
                hidden / "follow.png",
                images=(self.fixed, self.moving, self.warped),
                places_mm=[(*lesion.places_mm, lesion.places_mm[0]) for lesion in self.lesions],
                masks=[
                    [None if outline is None else outline.mask for outline in lesion.outlines]
                    for lesion in self.lesions
                ],
                doubted=[lesion.doubted for lesion in self.lesions],
                labels=[lesion.labels for lesion in self.lesions],
                texts=[described(row) for row in self.rows()],
                title="jaxreg: lesions",
                lines=[self.line()],
                warnings=[str(warning["text"]) for warning in self.summary["warnings"]],
            )
            (hidden / "follow.csv").write_text(self.table(), encoding="utf-8")
            text = json.dumps(self.document(), indent=2) + "\n"
            (hidden / "follow.json").write_text(text, encoding="utf-8")

    def table(self) -> str:
        """The content of follow.csv."""
        return "# space: RAS\n" + table_text(self.rows())

    def line(self) -> str:
        """The counts in words."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        return f"{len(self.lesions)} lesions: {counts}; {self._interval()}"

    def _interval(self) -> str:
        """Which scan is the later one, and by how much."""
        days = self.summary["days"]
        dates = self.summary.get("dates") or {}
        fixed, moving = (" ".join((n, dates.get(n, ""))).strip() for n in ("fixed", "moving"))
        if days is None:
            return f"{fixed}, {moving}" if dates else "no interval given"
        return f"{fixed} is {abs(days):g} days {'after' if days > 0 else 'before'} {moving}"


def measures_of(
    outlines: tuple[Outline | None, Outline | None],
    days: float | None,
    *,
    config: FollowConfig = FollowConfig(),
) -> dict[str, Any]:
    """Volumes of a matched lesion and how they changed.

    What is smaller than the blur of the image seems less dense than it is, and too large. So the
    smaller state of a lesion takes the density of the larger one where it is so small: the same
    excess of density, in a denser lesion, fills a smaller volume.

    Args:
        outlines: in the fixed and in the moving image.
        days: from the moving to the fixed image.
        config: settings.

    Returns:
        fixed_ml, moving_ml, volume_ratio, change, doubling_days.
    """
    fixed, moving = outlines
    if fixed is None or moving is None:
        return {}
    ml = {"fixed_ml": fixed.ml, "moving_ml": moving.ml}
    larger, smaller = (fixed, moving) if fixed.radius_mm > moving.radius_mm else (moving, fixed)
    contrast, full = smaller.hu - smaller.lung_hu, larger.hu - smaller.lung_hu
    if smaller.radius_mm < smaller.blurred_mm and full > contrast:
        ml["fixed_ml" if smaller is fixed else "moving_ml"] *= contrast / full
    ratio = ml["fixed_ml"] / ml["moving_ml"]
    later = ratio if days is None or days >= 0 else 1 / ratio
    change = "stable"
    if later >= 1 + config.least_change:
        change = "grown"
    elif later <= 1 / (1 + config.least_change):
        change = "shrunk"
    doubling = None
    if days and change != "stable":
        doubling = float(days * np.log(2) / np.log(ratio))
    return {**ml, "volume_ratio": ratio, "change": change, "doubling_days": doubling}


def described(row: Mapping[str, Any]) -> list[str]:
    """A row in a few lines for the picture."""
    lines = [f"{row['lesion']}: {row['status']}" + (f", {row['change']}" if row["change"] else "")]
    for image in ("fixed", "moving"):
        if row[f"{image}_ml"] is not None:
            size = f"{row[f'{image}_ml']:.3g} ml, {row[f'{image}_diameter_mm']:.1f} mm"
            lines.append(f"{image}: {size}, {row[f'{image}_hu']:.0f} HU")
    if row["doubling_days"] is not None:
        days = row["doubling_days"]
        lines.append(f"volume {'doubles' if days > 0 else 'halves'} in {abs(days):.0f} days")
    if row["jacobian"] is not None:
        text = f"lung around it: {row['jacobian']:.2f} times as large in moving"
        lines += textwrap.wrap(text, _WIDTH)
    return lines + textwrap.wrap(row["remark"], _WIDTH)
