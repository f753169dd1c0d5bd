"""The report of a run: one HTML file that opens from a disk, without a network.

An overview (tables, figures, settings) and a page a case, where one scrolls through slices of the
images before and after. It is made from records and snapshots alone, so a run that was stopped and
went on has the same report. The page's state is in its address: `#case=1&method=full&view=warped&
plane=coronal&slice=40`.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import matplotlib
import matplotlib.image
import numpy as np

from jaxreg.benchmark.charts import Records, method_colours, overlap_chart, tre_chart
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import case_rows
from jaxreg.benchmark.table import Row, columns, shown
from jaxreg.figures.panels import image_panel, jacobian_panel
from jaxreg.figures.planes import DIFFERENCE_COLOURS, VOLUME_COLOURS
from jaxreg.figures.thumbnails import Snapshot, read_snapshot
from jaxreg.io.atomic import replacing

_SLICES_BYTES = 22_000_000  # of all slices in a report
_STEP_MM = 0.5
_COARSEST_MM = 10.0
_CAPTIONS = {
    "tre": "Share of all landmarks within an error; dots mark the 75th percentiles.",
    "overlap": "Overlap of labels: Dice, average surface distance, Hausdorff distance. Boxes span "
    "the quartiles over cases, each case is a dot.",
    "jacobian": "Case {case}: volume change in the lungs over coronal slices, red where folded.",
    "images": "Case {case}: middle coronal slice before and after.",
}


def snapshot_path(folder: Path, case: str, method: str) -> Path:
    """Returns where the snapshot of a case and method is kept in the folder of a run."""
    return folder / "cases" / f"{quote(case, safe='')}-{method}.npz"


def write_report(
    folder: Path,
    by_method: Records,
    *,
    title: str,
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    more: Mapping[str, Sequence[Row]] | None = None,
    legend: Mapping[str, str] | None = None,
    label_names: Mapping[str, str] | None = None,
) -> Path:
    """Writes report.html and its figures (.png) into the folder of a run.

    Args:
        folder: of the run; `snapshot_path` says where the snapshots are.
        by_method: records of each method. Those without a snapshot have no slices.
        title: of the report.
        rows: of the table of methods, with a column "method".
        settings: what made the records, versions included.
        more: other tables, by title.
        legend: what columns mean; shown for those that a table has.
        label_names: of the labels, such as {"1": "right upper"}.

    Returns:
        The path of report.html.
    """
    paths = _snapshot_paths(folder, by_method)
    slices, spacing_mm = _slices(paths)
    names, others = list(paths), more or {}
    colours = method_colours(by_method)
    swatch = {"method": lambda name: _swatch(name, colours)}
    used = {name for table in (rows, *others.values()) for name in columns(table)}
    meaning = {name: text for name, text in (legend or {}).items() if name in used}
    parts = {
        "title": escape(title),
        "links": "".join(f"<li>{_case_link(name, f'Case {name}')}</li>" for name in names),
        "methods": _table(rows, swatch)
        + "".join(_folded(name, _table(table, swatch)) for name, table in others.items()),
        "figures": "".join(_figures(folder, by_method, paths, label_names)),
        "cases": _table(_overview(by_method, names), {"case": lambda name: _case_link(name, name)}),
        "settings": _folded("settings and versions", _list(settings)),
        "legend": _folded("what the columns mean", _list(meaning)),
        "articles": "".join(_article(name, by_method, swatch) for name in names),
        "note": f"Images are shown in voxels of {spacing_mm:g} mm, from −1000 to 200 HU; a voxel "
        "is red where the field folds anywhere in it.",
        "data": _data(names, slices),
    }
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(_filled(parts), encoding="utf-8")
    return folder / "report.html"


def _filled(parts: Mapping[str, str]) -> str:
    """The page with each {{name}} replaced by the part of this name."""
    page = files("jaxreg.evaluation").joinpath("run_report.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")
    return head + "".join(parts[name] + text for name, text in (r.split("}}", 1) for r in rest))


def _data(names, slices) -> str:
    """What the program of the page reads, as JSON that cannot end its element."""
    data = {
        "names": names,
        "cases": [slices["cases"][name] for name in names],
        "images": slices["images"],
        "difference_colours": _colours(DIFFERENCE_COLOURS),
        "volume_colours": _colours(VOLUME_COLOURS),
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _snapshot_paths(folder, by_method) -> dict[str, dict[str, Path]]:
    """Snapshots by case and method; every case is named, whether it has any or not."""
    paths: dict[str, dict[str, Path]] = {}
    for method, records in by_method.items():
        for record in records:
            found = paths.setdefault(record.case, {})
            path = snapshot_path(folder, record.case, method)
            if not record.error and path.is_file():
                found[method] = path
    return paths


def _slices(paths):
    """All snapshots in as small voxels as the size of a report allows, and these voxels' size."""
    spacing_mm = 0.0  # as they are
    while True:
        images: dict[str, int] = {}  # what several methods share is kept once
        cases: dict[str, dict[str, Any]] = {name: {} for name in paths}
        for name, by_method in paths.items():
            for method, path in by_method.items():
                snapshot = read_snapshot(path)
                if snapshot is None:
                    continue
                if snapshot.spacing_mm < spacing_mm:
                    snapshot = snapshot.resized(spacing_mm)
                spacing_mm = max(spacing_mm, snapshot.spacing_mm)
                cases[name][method] = _embedded(snapshot, images)
        size = sum(map(len, images))
        if size <= _SLICES_BYTES or spacing_mm >= _COARSEST_MM:
            return {"cases": cases, "images": list(images)}, spacing_mm
        wanted = spacing_mm * (size / _SLICES_BYTES) ** (1 / 3)
        steps = max(math.floor(spacing_mm / _STEP_MM) + 1, math.ceil(wanted / _STEP_MM))
        spacing_mm = min(steps * _STEP_MM, _COARSEST_MM)


