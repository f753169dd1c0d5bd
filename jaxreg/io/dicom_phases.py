"""The phases of a 4DCT in a DICOM folder, sorted by what their headers say of time.

Scanners write a phase as a series of its own, or all phases into one series. Which phase it is
stands, by manufacturer, in NominalPercentageOfRespiratoryPhase, as a percentage in
SeriesDescription or ImageComments ("T=50%", "Gated 20%", "50% Ex"), or in TemporalPositionIndex or
TemporalPositionIdentifier; they are looked for in this order.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxreg.geometry.volume import Volume
from jaxreg.io import dicom
from jaxreg.io.dicom_slices import largest_stack
from jaxreg.io.notes import note
from jaxreg.io.values import as_image

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%\s*(in|ex)?", re.IGNORECASE)
_AVERAGES = re.compile(r"\b(mip|minip|ave?|avg|average|mean|untagged)\b", re.IGNORECASE)


class Label(NamedTuple):
    """What a header says of the phase, in an order that sorts.

    Attributes:
        turn: 0, or 1 for a phase after the end of inhalation where the header tells both.
        order: within the turn.
        name: as a person writes it.
    """

    turn: int
    order: float
    name: str


def read_phases(path: str | os.PathLike) -> tuple[list[Volume], list[str]]:
    """Returns the phases of a 4DCT in the order of time, and their names.

    Where the headers tell inhalation and exhalation apart ("50% In", "50% Ex"), the cycle begins
    with the end of exhalation; else with the least percentage or number. Averages and projections
    over the phases are left out, with a FileWarning.

    Args:
        path: a folder.

    Raises:
        ValueError: fewer than two phases, two of the same name, or slices that are missing.
    """
    headers = [(p, h) for p, h in dicom.read_headers(Path(path)) if dicom.may_be_image(h)]
    for told_by in (_by_nominal, _by_text, _by_position):
        groups = _grouped(headers, told_by)
        if len(groups) > 1:
            break
    else:
        raise ValueError(
            f"{path}: expected a 4DCT with phases told apart by NominalPercentageOfRespiratoryPhase"
            ", a percentage in SeriesDescription or ImageComments, or TemporalPositionIndex, got "
            f"{_described(headers)}. Give the folder of each phase instead, in the order of time."
        )
    left_out = len({_series(h) for _, h in headers} - {s for g in groups.values() for s in g[1]})
    if left_out:
        note(path, "series-left-out", f"{left_out} series of the folder are no phases; left out.")
    phases = []
    for label, (items, series) in groups.items():
        if len(series) > 1:
            raise ValueError(
                f"{path}: expected one series of each phase, got {len(series)} of phase "
                f"{label.name}. Two 4DCTs are in the folder: move one away."
            )
        stack = dicom.without_duplicates(largest_stack(dicom.slices_in(items)), Path(path))
        phases.append(as_image(path, *dicom.values_of(stack, path)))
    return phases, [label.name for label in groups]


def _grouped(
    headers: Sequence[tuple[Path, Any]], told_by: Callable[[Any], Label | None]
) -> dict[Label, tuple[list[tuple[Path, Any]], set[str]]]:
    """Files and series of each phase, in the order of time."""
    groups: dict[Label, tuple[list[tuple[Path, Any]], set[str]]] = {}
    for file, header in headers:
        label = told_by(header)
        if label is not None:
            items, series = groups.setdefault(label, ([], set()))
            items.append((file, header))
            series.add(_series(header))
    return dict(sorted(groups.items()))


def _by_nominal(header: Any) -> Label | None:
    sequence = header.get("RespiratorySynchronizationSequence")
    inner = sequence[0] if sequence else header
    value = _number(inner, "NominalPercentageOfRespiratoryPhase")
    return None if value is None else Label(0, value, f"{value:g}%")


def _by_text(header: Any) -> Label | None:
    """By a percentage in words; amplitudes grow with "In" and shrink with "Ex"."""
    for attribute in ("SeriesDescription", "ImageComments"):
        text = str(header.get(attribute, ""))
        found = _PERCENT.findall(text)
        if len(found) == 1 and not _AVERAGES.search(text):
            (number, side), value = found[0], float(found[0][0])
            name = f"{number}% {side}".strip()
            out = side.lower() == "ex"
            return Label(int(out), -value if out else value, name)
    return None


def _by_position(header: Any) -> Label | None:
    for attribute in ("TemporalPositionIndex", "TemporalPositionIdentifier"):
        value = _number(header, attribute)
        if value is not None:
            return Label(0, value, f"{value:g}")
    return None


def _number(header: Any, attribute: str) -> float | None:
    """The value of an attribute, None where it is absent, empty or damaged."""
    try:
        value = float(header.get(attribute))
    except Exception:  # pydicom converts values as they are asked for
        return None
    return value if math.isfinite(value) else None


def _series(header: Any) -> str:
    return str(header.get("SeriesInstanceUID", ""))


def _described(headers: Sequence[tuple[Path, Any]]) -> str:
    names = {_series(h): str(h.get("SeriesDescription", "")) for _, h in headers}
    listed = ", ".join(repr(name) for name in list(names.values())[:20])
    return f"{len(names)} series ({listed})" if names else "no DICOM images"
