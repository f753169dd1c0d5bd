"""Published figures, to be printed beside ours.

Numbered tables are those of Hering et al. 2021, Medical Image Analysis 72, 102139. TRE is in mm,
un-snapped unless said otherwise; folds are in percent of the lung's voxels.
"""

from types import MappingProxyType
from typing import NamedTuple

from jaxreg.benchmark.table import Row
from jaxreg.datasets.dirlab_reference import DATASETS


class PublishedTre(NamedTuple):
    """A row of a table of landmark errors.

    Attributes:
        method: name and year.
        mean: mm, over all landmarks of all ten cases.
        sd: mm, over landmarks; None where not reported.
        folds: percent as printed, such as "< 0.1"; None where not reported.
        seconds: a pair; None where not reported.
        snapped: whether mapped points were rounded to voxels.
        learned: whether networks were trained.
    """

    method: str
    mean: float
    sd: float | None = None
    folds: str | None = None
    seconds: float | None = None
    snapped: bool = False
    learned: bool = False

    def row(self) -> Row:
        """The figures in the columns of our tables of methods."""
        kind = " snap" if self.snapped else ""
        return {
            "method": f"published: {self.method}",
            f"TRE{kind} mm": self.mean,
            f"sd{kind}": self.sd,
            "folds %": self.folds,
            "seconds": self.seconds,
        }


class PublishedOverlap(NamedTuple):
    """A row of Table 1: 200 test pairs of COPDGene, mean and standard deviation over pairs.

    Attributes:
        method: name.
        dice: of the lobes.
        asd_mm: average surface distance.
        hd_mm: Hausdorff distance.
        dice30: over the lowest 30 % of pairs.
        folds: percent.
        cpu_seconds: a pair.
        gpu_seconds: a pair; None where there is no such version.
        gpu_memory_gb: None where there is no such version.
    """

    method: str
    dice: tuple[float, float]
    asd_mm: tuple[float, float]
    hd_mm: tuple[float, float]
    dice30: tuple[float, float]
    folds: float
    cpu_seconds: float
    gpu_seconds: float | None
    gpu_memory_gb: float | None

    def row(self) -> Row:
        """The figures in the columns of our tables of methods; seconds are those of the CPU."""
        row: dict[str, float | str | None] = {"method": f"published: {self.method}"}
        for column, (mean, sd) in (
            ("Dice", self.dice),
            ("ASD mm", self.asd_mm),
            ("HD mm", self.hd_mm),
            ("Dice30", self.dice30),
        ):
            row |= {column: mean, f"sd {column.removesuffix(' mm')}": sd}
        row |= {"folds %": self.folds, "seconds": self.cpu_seconds}
        return row | {"GPU seconds": self.gpu_seconds, "device GB": self.gpu_memory_gb}


class PublishedEmpire(NamedTuple):
    """Means over the pairs of EMPIRE10, scored by its organisers.

    Attributes:
        method: name and year.
        boundary: lung boundary error, percent.
        fissures: fissure error, percent.
        landmarks_mm: mean TRE.
        singularities: fraction of the lung with determinant <= 0, percent.
    """

    method: str
    boundary: float | None
    fissures: float | None
    landmarks_mm: float
    singularities: float | None

    def row(self) -> Row:
        """The figures in the columns of our tables of methods."""
        return {
            "method": f"published: {self.method}",
            "TRE mm": self.landmarks_mm,
            "boundary %": self.boundary,
            "fissures %": self.fissures,
            "folds %": self.singularities,
        }


class PublishedAblation(NamedTuple):
    """A row of Table 2.

    Attributes:
        variant: what was left out.
        dice: COPDGene, mean over lobes.
        keypoint_tre: COPDGene, mm.
        folds: COPDGene, percent.
        dirlab_tre: DIR-Lab 4DCT, mm.
    """

    variant: str
    dice: float
    keypoint_tre: float
    folds: float
    dirlab_tre: float


# Table 4, and the two later methods that are measured snapped
DIRLAB = (
    PublishedTre("initial", 8.46, 6.58),
    PublishedTre("Schmidt-Richberg 2011", 1.38, 0.87, seconds=83 * 60),
    PublishedTre("Heinrich 2012", 1.6, 1.7, "0", 20 * 60),
    PublishedTre("Heinrich 2013", 1.43, 1.3, seconds=7.97 * 60),
    PublishedTre("Berendsen 2014", 1.36, 0.99, "0"),
    PublishedTre("Ruehaak 2017", 0.94, 1.06, "0", 5 * 60),
    PublishedTre("Sentker 2018", 2.5, 1.16, learned=True),
    PublishedTre("VoxelMorph, leave one out", 3.65, 2.47, learned=True),
    PublishedTre("VoxelMorph, on COPDGene", 1.71, 2.86, learned=True),
    PublishedTre("de Vos 2019 (DLIR)", 2.64, 4.32, seconds=0.63, learned=True),
    PublishedTre("Eppenhof 2019", 2.43, 1.81, "0.42", 0.56, learned=True),
    PublishedTre("Hering 2019 (mlVIRNet)", 2.19, 1.62, learned=True),
    PublishedTre("Hansen 2020", 1.97, 1.42, learned=True),
    PublishedTre("Jiang 2020", 1.66, 1.44, "< 0.1", 1.4, learned=True),
    PublishedTre("Fu 2020 (LungRegNet)", 1.59, 1.58, seconds=60, learned=True),
    PublishedTre("Hansen 2021 (GraphRegNet)", 1.39, 1.29, "0.02", 2, learned=True),
    PublishedTre("Hering 2021 (the paper)", 1.14, 0.76, "< 0.0005", 0.75, learned=True),
    PublishedTre("Vishnevskiy 2017 (pTVreg)", 0.92, snapped=True),
    PublishedTre("Wolterink 2022 (IDIR)", 1.07, snapped=True),
)

