"""Settings: what is refused and with which words, and the way through JSON and files."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxreg.config import (
    AugmentationConfig,
    Config,
    LossConfig,
    LungGridConfig,
    NetworkConfig,
    OptimiserConfig,
    RegistrationConfig,
    SyntheticConfig,
    TrainingConfig,
    TrustConfig,
    from_json,
    load_config,
    network_from_dict,
    to_json,
    with_levels,
)
from jaxreg.configs import config_names, config_path

CONFIG = Config(
    network=NetworkConfig(grid=(48, 40, 32), levels=2, widths=(4, 8), precision="bfloat16"),
    loss=LossConfig(keypoints=(0.5, 0.0), volume_threshold=(0.1, 0.2), edge=2.5),
    training=TrainingConfig(steps=(3, 4), batch=(2, 1), blocks=(1, 1), seed=7, augment=False),
)


def test_defaults_are_the_papers_network():
    network = Config().network
    assert (network.grid, network.levels) == ((192, 160, 192), 3)
    assert network.widths == (16, 32, 64, 128)
    assert Config().loss.volume_threshold == (0.05, 0.1, 0.2)
    assert Config().training.steps == (18750, 18750, 18750)  # 25 epochs of 750 pairs


@pytest.mark.parametrize("config", [Config(), CONFIG], ids=["defaults", "changed"])
def test_json_and_back(config):
    assert from_json(to_json(config)) == config
    assert from_json(json.dumps(dataclasses.asdict(config))) == config
    assert network_from_dict(json.loads(to_json(config.network))) == config.network
    assert hash(from_json(to_json(config))) == hash(config)  # lists came back as tuples


def test_part_of_the_settings_is_enough():
    config = from_json('{"training": {"seed": 3}}')
    assert config == Config(training=TrainingConfig(seed=3))


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (
            {"netwrok": {}},
            "config: unknown key 'netwrok'. Did you mean network? Known keys: network, loss, "
            "training, synthetic, augmentation.",
        ),
        ({"loss": {"alpha": 1, "beta": 2}}, "config.loss: unknown key 'alpha', 'beta'. Known keys"),
        ({"loss": 3}, "config.loss: expected a mapping of settings, got 3."),
        ([1], "config: expected a mapping of settings, got [1]."),
        ({"network": {"levels": "3"}}, "config.network.levels: expected a whole number, got '3'."),
        (
            {"network": {"grid": 64}},
            "config.network.grid: expected a list (each a whole number), got 64.",
        ),
    ],
)
def test_unknown_settings_are_refused(tree, text):
    with pytest.raises(ValueError) as error:
        from_json(json.dumps(tree))
    assert str(error.value).startswith(text)


def test_whole_numbers_will_do_for_weights():
    assert from_json('{"loss": {"smoothness": 2}}').loss == LossConfig(smoothness=2.0)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match=r"config: expected JSON, got '\{network' \(Expecting"):
        from_json("{network")


def test_misspelt_keyword_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'level'"):
        NetworkConfig(level=3)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (NetworkConfig, {"levels": 0}, "levels: expected at least 1, got 0. Use 3, as the paper."),
        (NetworkConfig, {"widths": ()}, "widths: expected one positive number of filters"),
        (NetworkConfig, {"widths": (16, 0)}, "widths: expected one positive number of filters"),
        (NetworkConfig, {"convs": 0}, "convs: expected at least 1, got 0. Use 2."),
        (
            NetworkConfig,
            {"grid": (64, 31, 64)},
            "grid: expected at least 32 voxels an axis, for the deepest layer of level 3, "
            "got (64, 31, 64). Use a larger grid or fewer levels.",
        ),
        (
            NetworkConfig,
            {"precision": "half"},
            'precision: expected "float32" or "bfloat16", got half. Only convolutions',
        ),
        (
            NetworkConfig,
            {"window": (0.0, -1.0)},
            "window: expected two HU, the lower first, got (0.0",
        ),
        (NetworkConfig, {"channels": 0}, "channels: expected at least 1, got 0. Use 4."),
        (NetworkConfig, {"noise_hu": 0.0}, "noise_hu: expected a number above 0, got 0.0. Leave"),
        (NetworkConfig, {"most_logit": 0.0}, "most_logit: expected a number above 0, got 0.0."),
        (NetworkConfig, {"faint": -0.1}, "faint: expected a number above 0, got -0.1. Leave it"),
        (NetworkConfig, {"damping": 0.0}, "damping: expected a number above 0, got 0.0. Leave it"),
        (NetworkConfig, {"radius": 0}, "radius: expected at least 1, got 0. Use 2."),
        (NetworkConfig, {"balance": -1.0}, "balance: expected a number >= 0, got -1.0. Use 50."),
        (NetworkConfig, {"most_balance": 0.5}, "most_balance: expected a factor of at least 1"),
        (NetworkConfig, {"longest_step": 1.0}, "longest_step: expected a number of voxels between"),
        (
            OptimiserConfig,
            {"largest_ratio": 1.0},
            "optimiser.largest_ratio: expected a number from 0 to",
        ),
        (LungGridConfig, {"shapes": ()}, "grid.shapes: expected at least one shape, got ()."),
        (LungGridConfig, {"per_voxel": 0.0}, "per_voxel: expected a number above 0, got 0.0."),
        (
            LungGridConfig,
            {"shapes": ((64, 64, 64), (32, 32, 32))},
            "grid.shapes, in voxels: expected numbers in rising order",
        ),
        (
            LungGridConfig,
            {"shapes": ((64, 64, 8),)},
            "grid.shapes: expected three whole numbers of at least 16 voxels, got (64, 64, 8).",
        ),
        (
            TrustConfig,
            {"shape": (64, 64, 8)},
            "trust.shape: expected three whole numbers of at least 16 voxels, got (64, 64, 8).",
        ),
        (
            RegistrationConfig,
            {"field_spacing_mm": -1.0},
            "field_spacing_mm: expected a voxel size in mm, or 0 for the grid of the fixed image",
        ),
        (
            OptimiserConfig,
            {"balance": -1.0},
            "optimiser.balance: expected a number >= 0, got -1.0. Use",
        ),
        (
            OptimiserConfig,
            {"most_balance": 0.5},
            "optimiser.most_balance: expected a factor of at least 1",
        ),
        (NetworkConfig, {"rounds": (2, 2)}, "rounds: expected one number >= 1, or 3, got (2, 2)."),
        (NetworkConfig, {"by_hand": 1}, "by_hand: expected 0, or with least squares fewer than"),
        (NetworkConfig, {"architecture": "vit"}, 'architecture: expected "unet" or "least_squar'),
        (SyntheticConfig, {"identical": 1.5}, "identical: expected a number from 0 to 1, got 1.5."),
        (
            SyntheticConfig,
            {"residual_mm": (5.0, 1.0)},
            "residual_mm: expected 0 < least <= most, g",
        ),
        (SyntheticConfig, {"smooth": (0.1, 1.2)}, "smooth: expected fractions from 0 to 1, got"),
        (
            SyntheticConfig,
            {"slab": (0.1, 1.5)},
            "slab: expected fractions from 0 to 1, got (0.1,",
        ),
        (SyntheticConfig, {"lesion_mm": (9.0, 3.0)}, "lesion_mm: expected 0 < least <= most, got"),
        (SyntheticConfig, {"lesion_hu": ()}, "lesion_hu: expected at least one kind, got ()."),
        (SyntheticConfig, {"other_phase": 1.5}, "other_phase: expected a number from 0 to 1, got"),
        (AugmentationConfig, {"noise_hu": -1.0}, "noise_hu: expected a number >= 0, got -1.0."),
        (AugmentationConfig, {"control_points": 1}, "control_points: expected at least 2, got 1."),
        (AugmentationConfig, {"inverse_steps": 0}, "inverse_steps: expected at least 1, got 0."),
        (SyntheticConfig, {"waves": ()}, "waves: expected lengths of at least 1 voxel, got ()."),
        (SyntheticConfig, {"lesions": 0}, "lesions: expected at least 1, got 0. Use 4."),
        (SyntheticConfig, {"noise_hu": -1.0}, "noise_hu: expected a number >= 0, got -1.0. Use 0."),
        (LossConfig, {"distance": -1.0}, "distance: expected a number >= 0, got -1.0. 0 switches"),
        (LossConfig, {"lncc": -1.0}, "lncc: expected a number >= 0, got -1.0. 0 switches the term"),
        (LossConfig, {"smoothness": -1.0}, "smoothness: expected a number >= 0, got -1.0. 0 swit"),
        (LossConfig, {"keypoints": (1.0, -1.0, 0.0)}, "keypoints: expected numbers >= 0, got (1.0"),
        (LossConfig, {"volume_threshold": (0.1, 1.0, 0.2)}, "volume_threshold: expected numbers b"),
        (
            TrainingConfig,
            {"batch": (1, 0, 1)},
            "batch: expected >= 1 a level, got (1, 0, 1). Use 1.",
        ),
        (TrainingConfig, {"learning_rate": 0.0}, "learning_rate: expected > 0, got 0.0. Adam's is"),
        (TrainingConfig, {"steps": (1, -1, 1)}, "steps: expected >= 0 a level, got (1, -1, 1)."),
        (
            Config,
            {"loss": LossConfig(keypoints=(1.0, 1.0))},
            "loss.keypoints: expected 3 values, one a level, got (1.0, 1.0). Give one value for",
        ),
        (Config, {"network": NetworkConfig(levels=1)}, "loss.keypoints: expected 1 values, one a"),
        (
            Config,
            {"training": TrainingConfig(steps=(1,))},
            "training.steps: expected 3 values, one a level, got (1,).",
        ),
    ],
)
def test_impossible_values_are_refused(kind, settings, text):
    with pytest.raises(ValueError) as error:
        kind(**settings)
    assert str(error.value).startswith(text)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().network.levels = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_config_from_a_file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(
        "from jaxreg.config import Config, TrainingConfig\n"
        "config = Config(training=TrainingConfig(seed=5))\n",
        encoding="utf-8",
    )
    assert load_config(path) == Config(training=TrainingConfig(seed=5))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\n", "to set config = Config(...), got None."),
        ("config = {'seed': 1}\n", "to set config = Config(...), got {'seed': 1}."),
        (
            "from jaxreg.config import *\nconfig = Config(lr=1)\n",
            "unexpected keyword argument 'lr'",
        ),
        ("from jaxreg.config import *\nconfig = NetworkConfig(levels=0)\n", "levels: expected at"),
        ("config = Config()\n", "name 'Config' is not defined"),
        ("config = (\n", "was never closed"),
    ],
)
def test_bad_config_files_are_refused(tmp_path, source, text):
    path = tmp_path / "bad.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load_config(path)
    assert str(error.value).startswith("config: ")
    assert "bad.py" in str(error.value)
    assert text in str(error.value)


def test_missing_config_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="config: expected a Python file, got .*none.py, which is"):
        load_config(tmp_path / "none.py")


def test_fewer_levels_keep_the_finest():
    config = with_levels(Config(), (7, 9))
    assert (config.network.levels, config.training.steps) == (2, (7, 9))
    assert config.loss.volume_threshold == (0.05, 0.1)
    assert config.network.grid == Config().network.grid


@pytest.mark.parametrize("name", config_names())
def test_every_config_that_ships_loads(name):
    levels = {"ablation/L1": 1, "ablation/L2": 2, "voxelmorph": 1, "cascade": 4}
    assert load_config(config_path(name)).network.levels == levels.get(name, 3)


@pytest.mark.parametrize("name", ["cascade", "cascade.py", "configs/cascade.py"])
def test_a_config_is_found_by_its_name_or_as_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load_config(config_path(name)).network.architecture == "least_squares"
    own = tmp_path / "configs" / "cascade.py"
    own.parent.mkdir()
    own.write_text("from jaxreg.config import Config\nconfig = Config()\n", encoding="utf-8")
    assert config_path("configs/cascade.py") == Path("configs/cascade.py")  # the user's is first


@pytest.mark.parametrize("name", ["smal", "ablation", "__init__", "../config/text.py"])
def test_a_config_that_does_not_exist_is_named_with_those_that_do(name):
    words = f"--config: expected a Python file or one of ablation/L1, .*cascade.*, got '{name}'"
    with pytest.raises(ValueError, match=words):
        config_path(name)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("beta0", {"loss.masks"}),
        ("gamma0", {"loss.volume"}),
        ("delta0", {"loss.keypoints"}),
    ],
)
def test_ablations_change_one_setting(name, changed):
    configs = [load_config(config_path(f"ablation/{p}")) for p in ("proposed", name)]
    one, other = (dataclasses.asdict(config) for config in configs)
    differ = {f"{g}.{k}" for g in one for k in one[g] if one[g][k] != other[g][k]}
    assert differ == changed


def test_the_paper_is_what_the_paper_says():
    """Hering et al. 2021, sections 3.1 to 3.4 and 4.3."""
    config = load_config(config_path("paper"))
    network, loss, training = config.network, config.loss, config.training
    assert (network.grid, network.levels) == ((192, 160, 192), 3)
    assert (network.architecture, network.widths) == ("unet", (16, 32, 64, 128))
    assert (loss.similarity, loss.smoothness, loss.masks, loss.volume) == (1.0, 10.0, 1.0, 0.01)
    assert (loss.lncc, loss.diffusion, loss.distance) == (0.0, 0.0, 0.0)
    assert loss.keypoints[2] == 0.0 < loss.keypoints[1] == loss.keypoints[0]
    assert loss.volume_threshold == (0.05, 0.1, 0.2)
    # <f, g>_e is the sum over three axes of f_j g_j + eps^2 with eps = 1
    assert loss.edge**2 == pytest.approx(3.0)
    assert training.steps == (25 * 750,) * 3 and training.batch == (1, 1, 1)
    assert (training.learning_rate, training.warmup, training.decay) == (1e-3, 0, 1.0)
    assert not training.augment


@pytest.mark.parametrize(("levels", "thresholds"), [(1, (0.05,)), (2, (0.05, 0.1))])
def test_fewer_levels_of_the_paper_keep_the_thresholds_of_their_levels(levels, thresholds):
    config = with_levels(load_config(config_path("paper")), (10,) * levels)
    assert config.loss.volume_threshold == thresholds
    assert all(weight > 0.0 for weight in config.loss.keypoints)
    assert not config.training.augment


def test_the_small_paper_differs_in_grid_and_data_alone():
    paper, small = (
        dataclasses.asdict(load_config(config_path(n))) for n in ("paper", "paper_small")
    )
    assert small["loss"] == paper["loss"]
    differ = {k for k, v in small["network"].items() if paper["network"][k] != v}
    assert differ == {"grid"}
    differ = {k for k, v in small["training"].items() if paper["training"][k] != v}
    assert differ == {"subjects", "detected", "log_every", "checkpoint_every"}
