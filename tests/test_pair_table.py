"""Tables of pairs as spreadsheets and people write them."""

import re
from pathlib import Path

import pytest

from jaxreg.datasets.pair_table import read_pair_table

HEADER = "id,fixed,moving"


def read(folder, text, *, encoding="utf-8"):
    path = folder / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return read_pair_table(path)


@pytest.mark.parametrize(
    "text",
    [
        "id,fixed,moving,landmarks\np 1,a/f.nii.gz,/data/m.nii.gz,\np2,x,y,marks.csv\n",
        "\ufeffid;fixed;moving;landmarks\r\np 1;a/f.nii.gz;/data/m.nii.gz;\r\n"
        "p2;x;y;marks.csv;\r\n",
        "sep=;\r\nID ; Fixed;Moving;Landmarks\r\n\r\np 1;a/f.nii.gz;/data/m.nii.gz\r\n;;;\r\n"
        "p2;x;y;marks.csv",
        "moving\tid\tlandmarks\tfixed\n/data/m.nii.gz\tp 1\t\ta/f.nii.gz\ny\tp2\tmarks.csv\tx\n",
        'id,fixed,moving,landmarks\n"p 1","a/f.nii.gz" ,/data/m.nii.gz,""\np2,x,y,marks.csv,,\n',
    ],
    ids=["plain", "spreadsheet", "sep", "tabs", "quoted"],
)
def test_one_content_in_several_dialects(tmp_path, text):
    (one, two), unused = read(tmp_path, text)
    assert (one.id, one.fixed, one.moving) == (
        "p 1",
        tmp_path / "a/f.nii.gz",
        Path("/data/m.nii.gz"),
    )
    assert one.landmarks is None and two.landmarks == tmp_path / "marks.csv"
    assert two.id == "p2" and unused == ()


def test_other_columns_are_left_alone_and_told(tmp_path):
    pairs, unused = read(tmp_path, "age,id,fixed,moving,space,moving_id\n60,ü/1,a;b,c,lps,f\n")
    assert pairs[0].id == "ü/1" and pairs[0].fixed == tmp_path / "a;b"
    assert pairs[0].space == "lps" and unused == ("age", "moving_id")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns id, fixed, moving, got ''. Name the columns in the first line."),
        ("fixed,moving\na,b\n", "expected the columns id, fixed, moving, got 'fixed, moving'."),
        (f"{HEADER}\n", "expected pairs, got none. Add a row for each."),
        (f"{HEADER},fixed_maks\n", "expected columns such as fixed_mask, got 'fixed_maks'. Cor"),
        (f"{HEADER},Fixed mask\n", "expected columns such as fixed_mask, got 'fixed mask'."),
        (f"{HEADER},moving\n", "expected one column moving, got several. Remove all but one."),
        (f"{HEADER}\np,a,b\n\nq,,b\n", "got 1 problems. Mend line 4: expected fixed, got an empty"),
        (f"{HEADER}\np,a,b,c\n", "line 2: expected 3 cells, got 4; quote a cell that has commas"),
        (f"{HEADER}\np,a,b\nq,a,b\np,a,c\n", "lines 2, 4: expected unique ids, got 'p' again"),
        (f"{HEADER},space\np,a,b,xyz\n", "line 2: space: expected RAS or LPS, got 'xyz'"),
        (f"{HEADER}\n" + "p,,b\n" * 30, "line 11: expected fixed, got an empty cell and 21 more."),
        (f"{HEADER}\np,a\0,b\n", "expected CSV in UTF-8, got binary data. Save the sheet as"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'pairs.csv'}: ")


def test_another_encoding_is_told(tmp_path):
    text = f"{HEADER}\np,a,b\nMüller,a,b\n"
    with pytest.raises(ValueError, match=r"in UTF-8, got other bytes \(line 3\)\. Save the sheet"):
        read(tmp_path, text, encoding="latin-1")
    with pytest.raises(ValueError, match="expected CSV in UTF-8"):
        read(tmp_path, text, encoding="utf-16")
    with pytest.raises(FileNotFoundError, match="expected a table of pairs, got no such file"):
        read_pair_table(tmp_path / "no.csv")