# Table 5, cases 1 to 10; observers are of the data set, pTVreg of its authors. Eppenhof's
# cases average 3.68, not the 2.43 of Table 4; both stand as printed.
DIRLAB_CASES = MappingProxyType(
    {
        "initial": tuple(case.initial_tre_mm for case in DATASETS["4dct"].cases.values()),
        "observers": tuple(case.observers_mm for case in DATASETS["4dct"].cases.values()),
        "Eppenhof": (2.18, 2.06, 2.11, 3.13, 2.92, 4.20, 4.12, 9.43, 3.82, 2.87),
        "DLIR": (1.27, 1.20, 1.48, 2.09, 1.95, 5.16, 3.05, 6.48, 2.10, 2.09),
        "mlVIRNet": (1.33, 1.33, 1.48, 1.85, 1.84, 3.57, 2.61, 2.62, 2.70, 2.63),
        "LungRegNet": (0.98, 0.98, 1.14, 1.39, 1.43, 2.26, 1.42, 3.13, 1.27, 1.93),
        "GraphRegNet": (0.86, 0.90, 1.06, 1.45, 1.60, 1.59, 1.74, 1.46, 1.58, 1.71),
        "VoxelMorph": (1.03, 1.09, 1.40, 1.69, 1.63, 1.60, 1.93, 3.16, 1.95, 1.66),
        "the paper": (0.99, 0.98, 1.11, 1.37, 1.32, 1.15, 1.05, 1.22, 1.11, 1.05),
        "pTVreg (snapped)": (0.77, 0.75, 0.93, 1.26, 1.07, 0.83, 0.80, 1.01, 0.91, 0.84),
    }
)

# DIR-Lab COPDgene, breath-hold inhale to exhale
DIRLAB_COPD = (
    PublishedTre("observers", 0.82),
    PublishedTre("RRN", 0.83, snapped=True),
    PublishedTre("pTVreg", 0.85, snapped=True),
    PublishedTre("Polzin 2016", 1.03),
    PublishedTre("GradICON + instance optimisation", 1.31, learned=True),
    PublishedTre("uniGradICON + instance optimisation", 1.40, learned=True),
    PublishedTre("corrField", 1.45),
    PublishedTre("deeds", 1.53),
    PublishedTre("SyN", 1.79),
    PublishedTre("uniGradICON", 2.26, learned=True),
)
DIRLAB_COPD_CASES = MappingProxyType(
    {
        "initial": tuple(case.initial_tre_mm for case in DATASETS["copd"].cases.values()),
        "observers": tuple(case.observers_mm for case in DATASETS["copd"].cases.values()),
    }
)

# Table 1
COPDGENE = (
    PublishedOverlap(
        "Ruehaak 2017",
        (0.92, 0.05),
        (1.97, 1.24),
        (27.24, 13.70),
        (0.86, 0.03),
        0.0,
        160,
        None,
        None,
    ),
    PublishedOverlap(
        "the paper", (0.95, 0.03), (1.72, 0.89), (26.84, 14.27), (0.93, 0.01), 0.06, 32, 0.75, 4
    ),
)

# Table 2, by the name of the variant's folder
ABLATION = MappingProxyType(
    {
        "beta0": PublishedAblation("beta = 0", 0.93, 2.23, 0.04, 1.26),
        "gamma0": PublishedAblation("gamma = 0", 0.95, 2.16, 0.30, 1.22),
        "delta0": PublishedAblation("delta = 0", 0.95, 4.59, 0.00, 1.72),
        "L1": PublishedAblation("L = 1", 0.93, 3.95, 0.10, 1.76),
        "L2": PublishedAblation("L = 2", 0.94, 2.22, 0.09, 1.26),
        "proposed": PublishedAblation("proposed", 0.95, 2.00, 0.06, 1.14),
    }
)

# EMPIRE10, 30 pairs, some of them of sheep
EMPIRE10 = (
    PublishedEmpire("Ruehaak 2017", 0.00, 0.09, 0.63, 0.00),
    PublishedEmpire("Hering 2021 (the paper)", 0.07, 0.09, 1.01, 0.02),
    PublishedEmpire("the paper, ovine pairs", None, None, 1.69, None),
    PublishedEmpire("the paper, without ovine pairs", None, None, 0.91, None),
)
