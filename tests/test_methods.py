"""What the result of a method depends on, so that no finished case is taken for another."""

import itertools

import jax
import numpy as np
import pytest

from jaxreg.benchmark import methods
from jaxreg.config import CascadeConfig, NetworkConfig, RegistrationConfig, override, with_method
from jaxreg.network.cascade import init_level

sitk = pytest.importorskip("SimpleITK")


def write_field(path, value):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5, 6, 3), value), isVector=True), str(path))


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr", "nii.gz"])
def test_fields_are_known_by_their_content(tmp_path, ending):
    method = methods.outside("tool", tmp_path)
    write_field(tmp_path / f"1.{ending}", 2.0)
    write_field(tmp_path / f"2.{ending}", 2.0)
    first, other = method.settings("1"), method.settings("2")
    assert method.settings("1") == first
    write_field(tmp_path / f"1.{ending}", 3.0)  # of .mhd and .nhdr the header stays the same
    assert method.settings("1") != first and method.settings("2") == other
    method.settings("3")  # missing: reported when it is read


def cascade(network):
    config = RegistrationConfig(network=CascadeConfig(architecture=network))
    return with_method(config, "cascade")


def test_networks_are_known_by_weights_and_settings():
    config = NetworkConfig(grid=(16, 16, 16), levels=1, widths=(2, 2), convs=1)
    params = {"level_1": init_level(jax.random.key(0), config)}
    finer = NetworkConfig(grid=(32, 32, 32), levels=1, widths=(2, 2), convs=1)
    others = {"level_1": init_level(jax.random.key(1), config)}
    known = [
        methods.registering("a", config=cascade(c), params=p).settings("1")
        for p, c in ((params, config), (params, finer), (others, config))
    ]
    assert all(one != other for one, other in itertools.combinations(known, 2))
    settings = methods.registering("classical", config=RegistrationConfig()).settings("1")
    assert settings["weights"] is None and settings["config"]["optimiser"]["smoothness"] == 1.2
    other = override(RegistrationConfig(), "optimiser.smoothness=2")
    assert methods.registering("classical", config=other).settings("1") != settings
