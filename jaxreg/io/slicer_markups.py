"""Slicer's markups, .mrk.json: points, lines, angles and curves, each in LPS or RAS.

By markups-schema-v1.0.3 (github.com/Slicer/Slicer, Modules/Loadable/Markups/Resources/Schema). A
control point whose positionStatus is not "defined" has no position and is left as it is. Measured
lengths and angles are left out of what is written: Slicer computes them again.
"""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxreg.io.documents import read_json
from jaxreg.io.labelled import SIGNS, PointList, written
from jaxreg.io.values import located

_FORMAT = "mrk.json"
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
_TYPES = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
_MM = {"mm": 1.0, "um": 1e-3}


def read(path: str | os.PathLike) -> PointList:
    """Returns the defined points of all markups in a file.

    Raises:
        ValueError: no markups, a plane or a box, or what is no position.
    """
    document = read_json(path)
    markups = document.get("markups") if isinstance(document, dict) else None
    if not isinstance(markups, list) or not all(isinstance(m, dict) for m in markups):
        raise ValueError(
            f"{path}: expected Slicer's markups, got JSON without a list 'markups'. Save the "
            "points with Slicer as .mrk.json."
        )
    points, ids, labels = [], [], []
    for markup in markups:
        _check(markup, path)
        for point in _defined(markup):
            position = point.get("position")
            if not _is_position(position):
                raise ValueError(
                    f"{path}: expected three numbers as position, got '{str(position)[:80]}'. "
                    "Correct the file."
                )
            points.append(np.array(position, np.float64) * _scale(markup) * SIGNS[_space(markup)])
            ids.append(str(point.get("id", "")))
            labels.append(str(point.get("label", "")))
    space = _space(markups[0]) if markups else "LPS"
    with located(path):
        values = np.array(points).reshape(-1, 3)
        return PointList(values, tuple(ids), tuple(labels), space, (_FORMAT, document))


def text(points: PointList, moved: np.ndarray) -> str:
    """The content of a .mrk.json file; a list that was read from one keeps all but positions.

    Args:
        points: the list, as it was read.
        moved: new positions, (N, 3), RAS mm.

    Returns:
        JSON, each markup in its own space.
    """
    if points.source[0] != _FORMAT:
        positions = written(moved, points.space)
        named = zip(points.ids, points.labels, positions, strict=True)
        controls = [
            {"id": name or str(n), "label": label, "position": position}
            for n, (name, label, position) in enumerate(named, 1)
        ]
        markup = {"type": "Fiducial", "coordinateSystem": points.space, "controlPoints": controls}
        return json.dumps({"@schema": _SCHEMA, "markups": [markup]}, indent=2) + "\n"
    document = copy.deepcopy(points.source[1])
    following = iter(moved)
    for markup in document["markups"]:
        for point in _defined(markup):
            position = next(following)[None] / _scale(markup)
            point["position"] = written(position, _space(markup))[0]
        for measurement in markup.get("measurements", ()):
            measurement.pop("value", None)
    return json.dumps(document, indent=2) + "\n"


def _check(markup: dict[str, Any], path: str | os.PathLike) -> None:
    """Raises ValueError for what consists of more than points, or lies in another space."""
    if markup.get("type") not in _TYPES:
        raise ValueError(
            f"{path}: expected markups of the types {', '.join(_TYPES)}, got "
            f"'{markup.get('type')}', which has a size and axes beside its points. Remove it."
        )
    if _space(markup) not in SIGNS:
        raise ValueError(
            f"{path}: expected LPS or RAS as coordinateSystem, got '{_space(markup)}'. Save it "
            "with Slicer."
        )
    if _units(markup) not in _MM:
        raise ValueError(
            f"{path}: expected mm or um as coordinateUnits, got '{_units(markup)}'. Save it with "
            "Slicer."
        )


def _space(markup: dict[str, Any]) -> str:
    return str(markup.get("coordinateSystem", "LPS")).upper()


def _units(markup: dict[str, Any]) -> str:
    units = markup.get("coordinateUnits", "mm")
    return str(units[0] if isinstance(units, list) and units else units)


def _scale(markup: dict[str, Any]) -> float:
    return _MM[_units(markup)]


def _defined(markup: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The control points that have a position."""
    for point in markup.get("controlPoints", ()):
        if point.get("positionStatus", "defined") == "defined":
            yield point


def _is_position(position: Any) -> bool:
    return (
        isinstance(position, list)
        and len(position) == 3
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in position)
    )
