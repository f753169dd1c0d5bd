"""What a registration gives: the field, what it maps, what it measures and what it writes."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import EVERYWHERE, Box, Grid
from jaxreg.geometry.lung_grid import AIR_HU, voxel_box
from jaxreg.geometry.resampling import field_determinant, invert_field, on_same_grid
from jaxreg.geometry.volume import DisplacementField, Volume, resample
from jaxreg.geometry.warping import at_voxels, warp_volume, warper
from jaxreg.io.atomic import replacing_set
from jaxreg.io.documents import read_json
from jaxreg.io.nifti import (
    read_displacement,
    read_volume,
    write_displacement,
    write_parts,
    write_volume,
)
from jaxreg.io.source import described
from jaxreg.pipeline.assess import MEASURED

# Files that `Registration.save` can write; the last one says that the set is whole.
RESULT_SET = (
    "displacement.nii.gz",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "quality.nii.gz",
    "valid.nii.gz",
    "inverse_consistency.nii.gz",
    "report.png",
    "summary.json",
)
OUTPUTS = tuple(name.split(".")[0] for name in RESULT_SET[:-1])  # that a caller may choose from

_PLANES = 32  # in which determinants are measured at a time
_SAMPLES = 1_000_000  # voxels of which correlations are taken, evenly, if there are more


@dataclasses.dataclass(frozen=True)
class Registration:
    """Where each point of the fixed image went in the moving one.

    Attributes:
        fixed: HU.
        moving: HU, on its own grid.
        displacement: d, world RAS mm, T(x) = x + d(x), trilinear; on the fixed grid, or a coarser
            one between the same corners (`RegistrationConfig.field_spacing_mm`).
        fixed_mask: lungs of the fixed image, nonzero inside.
        prealignment: (4, 4), the linear part found first, fixed world to moving world, RAS mm.
        summary: settings, versions, seconds by stage, folds, similarity before and after, measures
            of each lung; "warnings" lists what a person should look at, with code, text and lung;
            "images" says which scans were registered, where files were read by a command.
        quality: estimated probability that the error is below 2 mm, on the fixed grid, 0 outside
            the lungs; None for a field of another tool, as `valid`.
        valid: 1 where both images show lung, so that the field was measured; 2 where it was
            continued from there; 0 outside the lungs of the fixed image.
        inverse_consistency: inverse-consistency error |T_back(T(x)) - x| on the fixed grid, mm, if
            asked for; T_back is the registration of the same pair in the other direction.
    """

    fixed: Volume
    moving: Volume
    displacement: DisplacementField
    fixed_mask: Volume
    prealignment: np.ndarray
    summary: dict[str, Any]
    quality: Volume | None = None
    valid: Volume | None = None
    inverse_consistency: Volume | None = None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""
        return self.summary["seconds"]

    @property
    def warnings(self) -> Sequence[Mapping[str, str | None]]:
        """What a person should look at: code, text, and "right" or "left" where it is one lung."""
        return self.summary.get("warnings", ())

    def warp(self, *, image: Volume | None = None, fill: float | None = None) -> Volume:
        """The moving image, or another one in its world, on the fixed grid by linear interpolation.

        Args:
            image: such as a dose or a PET; the moving CT if None.
            fill: value outside of it; -1024 HU for the moving CT and 0 for others if None.

        Returns:
            The warped image.
        """
        if fill is None:
            fill = AIR_HU if image is None or image is self.moving else 0.0
        return warp_volume(image or self.moving, self._field, fill=fill)

    def warp_labels(self, labels: Volume) -> Volume:
        """Labels of the moving image on the fixed grid, nearest neighbour; 0 outside."""
        return warp_volume(labels, self._field, fill=0, sampling="nearest")

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Points of the moving image, RAS mm, that belong to fixed points (N, 3), RAS mm."""
        return self.displacement.transform_points(points)

    def jacobian_determinant(self) -> Volume:
        """Volume change on the fixed grid by central differences; <= 0 is a fold."""
        return self.determinant_in(EVERYWHERE)

    def determinant_in(self, box: Box) -> Volume:
        """The same in a box of the fixed grid."""
        return field_determinant(self._field, box=box)

    def warped_in(self, box: Box) -> Volume:
        """The moving image in a box of the fixed grid, as `warp` gives it."""
        return warp_volume(self.moving, self._field.part(box), fill=AIR_HU)

    def prealigned(self) -> Volume:
        """The moving image on the fixed grid after the linear prealignment alone."""
        grid = self.fixed.grid
        return resample(self.moving, grid.affine, grid.shape, matrix=self.prealignment, fill=AIR_HU)

    @functools.cached_property
    def _field(self) -> DisplacementField:
        return on_same_grid(self.displacement, self.fixed.grid)

    def inverse(self) -> tuple[DisplacementField, Volume]:
        """The map from the moving image to the fixed one, on the moving grid.

        Returns:
            Its field in world RAS mm, and the inverse-consistency error |T(T^-1(q)) - q| in mm.
        """
        return invert_field(self.displacement, self.moving.grid, matrix=self.prealignment)

    def measures(self) -> dict[str, Any]:
        """Folds and similarity for the summary, where the field was measured.

        That is in the lungs of the fixed image as far as the moving one shows them (`valid`), in
        all of them if it shows none.

        Returns:
            Pearson's coefficient "correlation_before" and "correlation_after"; "folds_in_lungs", a
            fraction of voxels; percentiles by rank, "jacobian_percentiles" of the determinant and
            "inverse_consistency_mm" of that error, empty where it was not asked for.
        """
        lungs = self._measured()
        box = voxel_box(lungs)
        lungs = lungs[box].copy()
        before, after = self._correlations(box, lungs)
        determinant = self._determinants(box, lungs)
        error = self.inverse_consistency
        percentiles = {} if error is None else _percentiles(error.data[box][lungs], (50, 95, 99))
        return {
            "correlation_before": before,
            "correlation_after": after,
            "folds_in_lungs": np.count_nonzero(~(determinant > 0)) / determinant.size,
            "jacobian_percentiles": _percentiles(determinant, (1, 5, 50, 95, 99)),
            "inverse_consistency_mm": percentiles,
        }

    def _measured(self) -> np.ndarray:
        """Where the field was measured; all of the lungs if nowhere."""
        if self.valid is not None:
            measured = self.valid.data == MEASURED
            if measured.any():
                return measured
        return self.fixed_mask.data > 0

    def _determinants(self, box: Box, lungs: np.ndarray) -> np.ndarray:
        """Jacobian determinants in the lungs, some planes at a time, (N,)."""
        found = np.empty(np.count_nonzero(lungs), np.float32)
        first, filled = box[0].start, 0
        for start in range(0, len(lungs), _PLANES):
            inside = lungs[start : start + _PLANES]
            part = slice(first + start, first + start + len(inside))
            values = self.determinant_in((part, *box[1:])).data[inside]
            found[filled : filled + len(values)] = values
            filled += len(values)
        return found

    def _correlations(self, box: Box, lungs: np.ndarray) -> tuple[float, float]:
        """Pearson's coefficient of both images before and after, over about `_SAMPLES` voxels."""
        chosen = _some(lungs, -(-int(np.count_nonzero(lungs)) // _SAMPLES))
        places = self.fixed.grid.part(box).world_from_voxel(chosen)
        index = tuple(chosen.T)
        values, shifts = (volume.data[box][index] for volume in (self.fixed, self._field))
        before, after = (values_at(self.moving, points) for points in (places, places + shifts))
        return correlation(values, before), correlation(values, after)

    def save(self, folder: str | Path, *, outputs: Collection[str] = OUTPUTS) -> None:
        """Writes the files of RESULT_SET.

        inverse_consistency.nii.gz only where it was asked for. The files are a set: whatever
        happens, the folder has the new ones, the old ones or none of them, never a mixture.

        Args:
            folder: where.
            outputs: which of OUTPUTS are written beside summary.json.

        Raises:
            OSError: the folder cannot be written, or the disk is full; an old set is as it was.
            ValueError: no such output.
        """
        check_outputs(outputs)
        with replacing_set(folder, RESULT_SET) as hidden:
            self._write(hidden, outputs)
            text = json.dumps(self.summary, indent=2) + "\n"
            (hidden / "summary.json").write_text(text, encoding="utf-8")

    def _write(self, folder: Path, outputs: Collection[str]) -> None:
        """Writes the images and the picture, all at the same time."""
        grid, warp = self.fixed.grid, warper(self.moving, fill=AIR_HU)

        def warped_in(box: Box) -> Volume:
            return warp(self._field.part(box))

        tasks: dict[str, tuple[Callable[..., None], *tuple[Any, ...]]] = {
            "displacement": (write_displacement, self.displacement),
            "warped": (write_parts, warped_in, grid),
            "jacobian": (write_parts, self.determinant_in, grid),
        }
        maps = ("quality", "valid", "inverse_consistency")
        tasks |= {name: (write_volume, getattr(self, name)) for name in maps if getattr(self, name)}
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # compression takes no lock
            files = [
                pool.submit(task, folder / f"{name}.nii.gz", *of)
                for name, (task, *of) in tasks.items()
                if name in outputs
            ]
            if "report" in outputs:
                self._draw(folder / "report.png", warped_in)
            for file in files:
                file.result()

    def _draw(self, path: Path, warped_in: Callable[[Box], Volume]) -> None:
        from jaxreg.figures.pair import pair_figure  # matplotlib: only where drawn

        pair_figure(
            path,
            fixed=self.fixed,
            moving=self.moving,
            matrix=self.prealignment,
            warped=warped_in,
            determinant=self.determinant_in,
            quality=None if self.quality is None else self.quality.part,
            mask=self.fixed_mask,
            title=f"jaxreg: {self.summary['method']}",
            lines=self.lines(),
            warnings=[str(warning["text"]) for warning in self.warnings],
        )

    @classmethod
    def load(cls, folder: str | Path, fixed: Volume, moving: Volume) -> "Registration":
        """A registration that `save` wrote, with the images that were registered.

        Args:
            folder: with the files of RESULT_SET.
            fixed: HU, as it was registered; the folder does not hold it.
            moving: the same.

        Returns:
            The registration. The lungs are those of valid.nii.gz, right and left not distinguished.

        Raises:
            OSError: a file is not there.
            ValueError: an image is on another grid than the one that was registered.
        """
        folder = Path(folder)
        summary = read_json(folder / "summary.json")
        require_registered_grid(fixed, "fixed", summary)
        require_registered_grid(moving, "moving", summary)
        field = read_displacement(folder / "displacement.nii.gz")
        grid = fixed.grid.coarsened(summary.get("config", {}).get("field_spacing_mm", 0.0))
        if field.grid.matches(grid):
            field = DisplacementField(field.data, grid.affine)  # not rounded as in the header
        else:  # written for a sheared grid
            field = field.on_grid(grid)
        maps = {
            name: Volume(read_volume(folder / f"{name}.nii.gz").data, fixed.affine)
            for name in ("quality", "valid", "inverse_consistency")
            if (folder / f"{name}.nii.gz").is_file()
        }
        valid = Volume(maps.pop("valid").data.astype(np.uint8), fixed.affine)
        lungs = Volume((valid.data > 0).astype(np.uint8), fixed.affine)
        matrix = np.array(summary["prealignment_matrix"])
        return cls(fixed, moving, field, lungs, matrix, summary, valid=valid, **maps)

    def lines(self) -> tuple[str, ...]:
        """The summary in a few lines of words."""
        before, after = self.summary["correlation_before"], self.summary["correlation_after"]
        words = [
            *self._images(),
            f"correlation in the lungs {before:.3f} before, {after:.3f} after",
            _folds(self.summary),
        ]
        if self.inverse_consistency is not None:
            error = self.summary["inverse_consistency_mm"]
            words.append(
                f"inverse-consistency error in the lungs: {error['50']:.2f} mm (median), "
                f"{error['95']:.2f} mm (95th percentile)"
            )
        if self.seconds:
            words.append(f"computed in {sum(self.seconds.values()):.1f} s")
        return tuple(words)

    def _images(self) -> list[str]:
        """Which scan each image is, where that is known, and its voxels."""
        names = described(self.summary.get("images", {}))
        lines = []
        for side, image in (("fixed", self.fixed), ("moving", self.moving)):
            voxels = " x ".join(f"{size:.3g}" for size in image.spacing_mm)
            name = f"{names[side]}, " if side in names else ""
            lines.append(f"{side}: {name}voxels of {voxels} mm")
        return lines


def _folds(summary: Mapping[str, Any]) -> str:
    """How many voxels are folded, and what the certificate says of the space between them."""
    folded, open_cells = summary["folds_in_lungs"], summary["certificate"]["uncertified"]
    if not folded and not open_cells:
        return "no folds in the field, proved between the voxels too"
    proof = "all cells between voxels are proved free of folds"
    if open_cells:
        proof = f"{open_cells:,} cells between voxels are not proved free of folds"
    return f"folded lung voxels: {100 * folded:.4f} %; {proof}"


def _some(mask: np.ndarray, step: int) -> np.ndarray:
    """Every step-th voxel of a mask in the order of memory, (N, 3).

    Not those of a coarser lattice: every second slice may be smoother, where slices were
    interpolated.
    """
    found, passed = [], 0
    for x, plane in enumerate(mask):
        voxels = np.argwhere(plane)
        some = voxels[-passed % step :: step]
        found.append(np.insert(some, 0, x, axis=1))
        passed += len(voxels)
    return np.concatenate(found)


def check_outputs(names: Collection[str]) -> None:
    """Raises ValueError unless all names are among OUTPUTS."""
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise ValueError(
            f"outputs: expected some of {', '.join(OUTPUTS)}, got {', '.join(unknown)}. Correct "
            "the name."
        )


def require_registered_grid(image: Volume, name: str, summary: Mapping[str, Any]) -> None:
    """Checks that an image is on the grid of the one that was registered.

    Args:
        image: the image given.
        name: "fixed" or "moving".
        summary: of the registration, as in summary.json; one of an earlier version, which has the
            grids in words, says too little.

    Raises:
        ValueError: it is on another grid.
    """
    told = Grid.from_document(summary[f"{name}_grid"])
    if told is not None and not told.matches(image.grid):
        other = "moving" if name == "fixed" else "fixed"
        exchanged = Grid.from_document(summary.get(f"{other}_grid"))
        advice = "Give that image"
        if exchanged is not None and exchanged.matches(image.grid):
            advice = f"It is on the grid of the {other} one: exchange them"
        raise ValueError(
            f"{name}: expected the image that was registered, on the grid {told}, got "
            f"{image.grid}. {advice}."
        )


def _percentiles(values: np.ndarray, ranks: tuple[int, ...]) -> dict[str, float]:
    found = np.percentile(values, ranks, overwrite_input=True)
    return {str(rank): float(value) for rank, value in zip(ranks, found, strict=True)}


def values_at(image: Volume, points: np.ndarray) -> np.ndarray:
    """Values of an image at points, by linear interpolation; air outside of it.

    Args:
        image: HU.
        points: (N, 3), RAS mm.

    Returns:
        HU, (N,), float32.
    """
    return at_voxels(image.data, image.voxel_from_world(points).T, fill=AIR_HU)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's coefficient; 0 where one of both is constant.

    Args:
        a: values.
        b: as many values.

    Returns:
        The coefficient.
    """
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
