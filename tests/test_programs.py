"""Traced programs kept on disk: the same results, traced once, and never missed."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.engine import gauss_newton
from jaxreg.engine.gauss_newton import level_shapes, prepare, refine
from jaxreg.ops.programs import Kept

IMAGE = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def folder(tmp_path):
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "jaxreg-programs"
    jax.config.update("jax_compilation_cache_dir", before)


def counted():
    """A function, and a list that grows whenever it is traced."""
    traces = []

    def function(pair, shift, *, power):
        traces.append(power)
        first, second = pair
        return jnp.sin(first) ** power + second * shift

    return function, traces


def run(function, power=2, image=IMAGE):
    return np.asarray(Kept(function, static=("power",))((image, image), np.float32(3), power=power))


def files(folder):
    return sorted(folder.glob("*")) if folder.exists() else []


def test_a_later_process_does_not_trace(folder):
    (first, traces), (later, none) = counted(), counted()
    jitted = jax.jit(counted()[0], static_argnames="power")
    wanted = jitted((IMAGE, IMAGE), np.float32(3), power=2)
    assert np.array_equal(run(first), wanted)
    assert np.array_equal(run(later), wanted)
    assert (traces, none) == ([2], [])
    assert len(files(folder)) == 1


def test_other_settings_shapes_and_flags_are_other_programs(folder):
    run(counted()[0])
    np.testing.assert_allclose(
        run(counted()[0], power=3), np.sin(IMAGE) ** 3 + IMAGE * 3, rtol=1e-5
    )
    run(counted()[0], image=IMAGE[:1])
    with jax.enable_x64(True):
        run(counted()[0])
    assert len(files(folder)) == 4


@pytest.mark.parametrize("damage", [b"", b"no program", None])
def test_a_damaged_file_is_replaced(folder, damage):
    wanted = run(counted()[0])
    (file,) = files(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    again, traces = counted()
    assert np.array_equal(run(again), wanted)
    last, none = counted()
    assert np.array_equal(run(last), wanted)
    assert (traces, none) == ([2], [])


def test_within_a_transformation_it_is_jit_alone(folder):
    function = Kept(counted()[0], static=("power",))
    images = np.stack([IMAGE, 2 * IMAGE])
    mapped = jax.vmap(lambda image: function((image, image), 3.0, power=2))(images)
    np.testing.assert_allclose(mapped, np.sin(images) ** 2 + 3 * images, rtol=1e-6)
    slope = jax.grad(lambda x: function((x, x), 3.0, power=2))(0.5)
    np.testing.assert_allclose(slope, np.sin(1.0) + 3, rtol=1e-6)
    assert not files(folder)


def test_a_folder_that_cannot_be_written_is_not_missed(folder):
    folder.write_text("a file where the folder should be", encoding="utf-8")
    function, traces = counted()
    np.testing.assert_allclose(run(function), np.sin(IMAGE) ** 2 + 3 * IMAGE, rtol=1e-6)
    assert traces == [2]


@pytest.mark.parametrize("name", ["gs://bucket/cache", "", None])
def test_a_cache_elsewhere_or_none_makes_no_file(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(jax.config.values, "jax_compilation_cache_dir", name)
    run(counted()[0])
    assert not list(tmp_path.iterdir())


def test_a_program_loaded_before_is_not_traced_and_nothing_is_made_for_it(folder):
    function, traces = counted()
    program = Kept(function, static=("power",))
    of_type = jax.ShapeDtypeStruct(IMAGE.shape, IMAGE.dtype)
    number = jax.ShapeDtypeStruct((), np.float32)
    program.load((of_type, of_type), number, power=2)
    assert not files(folder)
    wanted = run(counted()[0])
    program.load((of_type, of_type), number, power=2)
    for file in files(folder):
        file.unlink()
    assert np.array_equal(program((IMAGE, IMAGE), np.float32(3), power=2), wanted)
    assert traces == []
    assert not files(folder)


def test_threads_that_want_one_program_share_it(folder):
    function, traces = counted()
    program = Kept(function, static=("power",))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: program((IMAGE, IMAGE), np.float32(n), power=2), range(8)))
    for n, values in enumerate(found):
        np.testing.assert_allclose(values, np.sin(IMAGE) ** 2 + n * IMAGE, rtol=1e-6)
    assert traces == [2]


def test_a_tree_of_arrays_is_returned_as_it_is(folder):
    for _ in range(2):  # made, then read
        double, pair = Kept(lambda x: (2 * x, [x + 1]), static=())(IMAGE)
        assert np.array_equal(double, 2 * IMAGE)
        assert np.array_equal(pair[0], IMAGE + 1)


def programs_of(shape):
    """How many the optimiser needs: levels, reductions between them, and the last resizing."""
    levels = level_shapes(shape, coarsest=16)
    return 2 * len(levels) + (levels[-1] != shape)


@pytest.mark.slow
def test_all_programs_of_the_optimiser_can_be_loaded_before(folder):
    shape = (40, 32, 32)
    images = np.random.default_rng(6).normal(-700, 150, (2, *shape)).astype(np.float32)
    kinds = (gauss_newton._run_level, gauss_newton._resized, gauss_newton._finish)

    def refined():
        whole = np.ones(shape)
        return refine(*images, whole, spacing_mm=(2, 2, 3), moving_mask=whole)

    wanted = refined()
    for kind in kinds:
        kind._programs.clear()
    prepare(shape)
    assert sum(len(kind._programs) for kind in kinds) == programs_of(shape)
    assert np.array_equal(refined(), wanted)
    assert sum(len(kind._programs) for kind in kinds) == programs_of(shape)


@pytest.mark.slow
def test_the_optimiser_gives_the_same_bits_kept_or_not(folder):
    rng = np.random.default_rng(5)
    images = (-700 + 150 * rng.normal(size=(2, 40, 32, 36))).astype(np.float32)
    found = []
    for cache in (str(folder.parent), None):
        jax.config.update("jax_compilation_cache_dir", cache)
        found.append(refine(*images, np.ones(images[0].shape), spacing_mm=(1.5, 2.0, 1.8)))
    assert len(files(folder)) == programs_of(images[0].shape)
    assert np.abs(found[0]).max() > 0
    assert np.array_equal(*found)


def test_a_program_that_cannot_be_written_whole_leaves_nothing(folder, monkeypatch):
    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    np.testing.assert_allclose(run(counted()[0]), np.sin(IMAGE) ** 2 + 3 * IMAGE, rtol=1e-6)
    assert folder.exists() and not files(folder)
