"""Charts of the records of a run: overlap by label, errors of landmarks.

After figures 5 and 7 of Hering et al. 2021 (doi 10.1016/j.media.2021.102139).
"""

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.benchmark.results import Record
from jaxreg.figures.sheet import write_figure

Records = Mapping[str, Sequence[Record]]  # by method

_COLOURS = {  # Okabe and Ito 2008: the colour-blind can distinguish them
    "initial": "#666666",
    "affine": "#56b4e9",
    "cascade": "#e69f00",
    "classical": "#009e73",
    "full": "#0072b2",
}
_MORE_COLOURS = ("#d55e00", "#cc79a7", "#000000", "#882255", "#999933", "#332288")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_OVERLAP = (("dice", "Dice overlap"), ("asd_mm", "ASD, mm"), ("hd_mm", "HD, mm"))
_TRE_TICKS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Returns the colour of each method; those of jaxreg's methods always have the same one."""
    colours = {}
    for method in methods:
        others = sum(name not in _COLOURS for name in colours)
        more = _MORE_COLOURS[others % len(_MORE_COLOURS)]
        colours[method] = _COLOURS.get(method, more)
    return colours


def overlap_chart(
    path: str | os.PathLike, by_method: Records, *, label_names: Mapping[str, str] | None = None
) -> bool:
    """Draws box plots of Dice, ASD and HD over cases, by label and method.

    Boxes span the quartiles and show the median, whiskers the furthest case within 1.5 times the
    boxes' height beyond them; each case is a dot.

    Args:
        path: file to write, .png, .pdf or .svg.
        by_method: records of each method.
        label_names: of the labels, such as {"1": "right upper"}.

    Returns:
        Whether there was anything to draw; otherwise nothing is written.
    """
    values = {
        (label, method, key): [r.overlap[label][key] for r in records if key in _of(r, label)]
        for label in _labels(by_method)
        for method, records in by_method.items()
        for key, _ in _OVERLAP
    }
    labels = list(dict.fromkeys(label for label, _, _ in values))
    methods = [m for m in by_method if any(values[label, m, "dice"] for label in labels)]
    if not methods:
        return False
    ticks = [(label_names or {}).get(label, f"label {label}") for label in labels]
    width = max(6.0, 1.5 + len(labels) * (0.5 + 0.28 * len(methods)))
    figure = Figure(figsize=(width, 6.6), layout="constrained")
    axes = figure.subplots(len(_OVERLAP), 1, sharex=True)
    colours = method_colours(by_method)
    for axis, (key, title) in zip(axes, _OVERLAP, strict=True):
        for column, method in enumerate(methods):
            positions = np.arange(len(labels)) + (column + 0.5) / len(methods) * 0.8 - 0.4
            groups = [values[label, method, key] for label in labels]
            _boxes(axis, groups, positions, 0.8 / len(methods), colours[method])
        axis.set_ylabel(title)
        axis.grid(axis="y", color="0.9")
        if key != "dice":
            axis.set_ylim(bottom=0)
    axes[-1].set_xticks(range(len(labels)), [_plain(tick) for tick in ticks])
    handles = [axes[0].plot([], [], "s", color=colours[m], label=_plain(m))[0] for m in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(methods)))
    write_figure(path, figure, dpi=130)
    return True


def tre_chart(path: str | os.PathLike, by_method: Records) -> bool:
    """Draws which fraction of all landmarks has at most an error; marks the 75th percentiles.

    Args:
        path: file to write, .png, .pdf or .svg.
        by_method: records of each method; their errors are those without rounding to voxels.

    Returns:
        Whether there was anything to draw; otherwise nothing is written.
    """
    errors = {
        method: np.sort(np.concatenate([np.zeros(0), *(r.tre_mm for r in records)]))
        for method, records in by_method.items()
    }
    errors = {method: values for method, values in errors.items() if len(values)}
    if not errors:
        return False
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axis = figure.subplots()
    colours = method_colours(by_method)
    for i, (method, values) in enumerate(errors.items()):
        p75 = float(np.percentile(values, 75))
        percent = 100 * np.arange(1, len(values) + 1) / len(values)
        style = {"color": colours[method], "linestyle": _DASHES[i % len(_DASHES)]}
        label = f"{_plain(method)}: 75 % within {p75:.2f} mm"
        axis.step(np.maximum(values, 1e-3), percent, where="post", label=label, **style)
        axis.plot(max(p75, 1e-3), 75, "o", color=colours[method], markersize=6)
    axis.axhline(75, color="0.5", linewidth=0.8, linestyle=":")
    low = min(np.percentile(values, 2) for values in errors.values())
    high = max(values[-1] for values in errors.values())
    axis.set_xscale("log")
    axis.set_xticks(_TRE_TICKS_MM, [f"{tick:g}" for tick in _TRE_TICKS_MM])
    axis.minorticks_off()
    axis.set_xlim(max(low, 0.02), max(high, 0.1))  # after the ticks, which would widen it
    axis.set_ylim(0, 100)
    axis.set_xlabel("target registration error, mm (logarithmic)")
    axis.set_ylabel("landmarks within it, %")
    axis.grid(color="0.9")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    write_figure(path, figure, dpi=130)
    return True


def _labels(by_method):
    """Labels of all records in the order of their numbers."""
    found = {label for records in by_method.values() for r in records for label in r.overlap}
    return sorted(found, key=lambda label: (len(label), label))


def _of(record, label):
    return record.overlap.get(label, {})


def _boxes(axis: Axes, groups, positions, width, colour):
    """Boxes of one method, a group of values each, with the values as dots."""
    boxes = axis.boxplot(
        groups,
        positions=positions,
        widths=0.8 * width,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "black"},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=colour, alpha=0.55, edgecolor=colour)
    for part in (*boxes["whiskers"], *boxes["caps"]):
        part.set(color=colour)
    for position, values in zip(positions, groups, strict=True):
        # side by side in the order of the values' cases, so that none hides another
        offsets = 0.5 * width * (np.arange(len(values)) + 0.5) / max(len(values), 1) - 0.25 * width
        axis.plot(
            position + offsets, values, ".", color=colour, markersize=3, markeredgecolor="0.2"
        )


def _plain(text):
    """Text in which a dollar is one, and does not begin a formula."""
    return text.replace("$", r"\$")
