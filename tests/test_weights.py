"""Weight files: what is written comes back, and what is not ours is refused with words."""

import json
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest

from jaxreg.config import NetworkConfig, load_config
from jaxreg.configs import config_path
from jaxreg.network.cascade import init_level
from jaxreg.network.weights import _load_shipped, load_named, load_weights, save_weights
from jaxreg.pipeline.registration import register

CONFIG = NetworkConfig(grid=(8, 8, 8), levels=2, widths=(2, 3), convs=1)


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(0), CONFIG.levels)
    return {f"level_{i + 1}": init_level(k, CONFIG) for i, k in enumerate(keys)}


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_comes_back(tmp_path, params, half):
    save_weights(tmp_path / "w.npz", params, CONFIG, half=half)
    loaded, config = load_weights(tmp_path / "w.npz")
    assert config == CONFIG
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for got, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert got.dtype == np.float32
        if half:
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, expected)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.npz, which does not exist. Train one"):
        load_weights(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip file", None])
def test_damaged_file(tmp_path, params, content):
    path = tmp_path / "w.npz"
    save_weights(path, params, CONFIG)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=r"w.npz: expected a whole .npz file.*Copy it again"):
        load_weights(path)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path, params):
    save_weights(tmp_path / "w.npz", params, CONFIG)
    whole = (tmp_path / "w.npz").read_bytes()
    refused = 0
    for place in np.linspace(0, len(whole) - 1, 150).astype(int):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(bytes(broken))
        try:
            loaded, _ = load_weights(tmp_path / "b.npz")
        except ValueError as error:
            assert "b.npz" in str(error)
            refused += 1
        else:  # a date or a comment in the archive
            assert jax.tree.all(jax.tree.map(np.array_equal, loaded, dict(params)))
    assert refused > 100


def test_shipped_weights_serve_jitted_functions_of_any_shape():
    """Loading within a trace must not keep that trace's arrays."""
    _load_shipped.cache_clear()
    for shape in ((40, 33, 36), (34, 40, 32)):
        image = jax.ShapeDtypeStruct(shape, np.float32)
        assert jax.eval_shape(register, image, image).shape == (*shape, 3)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(load_named("lung")[0]))


def _rewrite(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    arrays["header"] = np.array(json.dumps({**header, **changes.pop("header", {})}))
    np.savez(path, **{name: a for name, a in {**arrays, **changes}.items() if a is not None})


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"header": {"format": 9, "jaxreg": "7.1"}}, "version 2, got 9, written by jaxreg 7.1"),
        ({"header": {"network": {"grit": [8, 8, 8]}}}, "unknown key 'grit'"),
        ({"level_1/head/bias": np.zeros(4)}, r"level_1/head/bias of shape \(3,\), got \(4,\)"),
        ({"level_1/head/bias": None}, "level_1/head/bias to be present .* got it absent"),
        ({"level_3/head/bias": np.zeros(3)}, "level_3/head/bias to be absent .* got it present"),
    ],
)
def test_other_versions_settings_and_shapes(tmp_path, params, changes, text):
    path = tmp_path / "w.npz"
    save_weights(path, params, CONFIG)
    _rewrite(path, **changes)
    with pytest.raises(ValueError, match=rf"w.npz: .*{text}") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def test_settings_younger_than_a_file_take_their_defaults(tmp_path, params):
    save_weights(tmp_path / "w.npz", params, CONFIG)
    network = {"grid": [8, 8, 8], "levels": 2, "widths": [2, 3], "convs": 1}
    _rewrite(tmp_path / "w.npz", header={"network": network})
    assert load_weights(tmp_path / "w.npz")[1] == CONFIG


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"header": {"network": {"widths": [4.5, 8]}}}, r"whole numbers .* as widths .* got \[4.5"),
        ({"header": {"network": {"convs": 10000}}}, "whole numbers up to [0-9]+ as convs"),
        ({"header": {"network": {"levels": 10**30}}}, "whole numbers up to [0-9]+ as levels"),
        ({"header": {"network": {"grid": [8, 8, 1e9]}}}, "whole numbers .* as grid"),
        ({"header": {"network": {"widths": [1] * 5000}}}, "expected at most [0-9]+ widths"),
        ({"header": {"network": "small"}}, "network"),
        (
            {"level_1/head/bias": np.full(3, np.nan)},
            "finite numbers, got NaN or infinity in level_1",
        ),
        ({"level_1/head/bias": np.full(3, 1e39)}, "finite numbers, got NaN or infinity"),
        (
            {"level_1/head/bias": np.zeros(3, complex)},
            "level_1/head/bias to be floating, got complex",
        ),
        (
            {"level_1/head/bias": np.array(["a", "b", "c"])},
            "level_1/head/bias to be floating, got <U1",
        ),
    ],
)
def test_absurd_settings_and_values(tmp_path, params, changes, text):
    save_weights(tmp_path / "w.npz", params, CONFIG)
    _rewrite(tmp_path / "w.npz", **changes)
    with pytest.raises(ValueError, match=rf"weights .*w.npz: .*{text}"):
        load_weights(tmp_path / "w.npz")


def test_what_is_no_archive_of_arrays(tmp_path, params):
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    save_weights(tmp_path / "b.npz", params, CONFIG)
    with zipfile.ZipFile(tmp_path / "b.npz", "a") as archive:
        archive.writestr("notes.txt", "trained on Monday")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(ValueError, match=f"{name}: expected a whole .npz file, got a dam"):
            load_weights(tmp_path / name)
    with pytest.raises(ValueError, match=r"got the folder .*Name the file in it, such as .*npz"):
        load_weights(tmp_path)


def test_a_bomb_is_refused_by_its_shape(tmp_path, params):
    """256 MB of zeros in 256 kB; the shape is refused before a value is read."""
    save_weights(tmp_path / "w.npz", params, CONFIG)
    start = np.lib.format.header_data_from_array_1_0(np.zeros(0, np.float32))
    with zipfile.ZipFile(tmp_path / "w.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("level_1/more.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, {**start, "shape": (2**26,)})
            for _ in range(8):
                file.write(bytes(2**25))
    tracemalloc.start()
    with pytest.raises(ValueError, match="level_1/more to be absent .* got it present"):
        load_weights(tmp_path / "w.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_file_of_another_program(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="expected a header of jaxreg, got none"):
        load_weights(tmp_path / "w.npz")


def test_save_refuses_other_settings_and_names(tmp_path, params):
    with pytest.raises(ValueError, match="params: expected .* to be .* got it"):
        save_weights(tmp_path / "w.npz", params, NetworkConfig(grid=(8, 8, 8), widths=(2, 3)))
    with pytest.raises(ValueError, match="expected a file name ending in .npz"):
        save_weights(tmp_path / "w.bin", params, CONFIG)
    assert not list(tmp_path.iterdir())


def test_the_papers_networks_ship_and_are_those_of_their_configuration():
    params, network = load_named("paper")
    assert network == load_config(config_path("paper_short")).network
    assert sorted(params) == ["level_1", "level_2", "level_3"]
    heads = {level: params[level]["head"]["kernel"] for level in params}
    assert all(np.abs(head).max() > 0 for head in heads.values())
    assert not np.array_equal(heads["level_3"], heads["level_2"])
    np.testing.assert_array_equal(heads["level_2"], heads["level_1"])  # as the model card says
