"""Settings from and to text: JSON, Python files, and single overrides."""

import dataclasses
import importlib.util
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jaxreg.config.network import NetworkConfig
from jaxreg.config.registration import RegistrationConfig
from jaxreg.config.suggestions import close_names
from jaxreg.config.training import Config

Settings = TypeVar("Settings")


def to_json(config: Any) -> str:
    """Settings as JSON text, keys in the order of the class."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Settings of a training from JSON text.

    Raises:
        ValueError: the text is no JSON object, or a key or value is not a setting.
    """
    return _build(Config, _parsed(text, "config"), "config")


def network_from_dict(tree: Mapping) -> NetworkConfig:
    """Network settings from a dictionary.

    Raises:
        ValueError: a key or value is not a setting.
    """
    return _build(NetworkConfig, tree, "network")


def registration_from_dict(tree: Mapping) -> RegistrationConfig:
    """Settings of a registration from nested dictionaries; those that are absent are defaults.

    Raises:
        ValueError: a key or value is not a setting.
    """
    return _build(RegistrationConfig, tree, "config")


def read_registration_config(path: str | Path) -> RegistrationConfig:
    """Settings of a registration from a JSON file: settings alone, or a `summary.json`.

    Raises:
        ValueError: no such file, no JSON object, or a key or value is not a setting.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config: expected a JSON file, got {path}, which is not a file.")
    tree = _parsed(path.read_text(encoding="utf-8"), f"config {path}")
    if isinstance(tree, Mapping) and "config" in tree:  # a summary.json
        tree = tree["config"]
    return _build(RegistrationConfig, tree, f"config {path}")


def override(config: Settings, assignment: str) -> Settings:
    """The settings with one of them changed, "optimiser.smoothness=0.5".

    Args:
        config: settings, with groups or without.
        assignment: dotted name, "=", and a value in JSON; a value that is no JSON is a string.

    Returns:
        Settings of the same class.

    Raises:
        ValueError: no such setting, or no such value.
    """
    name, equals, text = assignment.partition("=")
    if not equals:
        raise ValueError(
            f"set: expected KEY=VALUE, got {assignment!r}. Example: optimiser.radius=3"
        )
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    tree = dataclasses.asdict(typing.cast(Any, config))
    node, path = tree, name.strip().split(".")
    for depth, key in enumerate(path[:-1], start=1):
        if not isinstance(node.get(key), dict):
            group = ".".join(path[:depth])
            raise ValueError(f"set: unknown group {group!r}. {_known(key, node)}")
        node = node[key]
    node[path[-1]] = value
    return _build(type(config), tree, "config")


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


def _known(wrong: str, keys: Iterable[str]) -> str:
    """The key that was meant, if one is like it, and all that there are."""
    near = close_names(wrong, keys)
    return f"{near} Known keys: {', '.join(keys)}." if near else f"Known keys: {', '.join(keys)}."


def _parsed(text, name):
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: expected JSON, got {text[:40]!r} ({error}).") from error


def _build(kind: type[Settings], tree: Any, name: str) -> Settings:
    """An object of a class of settings from nested dictionaries and lists."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"{name}: expected a mapping of settings, got {tree!r}.")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(tree) - set(hints))
    if unknown:
        raise ValueError(
            f"{name}: unknown key {', '.join(map(repr, unknown))}. {_known(unknown[0], hints)}"
        )
    values = {key: _value(hints[key], value, f"{name}.{key}") for key, value in tree.items()}
    try:
        return kind(**values)
    except TypeError as error:  # a setting without a default is absent
        raise ValueError(f"{name}: {error}") from error


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value of a type, from what JSON makes of it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else _build(hint, value, name)
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if value is None else _value(arguments[0], value, name)
    if origin is tuple and isinstance(value, (list, tuple)):
        same = arguments[-1] is Ellipsis
        kinds = [arguments[0]] * len(value) if same else arguments
        if len(kinds) == len(value):
            items = zip(kinds, value, strict=True)
            return tuple(_value(kind, item, name) for kind, item in items)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name}: expected {_wording(hint)}, got {value!r}.")


def _wording(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        count = "" if kinds[-1] is Ellipsis else f"{len(kinds)} values, "
        return f"a list ({count}each {_wording(kinds[0])})"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(hint, "a group of settings")
