"""DIR-Lab reference data: 4DCT (Castillo et al. 2009, 2010) and COPDgene (Castillo et al. 2013).

Ten pairs each with 300 expert landmarks. The data are given out on request only; this module
reads the folders as distributed, under all names in use, or all files in one folder.

Raw images are little-endian int16, x fastest, HU = value - 1024, with no header: x grows to the
patient's left, y to posterior, z to the feet. Landmark files hold 1-based voxel indices; one is
subtracted here and nowhere else.
"""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from jaxreg.datasets.dirlab_reference import DATASETS, Dataset, Reference
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume

PHASES = ("T00", "T10", "T20", "T30", "T40", "T50")  # inhale to exhale


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """Landmarks of one patient in voxels, and the images where they are at hand.

    Attributes:
        dataset: "4dct" or "copd".
        number: 1 to 10.
        fixed_phase, moving_phase: as in the file names, "T00" and "T50" or "iBH" and "eBH".
        fixed_landmarks, moving_landmarks: (300, 3), voxels, 0-based, float64.
        reference: published figures, with shape and spacing of both images.
        folder: where the files are.
    """

    dataset: str
    number: int
    fixed_phase: str
    moving_phase: str
    fixed_landmarks: np.ndarray
    moving_landmarks: np.ndarray
    reference: Reference
    folder: Path

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size of both images."""
        return self.reference.spacing_mm

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), voxel to world RAS mm; x to the left, y to posterior, z to the feet."""
        return image_grid(self.number, dataset=self.dataset).affine

    def read_fixed(self) -> Volume:
        """Returns the fixed image in HU.

        Raises:
            FileNotFoundError: the image is missing.
            ValueError: the file has another size, or is there twice.
        """
        return self._read(self.fixed_phase)

    def read_moving(self) -> Volume:
        """Returns the moving image in HU.

        Raises:
            FileNotFoundError: the image is missing.
            ValueError: the file has another size, or is there twice.
        """
        return self._read(self.moving_phase)

    def _read(self, phase: str) -> Volume:
        path = _find(self.folder, self.dataset, self.number, phase, "image")
        return Volume(_read_raw(path, self.dataset, self.number), self.affine)


def find_cases(
    folder: str | os.PathLike, *, dataset: str = "4dct", kind: str = "landmarks"
) -> tuple[int, ...]:
    """Returns the numbers of the cases of which any landmark file is in the folder or below.

    Args:
        folder: the collection, one case, or a folder with all files.
        dataset: "4dct" or "copd".
        kind: "landmarks", the 300 of two phases, or "sampled", the 75 of six phases (4DCT).

    Raises:
        FileNotFoundError: the folder has no such file of the collection.
        ValueError: there is no such collection.
    """
    data = _known(dataset)
    found = [
        case
        for case in data.cases
        if any(_matches(folder, dataset, case, phase, kind) for phase in data.phases)
    ]
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected landmark files of {data.title} such as "
            f"{data.examples[kind].format(case=1, phase=data.phases[0])}, there or at any "
            f"depth, got none. Request the data at {data.source} and unpack it there."
        )
    return tuple(found)


def read_case(
    folder: str | os.PathLike, case: int, *, dataset: str = "4dct", fixed_phase: str = "inhale"
) -> Case:
    """Returns a case with its landmarks; images are found and read only when asked for.

    Args:
        folder: the collection, one case, or a folder with all files.
        case: 1 to 10.
        dataset: "4dct" or "copd".
        fixed_phase: "inhale" as is conventional for these data, or "exhale" as in Learn2Reg.

    Raises:
        FileNotFoundError: a landmark file is missing.
        ValueError: no such collection, case or phase; a file is damaged or there twice.
    """
    data = _known(dataset, case)
    if fixed_phase not in ("inhale", "exhale"):
        raise ValueError(
            f"fixed_phase: expected inhale or exhale, got '{fixed_phase}'. Use one of the two."
        )
    fixed, moving = data.phases if fixed_phase == "inhale" else data.phases[::-1]
    reference = data.cases[case]
    points = {
        phase: _read_points(_find(folder, dataset, case, phase, "landmarks"), reference, count=300)
        for phase in data.phases
    }
    return Case(
        dataset, case, fixed, moving, points[fixed], points[moving], reference, Path(folder)
    )


def read_sampled_landmarks(folder: str | os.PathLike, case: int) -> np.ndarray:
    """Returns 75 landmarks of a 4DCT case in six phases, T00 to T50: (6, 75, 3), 0-based voxels.

    Args:
        folder: the collection, one case, or a folder with all files.
        case: 1 to 10.

    Raises:
        FileNotFoundError: a landmark file is missing.
        ValueError: there is no such case, or a file is damaged or there twice.
    """
    reference = _known("4dct", case).cases[case]
    paths = [_find(folder, "4dct", case, phase, "sampled") for phase in PHASES]
    return np.stack([_read_points(path, reference, count=75) for path in paths])


