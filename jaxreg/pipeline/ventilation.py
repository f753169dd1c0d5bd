"""Ventilation of a registered pair: maps, a table by regions, a figure, and what is doubtful."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.config import VentilationConfig
from jaxreg.geometry.labels import OTHER_GRID, labels_on_image
from jaxreg.geometry.volume import Volume
from jaxreg.io.atomic import replacing_set
from jaxreg.io.documents import table_text
from jaxreg.io.nifti import write_volume
from jaxreg.metrics.ventilation import (
    UNITS,
    Inhaled,
    Measures,
    inhaled_image,
    ventilation_measures,
)
from jaxreg.pipeline.assess import MEASURED
from jaxreg.pipeline.registered import RegisteredPair
from jaxreg.pipeline.registration import versions
from jaxreg.pipeline.ventilation_part import part_of, rows_of, thirds_of
from jaxreg.trust.findings import Finding

# Files that `Ventilation.save` writes; the last one says that the set is whole.
VENTILATION_SET = (
    *(f"ventilation_{name}.nii.gz" for name in UNITS),
    "ventilation_regions.nii.gz",
    "ventilation.png",
    "ventilation.csv",
    "ventilation.json",
)
_OTHER = {"fixed": "moving", "moving": "fixed"}
MEANINGS = {
    "volume_jacobian": "(V_in - V_ex) / V_ex by Jacobian",
    "volume_hu": "(V_in - V_ex) / V_ex by HU",
    "air_jacobian": "(A_in - A_ex) / A_ex by Jacobian and HU",
    "air_hu": "(A_in - A_ex) / A_ex by HU",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Ventilation:
    """Ventilation on the grid of the fixed image.

    Attributes:
        fixed: HU.
        maps: by the names of `jaxreg.metrics.ventilation.UNITS`; 0 where nothing was measured.
        regions: 1 lower, 2 middle and 3 upper third of the right lung, 4 to 6 of the left one,
            where both images were measured; 0 elsewhere.
        rows: of the table, by regions.
        summary: all else that ventilation.json has.
        warnings: what a person should look at.
    """

    fixed: Volume
    maps: dict[str, Volume]
    regions: Volume
    rows: Sequence[Mapping[str, Any]]
    summary: dict[str, Any]
    warnings: Sequence[Finding]

    def document(self) -> dict[str, Any]:
        """What ventilation.json holds."""
        warnings = [warning._asdict() for warning in self.warnings]
        return {**self.summary, "regions": list(self.rows), "warnings": warnings}

    def lines(self) -> tuple[str, ...]:
        """The main figures in a few lines of words."""
        whole, config = self.rows[0], self.summary["config"]
        inhale = self.summary["inhale"]
        smoothing = f"{config['kernel']}, {config['smoothing_mm']:g} mm"
        return (
            f"inhaled: the {inhale} image ({self.summary['inhale_by']}); lungs {_litres(whole)}, "
            f"{100 * whole['measured_fraction']:.1f} % of them measured",
            f"inhaled less exhaled ({inhale} less {_OTHER[inhale]}): volume "
            f"{whole['volume_change_ml']:+.0f} ml, air {whole['air_change_ml']:+.0f} ml; tissue "
            f"mass inhaled / exhaled {self.summary['mass_ratio']:.3f}"
            + ("" if config["mass_correction"] else " (not corrected)"),
            f"averaged over neighbourhoods: {'no' if not config['smoothing_mm'] else smoothing}",
        )

    def thirds(self) -> list[tuple[str, str]]:
        """The change of air of each third of the lungs, for the figure."""
        found = [("air change", "ml (of all)")]
        for row in self.rows:
            if row["group"] in ("lungs", "third"):
                fraction = row["air_change_fraction"]
                of_all = "" if fraction is None else f" ({100 * fraction:.0f} %)"
                found.append((row["region"], f"{row['air_change_ml']:+.0f}{of_all}"))
        return found

    def save(self, folder: str | Path) -> None:
        """Writes the files of VENTILATION_SET; the folder has all new ones or all old ones.

        Raises:
            OSError: the folder cannot be written, or the disk is full; an old set is as it was.
        """
        from jaxreg.figures.ventilation import ventilation_figure  # matplotlib: only where drawn

        with replacing_set(folder, VENTILATION_SET) as hidden:
            for name, volume in self.maps.items():
                text = f"{MEANINGS[name]}, {UNITS[name]}; 0: not measured"
                write_volume(hidden / f"ventilation_{name}.nii.gz", volume, description=text)
            text = "right lung 1 lower 2 middle 3 upper third, left 4 5 6; 0: not measured"
            write_volume(hidden / "ventilation_regions.nii.gz", self.regions, description=text)
            ventilation_figure(
                hidden / "ventilation.png",
                fixed=self.fixed,
                maps=self.maps,
                units=UNITS,
                regions=self.regions,
                title="jaxreg: ventilation",
                lines=self.lines(),
                table=self.thirds(),
                warnings=[warning.text for warning in self.warnings],
            )
            text = table_text(self.rows)
            (hidden / "ventilation.csv").write_text(text, encoding="utf-8", newline="")
            text = json.dumps(self.document(), indent=2) + "\n"
            (hidden / "ventilation.json").write_text(text, encoding="utf-8")


def ventilation(
    pair: RegisteredPair,
    *,
    labels: Volume | None = None,
    inhale: Inhaled | None = None,
    config: VentilationConfig = VentilationConfig(),
) -> Ventilation:
    """Ventilation maps and their table (`jaxreg.metrics.ventilation`).

    Args:
        pair: registered.
        labels: of the fixed image, such as lobes, for rows of their own; on any grid that overlaps.
        inhale: which image shows the lungs inhaled; the one in which they are larger if None.
        config: settings.

    Returns:
        The ventilation, on the grid of the fixed image.

    Raises:
        ValueError: no voxel was measured in both images, or labels do not overlap the image.
    """
    fixed = pair.fixed
    others = {} if pair.moving_grid is None else {"moving": pair.moving_grid}
    doubt = None
    if labels is not None:
        labels, doubt = labels_on_image(labels, fixed.grid, "labels", others=others)
    if not np.any(pair.valid.data == MEASURED):
        raise ValueError(
            "valid: expected voxels of the lungs that both images show, got none. Look at the "
            "registration's report.png and warnings."
        )
    part = part_of(pair, labels)
    larger = inhaled_image(part.determinant, part.measured)
    told = inhale or larger
    found = ventilation_measures(
        part.determinant,
        part.hu,
        part.warped,
        part.measured,
        lungs=part.lungs,
        inhale=told,
        spacing_mm=fixed.grid.spacing_mm,
        config=config,
    )
    thirds = thirds_of(pair, part)
    rows = rows_of(pair, part, thirds, found, told)
    regions = np.zeros(part.lungs.shape, np.uint8)
    regions[part.lungs] = np.where(part.measured[part.lungs], thirds, 0)
    summary = {
        "inhale": told,
        "inhale_by": "as told" if inhale else "where the lungs are larger",
        **_described(found),
        "fixed_grid": fixed.grid.document(),
        "config": dataclasses.asdict(config),
        "versions": versions(),
    }
    doubts = list(_doubts(pair, rows[0], told, larger, found.mass_ratio, config))
    if part.labels is not None and not part.labels[part.lungs].any():
        text = "no label lies in the lungs of the fixed image. Check that the file belongs to it."
        doubts.append(Finding("labels-outside", text))
    if doubt is not None:
        doubts.append(Finding(OTHER_GRID, f"labels: {doubt}"))
    return Ventilation(
        fixed=fixed,
        maps={name: _whole(values, part.box, fixed) for name, values in found.maps.items()},
        regions=_whole(regions, part.box, fixed),
        rows=rows,
        summary=summary,
        warnings=tuple(doubts),
    )


def _described(found: Measures) -> dict[str, Any]:
    """What the measures are, for the summary."""
    return {
        "mass_ratio": found.mass_ratio,
        "measures": {
            name: {"meaning": MEANINGS[name], "unit": unit, "limited_voxels": found.limited[name]}
            for name, unit in UNITS.items()
        },
        "outside": "0 where nothing was measured",
    }


def _whole(part: np.ndarray, box: tuple[slice, ...], image: Volume) -> Volume:
    """A part of an image's grid as a volume on the whole grid, 0 elsewhere."""
    data = np.zeros(image.shape, part.dtype)
    data[box] = part
    return Volume(data, image.affine)


