"""What is published about the DIR-Lab cases, and how their files are called."""

import dataclasses

_SITE = (
    "https://med.emory.edu/departments/radiation-oncology/research-laboratories/"
    "deformable-image-registration/downloads-and-reference-data"
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """What is published about a case.

    Attributes:
        shape: voxels (X, Y, Z) of both images.
        spacing_mm: voxel size; z is 2.5 mm throughout.
        initial_tre_mm: mean distance of the 300 landmarks before registration.
        observers_mm: mean distance between repeated placements by the experts.
        observers_sd_mm: its standard deviation, where published.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    initial_tre_mm: float
    observers_mm: float
    observers_sd_mm: float | None = None


def _table(text: str) -> dict[int, Reference]:
    """Rows: case, x = y voxels, slices, in-plane spacing, initial TRE, observers, perhaps sd."""
    rows = {}
    for line in text.split("\n")[1:-1]:
        case, size, slices, spacing, initial, *observers = line.split()
        rows[int(case)] = Reference(
            (int(size), int(size), int(slices)),
            (float(spacing), float(spacing), 2.5),
            float(initial),
            *map(float, observers),
        )
    return rows


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One of the two collections: names of its files (regular expressions) and what is published.

    Attributes:
        title: name in messages.
        source: where to request it.
        cases: published figures by case number.
        phases: inhale and exhale as in file names.
        image: name of an image; {case} and {phase} are filled in.
        landmarks: name of a file with 300 landmarks.
        sampled: name of a file with 75 landmarks of one of the six phases; 4DCT only.
        examples: how each kind of file is called as distributed.
    """

    title: str
    source: str
    cases: dict[int, Reference]
    phases: tuple[str, str]
    image: str
    landmarks: str
    sampled: str
    examples: dict[str, str]


DATASETS = {
    "4dct": Dataset(
        title="DIR-Lab 4DCT",
        source=f"{_SITE}/4dct.html",
        cases=_table("""
            1 256  94 0.97  3.89 0.85 1.24
            2 256 112 1.16  4.34 0.70 0.99
            3 256 104 1.15  6.94 0.77 1.01
            4 256  99 1.13  9.83 1.13 1.27
            5 256 106 1.10  7.48 0.92 1.16
            6 512 128 0.97 10.89 0.97 1.38
            7 512 136 0.97 11.03 0.81 1.32
            8 512 128 0.97 14.99 1.03 2.19
            9 512 128 0.97  7.92 0.75 1.09
            10 512 120 0.97 7.30 0.86 1.45
        """),
        phases=("T00", "T50"),
        image=r"case{case}_{phase}(_s|-ssm)?\.img",
        landmarks=r"case{case}_(300|dirLab300)_{phase}_xyz\.txt",
        sampled=r"case{case}_4D-75_{phase}\.txt",
        examples={
            "image": "Case{case}Pack/Images/case{case}_{phase}_s.img (or -ssm.img, or .img)",
            "landmarks": "Case{case}Pack/ExtremePhases/Case{case}_300_{phase}_xyz.txt (or "
            "_dirLab300_)",
            "sampled": "Case{case}Pack/Sampled4D/case{case}_4D-75_{phase}.txt",
        },
    ),
    "copd": Dataset(
        title="DIR-Lab COPDgene",
        source=f"{_SITE}/copdgene.html",
        cases=_table("""
            1 512 121 0.625 26.33 0.65
            2 512 102 0.645 21.77 1.06
            3 512 126 0.652 12.64 0.58
            4 512 126 0.590 29.58 0.71
            5 512 131 0.647 30.07 0.65
            6 512 119 0.633 28.45 1.06
            7 512 112 0.625 21.60 0.65
            8 512 115 0.586 26.46 0.96
            9 512 116 0.664 14.86 1.01
            10 512 135 0.742 21.81 0.87
        """),
        phases=("iBH", "eBH"),
        image=r"copd{case}_{phase}CT\.img",
        landmarks=r"copd{case}_300_{phase}_xyz_r1\.txt",
        sampled="",
        examples={
            "image": "copd{case}/copd{case}_{phase}CT.img",
            "landmarks": "copd{case}/copd{case}_300_{phase}_xyz_r1.txt",
        },
    ),
}