def read_phases(folder: str | os.PathLike, case: int) -> list[Volume]:
    """Returns the images of a 4DCT case in HU in the six phases that have landmarks, T00 to T50.

    Args:
        folder: the collection, one case, or a folder with all files.
        case: 1 to 10.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: there is no such case, or a file has another size or is there twice.
    """
    affine = image_grid(case).affine
    paths = [_find(folder, "4dct", case, phase, "image") for phase in PHASES]
    return [Volume(_read_raw(path, "4dct", case), affine) for path in paths]


def image_grid(case: int, *, dataset: str = "4dct") -> Grid:
    """Returns the grid of all images of a case: x to the left, y to posterior, z to the feet.

    Args:
        case: 1 to 10.
        dataset: "4dct" or "copd".

    Raises:
        ValueError: there is no such collection or case.
    """
    reference = _known(dataset, case).cases[case]
    x, y, z = reference.spacing_mm
    return Grid(reference.shape, np.diag([-x, -y, -z, 1.0]))


def _known(dataset: str, case: int = 1) -> Dataset:
    if dataset not in DATASETS:
        raise ValueError(
            f"dataset: expected {' or '.join(DATASETS)}, got '{dataset}'. Use one of these."
        )
    if case not in DATASETS[dataset].cases:
        raise ValueError(f"case: expected 1 to 10, got {case}. Choose one of these.")
    return DATASETS[dataset]


def _matches(
    folder: str | os.PathLike, dataset: str, case: int, phase: str, kind: str
) -> list[Path]:
    """All files in the folder and below with a name of that kind, upper or lower case."""
    pattern = getattr(DATASETS[dataset], kind).format(case=case, phase=phase)
    name = re.compile(pattern, re.IGNORECASE)
    return sorted(path for path in Path(folder).rglob("*") if name.fullmatch(path.name))


def _find(folder: str | os.PathLike, dataset: str, case: int, phase: str, kind: str) -> Path:
    """The one file of that kind."""
    data = DATASETS[dataset]
    paths = _matches(folder, dataset, case, phase, kind)
    if not paths:
        example = data.examples[kind].format(case=case, phase=phase)
        raise FileNotFoundError(
            f"{folder}: expected {example} of {data.title}, there or at any depth, upper or lower "
            f"case, got no such file. Request the data at {data.source} and unpack it there."
        )
    if len(paths) > 1:
        raise ValueError(
            f"{folder}: expected one {kind} file of {data.title} case {case} {phase}, got "
            f"{', '.join(str(path) for path in paths)}. Remove the copies."
        )
    return paths[0]


def _read_raw(path: Path, dataset: str, case: int) -> np.ndarray:
    """HU, float32, (X, Y, Z)."""
    data = DATASETS[dataset]
    shape = data.cases[case].shape
    expected, got = 2 * int(np.prod(shape)), path.stat().st_size
    if got != expected:
        slices = got / (2 * shape[0] * shape[1])
        twins = [str(k) for k, r in data.cases.items() if 2 * int(np.prod(r.shape)) == got]
        hint = f"; that is the size of case {' or '.join(twins)}" if twins else ""
        raise ValueError(
            f"{path}: expected {shape[0]} x {shape[1]} x {shape[2]} int16 = {expected} bytes for "
            f"{data.title} case {case}, got {got} bytes = {slices:g} slices{hint}. "
            "Unpack or download the file again."
        )
    raw = np.fromfile(path, "<i2").reshape(shape[::-1]).T  # (Z, Y, X) in the file
    # -2000 stands for outside of the field of view
    return np.maximum(np.ascontiguousarray(raw, np.float32) - 1024.0, AIR_HU)


def _read_points(path: Path, reference: Reference, *, count: int) -> np.ndarray:
    """(count, 3), voxels, 0-based."""
    points = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected lines x y z, got binary data. Download the file again."
        ) from error
    for number, line in enumerate(lines, 1):
        try:
            x, y, z = (float(text) for text in line.split())
        except ValueError as error:
            if not line.strip():
                continue
            raise ValueError(
                f"{path}: expected three numbers x y z, got '{line.strip()}' in line {number}. "
                "Download the file again."
            ) from error
        if not all(1 <= p <= n for p, n in zip((x, y, z), reference.shape, strict=True)):
            raise ValueError(
                f"{path}: expected 1-based voxels of an image {reference.shape}, got "
                f"{(x, y, z)} in line {number}. Check that the file belongs to this case."
            )
        points.append((x, y, z))
    if len(points) != count:
        raise ValueError(
            f"{path}: expected {count} landmarks, got {len(points)}. Download the file again."
        )
    return np.array(points) - 1.0
