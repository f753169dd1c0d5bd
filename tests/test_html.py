"""The report of a run: whole, in one file, escaped, bounded; in a browser it does what it says."""

import base64
import dataclasses
import io
import json
import re
import urllib.parse
from html.parser import HTMLParser

import chromium
import matplotlib.image
import numpy as np
import pytest

from jaxreg.benchmark import slices
from jaxreg.benchmark.html import thumbnail_path, write_report
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import summary_rows
from jaxreg.figures.thumbnails import Thumbnail, write_thumbnail

SHAPE = (22, 18, 14)
CASE = 'a/<b> & "c" $\'{{ d }}{% e %}'
FOLD = (15, 7, 10)


def thumbnail(seed):
    """Images of noise of one brightness each, and a fold."""
    rng = np.random.default_rng(seed)
    fixed, moving, warped = (
        np.clip(level + rng.normal(0, 3, SHAPE), 0, 255).astype(np.uint8) for level in (60, 90, 120)
    )
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[3:-3, 3:-3, 2:-2] = 1
    determinant = np.full(SHAPE, 200, np.uint8)
    determinant[FOLD] = 0
    return Thumbnail(fixed, moving, warped, determinant, lungs, 2.5)


def run(folder):
    """Records and thumbnails of two methods on three cases, one of which failed."""
    (folder / "cases").mkdir(parents=True)
    by_method = {"initial": [], "full": []}
    rng = np.random.default_rng(0)
    for i, case in enumerate((CASE, "2", "3")):
        errors = rng.gamma(2.0, 1.0, 30)
        by_method["initial"].append(Record(case, "initial", tre_mm=(5 * errors).tolist()))
        record = Record(case, "full", tre_mm=errors.tolist(), seconds=2.0)
        if case == "3":
            record = Record(case, "full", error="expected <HU>, got 0 & 1")
        write_thumbnail(thumbnail_path(folder, case, "full"), thumbnail(i))
        by_method["full"].append(record)
    return by_method


def report(folder, by_method):
    path = write_report(
        folder,
        by_method,
        title="run </title><script>alert(1)</script>",
        rows=summary_rows(by_method),
        settings={"source": "<i>here</i>", "cases": 3},
        more={"tests <1>": [{"method": "full", "better than": "initial", "p": 0.0314}]},
        legend={"p": "chance & more", "unused": "not in any table"},
    )
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return report(folder, run(folder))


