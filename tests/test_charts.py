"""Charts of records: what is drawn is what was measured, one colour a method."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxreg.benchmark.charts import method_colours, overlap_chart, tre_chart
from jaxreg.benchmark.results import Record
from jaxreg.config import METHODS


def records(method, count, scale=1.0):
    rng = np.random.default_rng(len(method))
    found = []
    for n in range(count):
        overlap = {
            str(label): {
                "dice": rng.uniform(0.8, 1.0),
                "asd_mm": scale * rng.uniform(0.5, 1.5),
                "hd_mm": scale * rng.uniform(3.0, 9.0),
            }
            for label in (1, 2, 10)
        }
        errors = (scale * rng.gamma(2.0, 0.5, 40 + n)).tolist()
        found.append(Record(str(n), method, tre_mm=errors, overlap=overlap))
    return found


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, to be looked into."""
    kept, save = [], Figure.savefig

    def keep(figure, *arguments, **options):
        kept.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def test_tre_curves_end_where_the_errors_do(tmp_path, figures):
    by_method = {"initial": records("initial", 3, scale=8.0), "full": records("full", 2)}
    by_method["outside"] = [Record("0", "outside", error="no")]
    assert tre_chart(tmp_path / "tre.png", by_method)
    assert [path.name for path in tmp_path.iterdir()] == ["tre.png"]
    (axis,) = figures[0].axes
    curves = {line.get_color(): line for line in axis.lines if len(line.get_xdata()) > 2}
    colours = method_colours(by_method)
    assert set(curves) == {colours["initial"], colours["full"]}
    for method in ("initial", "full"):
        errors = np.concatenate([record.tre_mm for record in by_method[method]])
        x, y = (np.asarray(values) for values in curves[colours[method]].get_data())
        for limit in (0.4, 1.3, 5.0):
            drawn = y[x <= limit][-1] if (x <= limit).any() else 0.0
            assert drawn == pytest.approx(100 * np.mean(errors <= limit))
        p75 = np.percentile(errors, 75)
        marks = [line.get_data() for line in axis.lines if line.get_color() == colours[method]]
        assert any(list(np.ravel(mark)) == pytest.approx([p75, 75]) for mark in marks)
        texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
        assert f"{method}: 75 % within {p75:.2f} mm" in texts
    assert "mm" in axis.get_xlabel() and "%" in axis.get_ylabel()


def test_boxes_show_each_case_by_label_and_method(tmp_path, figures):
    by_method = {"affine": records("affine", 4), "full": records("full", 4)}
    dice = by_method["full"][1].overlap["2"]
    by_method["full"][1].overlap["2"] = {"dice": 0.0}  # a label that is lost has no distances
    assert overlap_chart(tmp_path / "a.png", by_method, label_names={"2": "left lung"})
    names = [text.get_text() for text in figures[0].axes[-1].get_xticklabels()]
    assert names == ["label 1", "left lung", "label 10"]
    colours = method_colours(by_method)
    for axis, key, lost in zip(
        figures[0].axes, ("dice", "asd_mm", "hd_mm"), (0, 1, 1), strict=True
    ):
        assert axis.get_ylabel().endswith("mm") == (key != "dice")
        dots = [
            line
            for line in axis.lines
            if line.get_marker() == "." and line.get_color() in colours.values()
        ]
        assert [len(line.get_ydata()) for line in dots] == [4, 4, 4, 4, 4 - lost, 4]
        for record in by_method["affine"]:
            assert record.overlap["1"][key] in dots[0].get_ydata()
        assert (
            abs(np.mean(dots[1].get_xdata()) - 1) < 0.5 and dots[1].get_color() == colours["affine"]
        )
    assert dice["dice"] > 0


def test_nothing_to_draw_writes_nothing(tmp_path):
    failed = {"full": [Record("0", "full", error="no")]}
    assert not tre_chart(tmp_path / "a.png", failed)
    assert not overlap_chart(tmp_path / "a.png", failed)
    assert not tre_chart(tmp_path / "a.png", {})
    assert not list(tmp_path.iterdir())


def test_one_case_and_perfect_landmarks_can_be_drawn(tmp_path):
    perfect = {"full": [Record("0", "full", tre_mm=[0.0, 0.0], overlap={"1": {"dice": 1.0}})]}
    assert tre_chart(tmp_path / "a.png", perfect) and overlap_chart(tmp_path / "b.png", perfect)
    assert matplotlib.image.imread(tmp_path / "b.png").shape[2] == 4


def test_each_method_has_a_colour_of_its_own_that_stays():
    alone = {method: method_colours([method])[method] for method in METHODS}
    assert method_colours([*METHODS, "ants"]) == alone | {"ants": "#d55e00"}
    colours = method_colours(["ants", "full", *(f"other {n}" for n in range(5))])
    assert len({to_rgb(colour) for colour in colours.values()}) == 7


def test_dollars_in_names_are_no_formulas(tmp_path):
    by_method = {"$x^{$": records("full", 2)}
    assert tre_chart(tmp_path / "tre.png", by_method)
    assert overlap_chart(tmp_path / "o.png", by_method, label_names={"1": "$a_{$"})
