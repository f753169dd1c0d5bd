"""What the registration of a series gives: fields, trajectories, maps of the motion, and files."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from jaxreg.config import RegistrationConfig
from jaxreg.figures.series import SeriesView, write_series_page
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.reduction import expanded
from jaxreg.geometry.resampling import on_same_grid
from jaxreg.geometry.volume import DisplacementField, Volume, resample
from jaxreg.geometry.warping import warp_volume
from jaxreg.io.atomic import replacing_set
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import write_trajectories
from jaxreg.ops.precision import in_32_bits
from jaxreg.ops.temporal import delay, peak_to_peak
from jaxreg.pipeline.align import AlignedPair
from jaxreg.pipeline.certify import certified_on_grid
from jaxreg.pipeline.judge import judged
from jaxreg.pipeline.registration import versions
from jaxreg.pipeline.result import Registration
from jaxreg.trust.findings import Finding

# Files that `SeriesRegistration.save` can write beside the folders of the phases; the last one
# says that all is there.
SERIES_SET = (
    "mean.nii.gz",
    "amplitude.nii.gz",
    "delay.nii.gz",
    "trajectories.csv",
    "series.html",
    "summary.json",
)

# of a phase, from the summary of its registration
_MEASURES = ("correlation_before", "correlation_after", "folds_in_lungs", "lungs", "warnings")


@dataclasses.dataclass(frozen=True, eq=False)
class SeriesRegistration:
    """Where each point of a reference image lies in every phase.

    Attributes:
        phases: CT in HU, T of them, in the order of time.
        fixed: the reference image: one of the phases, or the mean-position image.
        reference: index of that phase; None for the mean position.
        names: of the phases.
        pairs: the reference with each phase, on one lung grid.
        displacements: (T, X, Y, Z, 3), from the reference to each phase, voxels of that grid.
        config: settings.
        notes: what is doubtful about the files.
    """

    phases: tuple[Volume, ...]
    fixed: Volume
    reference: int | None
    names: tuple[str, ...]
    pairs: tuple[AlignedPair, ...]
    displacements: np.ndarray
    config: RegistrationConfig
    notes: tuple[Finding, ...] = ()

    @property
    def moving(self) -> list[int]:
        """Indices of the phases that were registered: all but the reference."""
        return [index for index in range(len(self.phases)) if index != self.reference]

    @in_32_bits
    def field(self, index: int) -> tuple[DisplacementField, dict[str, Any]]:
        """From the reference to a phase: the field as it is written, free of folds.

        Returns:
            The field, and what was repaired and verified of it.
        """
        u = self.displacements[index]
        return certified_on_grid(u, self.pairs[index].grid, self.fixed.grid, self.config)

    @in_32_bits
    def registration(self, index: int) -> Registration:
        """The registration of one phase to the reference, with its quality and its warnings."""
        pair = self.pairs[index]
        field, certificate = self.field(index)
        summary = {
            "method": "series",
            "phase": self.names[index],
            "config": dataclasses.asdict(self.config),
            "prealignment_matrix": pair.matrix.tolist(),
            "fixed_grid": self.fixed.grid.document(),
            "moving_grid": self.phases[index].grid.document(),
            "certificate": certificate,
            "versions": versions(),
            "seconds": {},
        }
        unjudged = Registration(
            self.fixed, self.phases[index], field, pair.masks[0], pair.matrix, summary
        )
        return judged(unjudged, pair, self.displacements[index], config=self.config)

    def trajectories(self, points: np.ndarray) -> np.ndarray:
        """Positions of points of the reference in every phase.

        Args:
            points: (N, 3), RAS mm.

        Returns:
            (T, N, 3), RAS mm.
        """
        points = np.asarray(points, np.float64)
        ends = {index: self.field(index)[0].transform_points(points) for index in self.moving}
        return np.stack([ends.get(index, points) for index in range(len(self.phases))])

    def mean_image(self) -> Volume:
        """All phases, each brought to the reference, averaged: less noise, no motion."""
        total = np.zeros(self.fixed.shape, np.float32)
        for index, phase in enumerate(self.phases):
            if index != self.reference:
                field = on_same_grid(self.field(index)[0], self.fixed.grid)
                phase = warp_volume(phase, field, fill=AIR_HU)
            total += phase.data
        return Volume(total / len(self.phases), self.fixed.affine)

    def motion(self) -> tuple[Volume, Volume]:
        """How far and how late each point of the lungs moves, on the reference's grid.

        Returns:
            The peak-to-peak amplitude, mm: the largest distance between two of its positions. The
            delay behind the mean motion of the lungs as a fraction of the cycle, -0.5 to 0.5; 0
            where the amplitude is below `SeriesConfig.least_motion_mm`, and everywhere if the
            series is no cycle. Both are 0 outside the lungs.
        """
        pair = self.pairs[0]
        lungs = scipy.ndimage.binary_dilation(pair.fixed_lungs > 0, iterations=2)
        mm = np.array(pair.spacing_mm, np.float32)
        u = np.stack([phase[lungs] for phase in self.displacements]) * mm
        amplitude_mm = peak_to_peak(u)
        late = delay(u) if self.config.series.cyclic else np.zeros_like(amplitude_mm)
        late[amplitude_mm < self.config.series.least_motion_mm] = 0.0
        return self._on_fixed(amplitude_mm, lungs), self._on_fixed(late, lungs)

    def _on_fixed(self, values: np.ndarray, where: np.ndarray) -> Volume:
        """Values of voxels of the lung grid on the reference's grid, 0 outside its lungs."""
        image = np.zeros(where.shape, np.float32)
        image[where] = values
        grid = self.fixed.grid
        spread = resample(Volume(image, self.pairs[0].grid.affine), grid.affine, grid.shape)
        return Volume(spread.data * (self.lungs.data > 0), grid.affine)

    @property
    def lungs(self) -> Volume:
        """Lungs of the reference, on its grid."""
        return expanded(self.pairs[0].masks[0], self.fixed.grid)

    def save(
        self,
        folder: str | Path,
        *,
        points: np.ndarray | None = None,
        labels: Sequence[str] | None = None,
        progress: Callable[[str], None] = lambda stage: None,
    ) -> dict[str, Any]:
        """Writes a folder a phase, as `Registration.save` does, and the files of SERIES_SET.

        Args:
            folder: where; its summary.json is removed first and comes back last.
            points: (N, 3), RAS mm, whose trajectories are written; none if None.
            labels: of the points; their numbers if None.
            progress: called with the name of each stage when it begins.

        Returns:
            The summary that was written.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)
        view, rows, ends = SeriesView(self.fixed, self.lungs), [], []
        total = np.zeros(self.fixed.shape, np.float32)
        with ThreadPoolExecutor(1) as pool, replacing_set(folder, SERIES_SET) as hidden:
            saved = pool.submit(lambda: None)
            for index, phase in enumerate(self.phases):
                row: dict[str, Any] = {"name": self.names[index], **self._extent(index)}
                warped, moved = self.fixed, points
                if index != self.reference:
                    progress(f"measures of phase {index + 1} of {len(self.phases)}")
                    result = self.registration(index)
                    warped = result.warp()
                    moved = None if points is None else result.map_points(points)
                    row["folder"] = f"phase_{index:02d}"
                    row |= {name: result.summary[name] for name in _MEASURES}
                    saved.result()  # one is written at a time: each holds the memory of its fields
                    saved = pool.submit(result.save, folder / row["folder"])
                view.add(phase, warped, self._length_mm(index))
                total += warped.data
                rows.append(row)
                ends.append(moved)
            progress("writing")
            self._write_maps(hidden, Volume(total / len(rows), self.fixed.affine))
            if points is not None:
                write_trajectories(hidden / "trajectories.csv", self.names, ends, labels=labels)
            summary = self._summary(rows)
            write_series_page(hidden / "series.html", view, summary)
            saved.result()
            text = json.dumps(summary, indent=2) + "\n"
            (hidden / "summary.json").write_text(text, encoding="utf-8")
        return summary

    def _write_maps(self, folder: Path, mean: Volume) -> None:
        amplitude, late = self.motion()
        write_volume(folder / "mean.nii.gz", mean)
        write_volume(folder / "amplitude.nii.gz", amplitude)
        if self.config.series.cyclic:
            write_volume(folder / "delay.nii.gz", late)

    def _length_mm(self, index: int) -> Volume:
        """Length of the displacement to a phase, mm, on the lung grid."""
        pair = self.pairs[index]
        mm = np.array(pair.spacing_mm, np.float32)
        return Volume(np.linalg.norm(self.displacements[index] * mm, axis=-1), pair.grid.affine)

    def _extent(self, index: int) -> dict[str, float]:
        """Volume of the lungs in a phase, and how far the lungs moved on average."""
        pair = self.pairs[index]
        mask = pair.masks[1]
        voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1e3
        inside = pair.fixed_lungs > 0
        length = self.displacements[index][inside] * np.array(pair.spacing_mm, np.float32)
        return {
            "lungs_ml": float(voxel_ml * np.count_nonzero(mask.data)),
            "motion_mm": float(np.linalg.norm(length, axis=-1).mean()),
        }

    def _summary(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        warnings = [{"phase": None, **note._asdict()} for note in self.notes]
        warnings += [
            {"phase": row["name"], **warning} for row in rows for warning in row.get("warnings", ())
        ]
        return {
            "reference": "mean" if self.reference is None else self.names[self.reference],
            "phases": rows,
            "warnings": warnings,
            "config": dataclasses.asdict(self.config),
            "versions": versions(),
        }
