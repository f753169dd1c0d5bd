"""Settings from and to text: Python files, JSON."""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from jaxreg.config.training import Config, NetworkConfig


def to_json(config: Config | NetworkConfig) -> str:
    """Settings as JSON text, keys in the order of the class."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Settings from JSON text.

    Raises:
        ValueError: the text is no JSON object, or a key or value is not a setting.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"config: expected JSON, got {text[:40]!r} ({error}).") from error
    return _build(Config, tree, "config")


def network_from_dict(tree: Mapping) -> NetworkConfig:
    """Network settings from a dictionary.

    Raises:
        ValueError: a key or value is not a setting.
    """
    return _build(NetworkConfig, tree, "network")


def load_config(path: str | Path) -> Config:
    """Settings of a Python file that defines `config = Config(...)`.

    Returns:
        That `config`.

    Raises:
        ValueError: no such file, a file without `config`, or a setting that does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config: expected a Python file, got {path}, which is not a file.")
    spec = importlib.util.spec_from_file_location(f"jaxreg_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (TypeError, ValueError, SyntaxError, NameError, ImportError, AttributeError) as error:
        raise ValueError(f"config: {path}: {error}") from error
    config = getattr(module, "config", None)
    if not isinstance(config, Config):
        raise ValueError(f"config: expected {path} to set config = Config(...), got {config!r}.")
    return config


def _build(kind, tree, name):
    if not isinstance(tree, Mapping):
        raise ValueError(f"{name}: expected a mapping of settings, got {tree!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(tree) - set(fields))
    if unknown:
        raise ValueError(
            f"{name}: unknown key {', '.join(map(repr, unknown))}. Known keys: {', '.join(fields)}."
        )
    values = {}
    for key, value in tree.items():
        default = fields[key].default
        if dataclasses.is_dataclass(default):
            value = _build(type(default), value, f"{name}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if not isinstance(value, type(default)):
            raise ValueError(f"{name}.{key}: expected a value like {default!r}, got {value!r}.")
        values[key] = value
    return kind(**values)