class Page(HTMLParser):
    """Tags, texts and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.scripts, self._inside = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        (self.scripts if self._inside in ("script", "style") else self.texts).append(data)


def data_of(path):
    match = re.search(
        r'<script type="application/json" id="data">(.*?)</script>',
        path.read_text(encoding="utf-8"),
    )
    return json.loads(match[1])


def decoded(uri):
    kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", uri).groups()
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(content, validate=True)), kind)


def test_the_page_needs_no_other_file(written):
    page = Page(written.read_text(encoding="utf-8"))
    links = [v for _, n, v in page.attributes if n in ("src", "href", "srcset", "action", "data")]
    assert links and all(link.startswith(("data:image/", "#")) for link in links)
    assert "link" not in page.tags and "iframe" not in page.tags
    style, data, program = page.scripts
    assert "http" not in data.lower().split("base64,")[0]
    for code in (style, program):
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(|Worker", code)
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(images) == 3  # no labels, so no overlap
    for image in images:
        assert decoded(image).std() > 0
    assert len([v for tag, name, v in page.attributes if (tag, name) == ("img", "alt") and v]) == 3


def test_all_cases_are_there_and_texts_are_texts(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2 and "b" not in page.tags and "i" in page.tags
    texts = "".join(page.texts)
    for text in (CASE, "expected <HU>, got 0 & 1", "<i>here</i>", "run </title><script>alert"):
        assert text in texts
    for text in ("tests <1>", "better than", "0.031", "chance & more"):
        assert text in texts
    assert "not in any table" not in texts
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    cases = [dict(urllib.parse.parse_qsl(link[1:])).get("case") for link in links]
    assert cases == [None, CASE, "2", "3", CASE, "2", "3"]
    assert page.tags.count("article") == 3


def test_slices_are_those_of_the_thumbnails(written):
    data = data_of(written)
    assert data["names"] == [CASE, "2", "3"] and data["cases"][2] == {}  # it failed
    for i in (0, 1):
        shown, truth = data["cases"][i]["full"], thumbnail(i)
        assert tuple(shown["shape"]) == SHAPE and shown["spacing_mm"] == 2.5
        for name, tolerance in (("fixed", 6), ("warped", 6), ("determinant", 4), ("lungs", 0)):
            mosaic = decoded(data["images"][shown["images"][name]])
            mosaic = np.rint(mosaic * (255 if mosaic.dtype.kind == "f" else 1))[..., 0]
            across = mosaic.shape[1] // SHAPE[0]
            for y in range(SHAPE[1]):
                row, column = divmod(y, across)
                tile = mosaic[row * SHAPE[2] :, column * SHAPE[0] :][: SHAPE[2], : SHAPE[0]]
                expected = getattr(truth, name)[:, y].T * (255.0 if name == "lungs" else 1.0)
                assert np.abs(tile - expected).mean() <= tolerance, name
                if name == "determinant":
                    np.testing.assert_array_equal(tile == 0, expected == 0)
    assert len(data["images"]) == 2 * 5 - 2  # determinants and lungs are alike in both cases


def test_what_methods_share_is_kept_once(tmp_path):
    by_method = run(tmp_path)
    first = report(tmp_path, by_method).stat().st_size
    by_method["affine"] = [Record("2", "affine", tre_mm=[1.0])]
    other = dataclasses.replace(thumbnail(1), warped=thumbnail(7).warped)
    write_thumbnail(thumbnail_path(tmp_path, "2", "affine"), other)
    data = data_of(report(tmp_path, by_method))
    assert set(data["cases"][1]) == {"full", "affine"} and len(data["images"]) == 9
    assert first < (tmp_path / "report.html").stat().st_size


def test_the_size_is_bounded_by_larger_voxels(tmp_path, monkeypatch):
    by_method = run(tmp_path)
    size = sum(map(len, data_of(report(tmp_path, by_method))["images"]))
    limit = size // 2
    monkeypatch.setattr(slices, "_SLICES_BYTES", limit)
    data = data_of(report(tmp_path, by_method))
    assert sum(map(len, data["images"])) <= limit
    spacings = {shown["full"]["spacing_mm"] for shown in data["cases"] if shown}
    assert len(spacings) == 1 and 2.5 < spacings.pop() < 10
    assert (decoded(data["images"][data["cases"][0]["full"]["images"]["determinant"]]) == 0).any()


def test_the_same_run_gives_the_same_report(tmp_path, written):
    again = report(tmp_path, run(tmp_path))
    assert again.read_text(encoding="utf-8") == written.read_text(encoding="utf-8")


def test_a_run_without_pictures_has_tables(tmp_path):
    by_method = {"full": [Record("1", "full", overlap={"1": {"dice": 0.5}})]}
    data = data_of(report(tmp_path, by_method))
    assert data["cases"] == [{}] and data["images"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlap.png", "report.html"]
    damaged = thumbnail_path(tmp_path, "1", "full")
    damaged.parent.mkdir()
    damaged.write_bytes(b"no zip")
    assert data_of(report(tmp_path, by_method))["cases"] == [{}]


@pytest.fixture(scope="module")
def page(tmp_path_factory, written):
    if chromium.CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with chromium.chromium_page(tmp_path_factory.mktemp("profile")) as opened:
        opened.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )
        opened.call("Page.navigate", url=written.as_uri())
        opened.wait("document.readyState === 'complete' && typeof show === 'function'")
        yield opened


def visit(page, **state):
    page.run(f"location.hash = {json.dumps(urllib.parse.urlencode(state))}")
    settle(page)


def settle(page):
    page.wait("new Promise(r => setTimeout(() => r(get('viewer').ariaBusy === 'false'), 30))")


def state(page):
    return dict(urllib.parse.parse_qsl(page.run("location.hash.slice(1)")))


def pixels(page, canvas):
    """What a canvas shows, (rows, columns, 3), read from a copy."""
    script = (
        f"(c => {{ const copy = new OffscreenCanvas(c.width, c.height).getContext('2d',"
        "{willReadFrequently: true}); copy.drawImage(c, 0, 0); return [c.width,"
        "...copy.getImageData(0, 0, c.width, c.height).data]; })"
        f"(get('{canvas}'))"
    )
    width, *values = page.run(script)
    return np.array(values).reshape(-1, width, 4)[..., :3]


def test_pages_change_with_the_address(page):
    visible = "[...document.querySelectorAll('article')].map(a => !a.hidden)"
    page.run("location.hash = ''")
    page.wait("!get('overview').hidden")
    assert page.run(visible) == [False] * 3 and page.run("get('viewer').hidden")
    page.run("document.querySelector('td a').click()")
    page.wait("!get('viewer').hidden")
    assert page.run(visible) == [True, False, False] and page.run("get('overview').hidden")
    assert page.run("document.querySelector('nav a[aria-current]').textContent") == f"Case {CASE}"
    page.run("location.hash = 'case=3'")  # failed: scores, but no slices
    page.wait("get('viewer').hidden")
    assert page.run(visible) == [False, False, True]


def test_pictures_before_and_after(page):
    for view, level in (("moving", 90), ("warped", 120)):
        visit(page, case="2", view=view)
        assert pixels(page, "right")[..., 0].mean() == pytest.approx(level, abs=2)
        assert pixels(page, "left")[..., 0].mean() == pytest.approx(60, abs=2)
    assert page.run("[get('right').width, get('right').height]") == [SHAPE[0], SHAPE[2]]
    page.run("get('toggle').click()")
    settle(page)
    assert state(page)["view"] == "moving" and pixels(page, "right")[
        ..., 0
    ].mean() == pytest.approx(90, abs=2)
    visit(page, case="2", view="difference-before")
    low = pixels(page, "right")[..., 0].mean()
    page.press("b", text="b")
    settle(page)
    assert state(page)["view"] == "difference-after"
    assert (
        pixels(page, "right")[..., 0].mean() < low < 250
    )  # fixed is darker, more so than warped: bluer


def test_folds_are_red_where_they_are(page):
    x, y, z = FOLD
    places = {  # slice, column from the patient's right or front, row from the head or front
        "coronal": (y, SHAPE[0] - 1 - x, SHAPE[2] - 1 - z),
        "axial": (z, SHAPE[0] - 1 - x, SHAPE[1] - 1 - y),
        "sagittal": (x, SHAPE[1] - 1 - y, SHAPE[2] - 1 - z),
    }
    for plane, (index, column, row) in places.items():
        visit(page, case="2", view="volume", plane=plane, slice=index)
        assert pixels(page, "right")[row, column].tolist() == [219, 0, 0]
        assert pixels(page, "right")[row, column - 1].tolist() != [219, 0, 0]
        visit(page, case="2", view="volume", plane=plane, slice=index + 1)
        assert pixels(page, "right")[row, column].tolist() != [219, 0, 0]
        sides = page.run("[...document.querySelectorAll('.frame span')].map(s => s.textContent)")
        assert "".join(sides) == 2 * {"coronal": "RLSI", "axial": "RLAP", "sagittal": "APSI"}[plane]


def test_slices_scroll_by_keys_and_wheel(page):
    visit(page, case="2", plane="coronal", slice=5)
    page.run("get('slice').focus()")
    page.press("ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    settle(page)
    assert state(page)["slice"] == "6"
    assert page.run("document.querySelector('output').textContent") == "7 of 18, 2.5 mm apart"
    page.run("document.querySelector('.views').scrollIntoView()")
    box = page.run("(b => [b.x + 50, b.y + 50])(get('right').getBoundingClientRect())")
    for delta, expected in ((100, "7"), (-100, "6")):
        page.call(
            "Input.dispatchMouseEvent",
            type="mouseWheel",
            x=box[0],
            y=box[1],
            deltaX=0,
            deltaY=delta,
        )
        page.wait(f"location.hash.includes('slice={expected}')")
    page.run("document.querySelector('input[value=sagittal]').click()")
    settle(page)
    assert state(page)["plane"] == "sagittal"
    assert page.run("get('slice').max") == str(SHAPE[0] - 1)
    page.run("document.querySelector('input[value=sagittal]').focus()")
    page.press("ArrowUp", code="ArrowUp", windowsVirtualKeyCode=38)
    page.wait("location.hash.includes('plane=axial')")
    assert page.run("document.activeElement.value") == "axial"  # the focus stays with the choice


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_runs_out_of_the_window(page, width):
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    for address in ("", "case=2", "case=3"):
        page.run(f"location.hash = '{address}'")
        page.run("new Promise(r => setTimeout(r, 50))")
        assert page.run("document.documentElement.scrollWidth") <= width


def test_the_console_is_empty_and_nothing_was_fetched(page):
    visit(page, case="nobody", plane="none", slice="x")
    visit(page, case="2", method="none", view="none", slice="-7.3")
    assert state(page)["case"] == "2" and pixels(page, "right")[..., 0].mean() > 0
    wrong = [
        event
        for event in page.events
        if event["method"]
        in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ]
    assert wrong == []
    urls = [
        e["params"]["request"]["url"]
        for e in page.events
        if e["method"] == "Network.requestWillBeSent"
    ]
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)