def _embedded(snapshot: Snapshot, images: dict[str, int]) -> dict[str, Any]:
    """What the page needs to know of a snapshot; its pictures are added to `images`."""
    coarse = snapshot.determinant // 4 * 4 + 2  # 64 steps, which compress better
    uris = {
        "fixed": _uri(snapshot.fixed, "jpeg"),
        "moving": _uri(snapshot.moving, "jpeg"),
        "warped": _uri(snapshot.warped, "jpeg"),
        "determinant": _uri(np.where(snapshot.determinant > 0, coarse, 0), "png"),
        "lungs": _uri(255 * snapshot.lungs, "png"),
    }
    index = {name: images.setdefault(uri, len(images)) for name, uri in uris.items()}
    return {
        "shape": snapshot.lungs.shape,
        "spacing_mm": round(snapshot.spacing_mm, 3),
        "images": index,
    }


def _uri(volume, kind) -> str:
    """All coronal slices side by side in one image, as a data URI."""
    x, y, z = volume.shape
    across = math.ceil(math.sqrt(y * z / x))
    down = -(-y // across)
    tiles = np.zeros((across * down, z, x), np.uint8)
    tiles[:y] = volume.transpose(1, 2, 0)
    mosaic = tiles.reshape(down, across, z, x).swapaxes(1, 2).reshape(down * z, across * x)
    buffer = io.BytesIO()
    options = {"quality": 80} if kind == "jpeg" else {"compress_level": 6}
    colours = np.repeat(mosaic[..., None], 3, axis=-1)
    matplotlib.image.imsave(buffer, colours, format=kind, pil_kwargs=options)
    return _data_uri(buffer.getvalue(), kind)


def _data_uri(content: bytes, kind) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _colours(name):
    """256 colours of a map, [[red, green, blue], ...] in bytes."""
    return matplotlib.colormaps.get_cmap(name)(np.arange(256), bytes=True)[:, :3].tolist()


def _figures(folder, by_method, paths, label_names):
    """Draws the figures of the run and yields them embedded."""
    drawn = {"tre": tre_chart(folder / "tre.png", by_method)}
    drawn["overlap"] = overlap_chart(folder / "overlap.png", by_method, label_names=label_names)
    case = max(paths, key=lambda name: len(paths[name]), default="")  # the first with most methods
    found = {method: read_snapshot(path) for method, path in paths.get(case, {}).items()}
    snapshots = {method: snapshot for method, snapshot in found.items() if snapshot is not None}
    if snapshots:
        image_panel(folder / "images.png", snapshots)
        jacobian_panel(folder / "jacobian.png", snapshots)
    drawn |= {"images": bool(snapshots), "jacobian": bool(snapshots)}
    for name in (name for name, done in drawn.items() if done):
        caption = escape(_CAPTIONS[name].format(case=case))
        uri = _data_uri((folder / f"{name}.png").read_bytes(), "png")
        image = f'<img src="{uri}" alt="{caption}">'
        wide = ' class="wide"' if name in ("images", "jacobian") else ""
        yield f"<figure{wide}>{image}<figcaption>{caption}</figcaption></figure>"


def _overview(by_method, names) -> list[dict[str, Any]]:
    """A row a case: its mean TRE, or Dice where there are no landmarks, by method."""
    rows = {name: {"case": name} for name in names}
    for method, records in by_method.items():
        for record in records:
            cells = _cells(record)
            score = next((key for key in ("TRE mm", "Dice") if cells.get(key) is not None), None)
            text = "failed" if record.error else None
            rows[record.case][f"{method}: {score}" if score else method] = (
                cells[score] if score else text
            )
    return list(rows.values())


def _cells(record: Record) -> dict[str, Any]:
    (row,) = case_rows([record])
    return {name: value for name, value in row.items() if name != "case"}


def _article(name, by_method, markup) -> str:
    rows = [
        {"method": method, **_cells(record)}
        for method, records in by_method.items()
        for record in records
        if record.case == name
    ]
    return f"<article><h2>Case {escape(name)}</h2>{_table(rows, markup)}</article>"


def _folded(title, content) -> str:
    """Content that a click on its title opens; nothing without content."""
    summary = f"<summary>{escape(title)}</summary>"
    return f"<details>{summary}{content}</details>" if content else ""


def _list(entries: Mapping[str, Any]) -> str:
    terms = (f"<dt>{escape(k)}</dt><dd>{escape(shown(v))}</dd>" for k, v in entries.items())
    return f"<dl>{''.join(terms)}</dl>" if entries else ""


def _table(rows: Sequence[Row], markup) -> str:
    """An HTML table; `markup` makes the cells of some columns, others hold text."""
    names = columns(rows)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(name), markup.get(name)) for name in names) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cell(value, markup) -> str:
    if markup:
        return f"<td>{markup(str(value))}</td>"
    words = ' class="words"' if isinstance(value, str) and len(value) > 30 else ""
    return f"<td{words}>{escape(shown(value))}</td>"


def _swatch(method, colours) -> str:
    colour = colours.get(method)
    box = f'<span class="swatch" style="background:{colour}"></span>' if colour else ""
    return box + escape(method)


def _case_link(name, text) -> str:
    return f'<a href="#{escape(urlencode({"case": name}))}">{escape(text)}</a>'
