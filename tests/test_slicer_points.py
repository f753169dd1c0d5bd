"""Slicer's point files: both spaces, both generations, and what is kept."""

import json

import numpy as np
import pytest

from jaxreg.io.notes import FileWarning
from jaxreg.io.point_lists import read_points, write_points

RAS = np.array([[10.5, -20.25, 30.0], [-1.0, 2.0, 3.5]])
FCSV = """# Markups fiducial file version = {version}
# CoordinateSystem = {space}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
a_0,{0},{1},{2},0,0,0,1,1,0,1,"left, upper",nodule,vtkMRMLScalarVolumeNode1
a_1,{3},{4},{5},0,0,0,1,1,1,0,F-2,,
"""


def in_space(space):
    return RAS * ([1, 1, 1] if space in ("0", "RAS") else [-1, -1, 1])


def fcsv(path, space):
    version = "4.10" if space in "01" else "4.13"
    text = FCSV.format(*in_space(space).ravel(), version=version, space=space)
    path.write_text(text, encoding="utf-8")
    return path


def markups(path, space):
    points = [
        {"id": str(n), "label": f"P{n}", "position": xyz, "selected": False}
        for n, xyz in enumerate(in_space(space).tolist(), 1)
    ]
    points.append({"id": "3", "label": "none", "positionStatus": "undefined"})
    markup = {"type": "Line", "coordinateSystem": space, "controlPoints": points}
    markup["measurements"] = [{"name": "length", "enabled": True, "value": 4.0}]
    document = {"@schema": "x", "markups": [markup], "display": {"opacity": 0.5}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("space", ["0", "1", "RAS", "LPS"])
def test_fcsv_keeps_all_but_positions(tmp_path, space):
    path = fcsv(tmp_path / "p.fcsv", space)
    points = read_points(path)
    np.testing.assert_allclose(points.points, RAS)
    assert points.labels == ("left, upper", "F-2") and points.ids == ("a_0", "a_1")
    write_points(tmp_path / "q.fcsv", points, points.points + [1, 2, 3])
    again = read_points(tmp_path / "q.fcsv")
    np.testing.assert_allclose(again.points, RAS + [1, 2, 3], atol=1e-4)
    files = (path, tmp_path / "q.fcsv")
    before, after = (p.read_text(encoding="utf-8").splitlines() for p in files)
    assert before[:3] == after[:3]
    tail = ',0,0,0,1,1,0,1,"left, upper",nodule,vtkMRMLScalarVolumeNode1'
    assert before[3].endswith(tail) and after[3].endswith(tail)


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_markups_keep_all_but_positions(tmp_path, space):
    path = markups(tmp_path / "p.mrk.json", space)
    points = read_points(path)
    np.testing.assert_allclose(points.points, RAS)
    assert points.labels == ("P1", "P2")
    write_points(tmp_path / "q.mrk.json", points, points.points + [1, 2, 3])
    np.testing.assert_allclose(read_points(tmp_path / "q.mrk.json").points, RAS + [1, 2, 3])
    document = json.loads((tmp_path / "q.mrk.json").read_text(encoding="utf-8"))
    assert document["display"] == {"opacity": 0.5}
    (markup,) = document["markups"]
    assert markup["coordinateSystem"] == space and "value" not in markup["measurements"][0]
    assert markup["controlPoints"][0]["selected"] is False
    assert "position" not in markup["controlPoints"][2]


@pytest.mark.parametrize("start", ["csv", "fcsv", "mrk.json"])
@pytest.mark.parametrize("end", ["csv", "fcsv", "mrk.json"])
def test_every_format_becomes_every_other(tmp_path, start, end):
    path = tmp_path / f"p.{start}"
    if start == "fcsv":
        fcsv(path, "LPS")
    elif start == "mrk.json":
        markups(path, "LPS")
    else:
        rows = "\n".join(f"{n},P{n},{x},{y},{z}" for n, (x, y, z) in enumerate(in_space("LPS")))
        path.write_text(f"# space: LPS\nid,label,x,y,z\n{rows}\n", encoding="utf-8")
    points = read_points(path)
    write_points(tmp_path / f"q.{end}", points, points.points)
    again = read_points(tmp_path / f"q.{end}")
    np.testing.assert_allclose(again.points, RAS, atol=1e-4)
    assert (again.labels, again.ids, again.space) == (points.labels, points.ids, "LPS")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("p.fcsv", "1,0,0,0\n", "expected '# CoordinateSystem = LPS' or RAS"),
        ("p.fcsv", "# CoordinateSystem = 2\n1,0,0,0\n", "earlier versions), got '2'"),
        ("p.fcsv", "# CoordinateSystem = 0\n1,0,zero,0\n", "expected id,x,y,z in each line"),
        (
            "p.fcsv",
            "# CoordinateSystem = 0\n# columns = id,label,x\n",
            "expected the columns id,x,y",
        ),
        ("p.fcsv", "# CoordinateSystem = 0\n", "expected points, got none"),
        ("p.json", "{}", "got JSON without a list 'markups'"),
        ("p.json", '{"markups": [{"type": "ROI"}]}', "expected markups of the types Fiducial"),
        (
            "p.json",
            '{"markups": [{"type": "Line", "coordinateSystem": "IJK"}]}',
            "expected LPS or RAS as coordinateSystem, got 'IJK'",
        ),
        (
            "p.json",
            '{"markups": [{"type": "Line", "controlPoints": [{"position": [1]}]}]}',
            "expected three numbers as position, got '[1]'",
        ),
        ("p.csv", "x,y,z\n1,2,3\n", "expected RAS or LPS to be stated once"),
        ("p.csv", "# space: RAS\na,b\n1,2\n", "expected the columns x, y and z, got 'a,b'"),
        ("p.csv", "# space: RAS\nx,y,z\n1,2\n", "expected 3 values with numbers as x, y, z"),
        ("p.vtk", "", "expected points in a file ending in .csv, .fcsv"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_points(path)
    assert str(error.value).startswith(f"{path}: ") and text in str(error.value)


@pytest.mark.parametrize("end", ["csv", "fcsv", "mrk.json"])
@pytest.mark.filterwarnings("error")
def test_names_that_begin_as_a_comment_survive(tmp_path, end):
    text = '# space: RAS\nid,label,x,y,z\n"#1","#a",1,2,3\n2,b,4,5,6\n'
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    points = read_points(tmp_path / "p.csv")
    assert points.ids == ("#1", "2")
    write_points(tmp_path / f"q.{end}", points, points.points)
    again = read_points(tmp_path / f"q.{end}")
    assert again.labels == ("#a", "b")
    np.testing.assert_allclose(again.points, [[1, 2, 3], [4, 5, 6]])


def test_a_row_that_is_a_comment_by_its_name_is_told(tmp_path):
    text = "# space: RAS\nlabel,x,y,z\n#1,1,2,3\n2,4,5,6\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.warns(FileWarning, match="1 lines that begin with # have the values of points"):
        assert read_points(tmp_path / "p.csv").labels == ("2",)