def _litres(row: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{row[f'volume_{name}_ml'] / 1e3:.2f} l ({name})" for name in ("fixed", "moving")
    )


def _doubts(
    pair: RegisteredPair,
    whole: Mapping[str, Any],
    inhale: str,
    larger: str,
    mass_ratio: float,
    config: VentilationConfig,
) -> Iterator[Finding]:
    """Yields what is doubtful of a ventilation."""
    for warning in pair.warnings:
        yield Finding(warning["code"], warning["text"], warning.get("lung"))
    if pair.dates is not None and pair.dates[0] != pair.dates[1]:
        yield Finding(
            "two-visits",
            f"the scans are of two visits (fixed {pair.dates[0]}, moving {pair.dates[1]}), not of "
            "two respiratory states of one. The maps show what changed between them too: the depth "
            "of inspiration, the posture, disease and treatment. Do not take them for ventilation "
            "alone.",
        )
    if inhale != larger:
        yield Finding(
            "inhale-is-smaller",
            f"the {inhale} image was given as the inhaled one, but the lungs are larger in the "
            f"{larger} one: {_litres(whole)}. Ventilation is negative. Check --inhale.",
        )
    change = abs(whole["volume_change_ml"]) / whole["volume_fixed_ml"]
    if change < config.least_change:
        yield Finding(
            "same-state",
            f"the lungs' volume differs by {100 * change:.1f} % between the images. They may show "
            "one respiratory state, in which there is no ventilation to see.",
        )
    least = config.plausible_mass
    if not least <= mass_ratio <= 1 / least:
        yield Finding(
            "mass-differs",
            f"the lungs' tissue mass in the inhaled image is {mass_ratio:.2f} times that in the "
            "exhaled one. Contrast medium, other calibration or a disease may be the cause; the "
            "measures by HU assume one mass. Prefer those by the Jacobian.",
        )
    if whole["measured_fraction"] < config.least_measured:
        yield Finding(
            "partly-measured",
            f"{100 * whole['measured_fraction']:.0f} % of the lungs were measured; the other part "
            "is 0 in the maps and missing in the sums.",
        )
