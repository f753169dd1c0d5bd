"""README and docs: links, anchors, lines, words; pages made from records are up to date."""

import importlib.util
import json
import re
import sys
import unicodedata
from html import unescape
from importlib import metadata

import pytest
from documentation import PAGES, ROOT, name, prose, read

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")
# Pages that are not made by `make results`, whose templates are checked.
WRITTEN = [page for page in PAGES if not read(page).startswith("<!-- Made by")]
# Words of our own; the field's are in their place.
PRIVATE = re.compile(
    r"\b(snapshots?|there and back|doubts?|breaths?(?!-hold)|drawn (pair|motion)|lung frame|"
    r"panels?|frame of the lungs|hand-made)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def render():
    """The module tools/render.py."""
    spec = importlib.util.spec_from_file_location("render", ROOT / "tools" / "render.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["render"] = module
    spec.loader.exec_module(module)
    return module


def anchors(page):
    """Anchors of the headings of a page, as MkDocs makes them."""
    found, seen = set(), {}
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        text = unicodedata.normalize("NFKD", unescape(text)).encode("ascii", "ignore").decode()
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
        seen[slug] = seen.get(slug, -1) + 1
        found.add(slug + (f"_{seen[slug]}" if seen[slug] else ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = _CODE.sub("", prose(page))
    for target in _LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{target}: no such file"
        assert ROOT in linked.parents, f"{target}: outside of the project"
        if "docs" in page.relative_to(ROOT).parts:
            assert ROOT / "docs" in linked.parents, f"{target}: not on the site"
        if anchor:
            assert anchor in anchors(linked), f"{target}: no such heading"


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/-]+\.md)$", read(ROOT / "mkdocs.yml"), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if "docs" in page.parts]
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_lines_are_short(page):
    long = [line for line in read(page).splitlines() if len(line) > 100 and line[:1] != "|"]
    assert not long


def test_templates_have_short_lines_and_the_words_of_the_field():
    for template in (ROOT / "tools" / "templates").rglob("*.md"):
        assert not PRIVATE.search(_CODE.sub("", read(template))), template
        lines = read(template).splitlines()
        text = [line for line in lines if not re.search(r"\{[{%]|^\|", line)]
        assert all(len(line) <= 100 for line in text), template


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_no_private_words(page):
    text = _CODE.sub("", prose(page))
    assert [found[0] for found in PRIVATE.finditer(text)] == []


def test_made_pages_are_those_of_the_records(render):
    if f"click=={metadata.version('click')}\n" not in read(ROOT / "constraints.txt"):
        pytest.skip("the help of commands looks different with another version of click")
    stale = [name(page) for page, text in render.pages().items() if read(page) != text]
    assert not stale, "run make results"


def test_records_say_what_made_them(render):
    records = render.records()
    assert set(render.records()) >= {"pairs_classical", "peers"}
    for label, record in records.items():
        assert {"command", "date", "version", "settings", "machine", "rows"} <= set(record), label
        assert re.fullmatch(r"2\d{3}-\d\d-\d\d", record["date"]), label
        assert {"cpu", "cores", "device"} <= set(record["machine"]), label
        made_here = re.match(r"python (benchmarks/\w+\.py|evaluate\.py)", record["command"])
        assert made_here or record.get("transcribed"), label
        if made_here:
            assert (ROOT / made_here[1]).is_file(), label


def test_every_wanted_record_has_a_command_that_exists(render):
    wanted = json.loads(read(render.TEMPLATES / "wanted.json"))
    for label, command in wanted.items():
        assert command.endswith(f" --json docs/results/{label}.json")
        assert (ROOT / command.split()[1]).is_file(), command


def test_missing_records_are_those_not_there_or_written_by_hand(render):
    wanted = json.loads(read(render.TEMPLATES / "wanted.json"))
    by_hand = {"pairs_affine": {"transcribed": "from a page"}, "pairs_classical": {"rows": []}}
    missing = dict(render.missing(by_hand))
    assert set(wanted) - set(missing) == {"pairs-classical"}


def test_settings_have_a_description_each(render):
    groups = list(render.groups())
    rows = {row["setting"]: row for group in groups for row in group["rows"]}
    assert rows["`optimiser.smoothness`"]["default"] == "`1.2`"
    assert rows["`grid.shape`"]["default"] == "`null`"
    assert "curvature" in rows["`optimiser.smoothness`"]["what it is"]
    assert all(row["what it is"] for row in rows.values())


def test_every_code_of_a_warning_is_explained():
    text = "\n".join(read(path) for path in sorted((ROOT / "jaxreg").rglob("*.py")))
    found = re.findall(r"Finding\(\s*\"([a-z]+(?:-[a-z]+)+)\"", text)
    found += re.findall(r"\bnote\(\s*\w+,\s*\"([a-z]+(?:-[a-z]+)+)\"", text)
    assert {"images-disagree", "nan-as-air", "same-state"} <= set(found)
    explained = read(ROOT / "docs" / "howto" / "warnings.md")
    assert [code for code in found if f"`{code}`" not in explained] == []
