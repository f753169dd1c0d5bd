"""Exported cases are read back as they were."""

import json

import numpy as np

from jaxreg.benchmark.cases import Case, GroundTruth
from jaxreg.benchmark.export import export_cases
from jaxreg.datasets.manifest import LoadedPair, read_manifest
from jaxreg.geometry.volume import Volume
from jaxreg.io.points import Landmarks

SHAPE = (7, 6, 5)
AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 4.0, 11], [0, 0, 0, 1]])


def make_case(name, *, labels):
    rng = np.random.default_rng(len(name))
    image = Volume(rng.normal(-700, 100, SHAPE), AFFINE)
    lobes = Volume(rng.integers(0, 6, SHAPE), AFFINE) if labels else None
    points = rng.uniform(-20, 20, (2, 4, 3)).round(3)
    marks = Landmarks(*points, np.array(["vessel"] * 4))
    pair = LoadedPair(name, image, image, None, None, lobes, lobes, None, None)
    return Case(name, lambda: GroundTruth("inhale", marks, None, lambda: pair)), pair, marks


def test_exported_cases_are_a_manifest_of_the_same_content(tmp_path):
    made = [make_case("a/b", labels=True), make_case("7", labels=False)]
    path = export_cases(tmp_path / "images", [case for case, _, _ in made])
    assert path == tmp_path / "images" / "pairs.json"
    for (_, pair, marks), entry in zip(made, read_manifest(path), strict=True):
        loaded = entry.load()
        assert loaded.id == pair.id
        np.testing.assert_array_equal(loaded.fixed.data, pair.fixed.data)
        np.testing.assert_allclose(loaded.moving.affine, AFFINE, atol=1e-6)
        np.testing.assert_allclose(loaded.landmarks.fixed, marks.fixed, atol=1e-9)
        np.testing.assert_allclose(loaded.landmarks.moving, marks.moving, atol=1e-9)
        assert (loaded.fixed_labels is None) == (pair.fixed_labels is None)
        assert loaded.fixed_mask is None and loaded.keypoints is None
    assert (tmp_path / "images" / "a%2Fb" / "fixed.nii.gz").is_file()
    assert set(json.loads(path.read_text(encoding="utf-8"))[1]) == {
        "id",
        "fixed",
        "moving",
        "landmarks",
    }
