"""Training configurations that ship: each file here sets `config = Config(...)`.

`jaxreg train --config cascade` takes the one of that name, `--config ablation/L1` one in a folder.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def config_names() -> tuple[str, ...]:
    """Names of the configurations that ship, such as "cascade" and "ablation/L1"."""
    files = (path.relative_to(_FOLDER) for path in _FOLDER.rglob("*.py") if path.stem != "__init__")
    return tuple(sorted(path.with_suffix("").as_posix() for path in files))


def config_path(name: str) -> Path:
    """File of a configuration: `name` itself where it is a file, else the one that ships.

    Args:
        name: path of a Python file, or a name of `config_names`, which may be written as a path
            in the folder of the configurations ("configs/cascade.py").

    Returns:
        Path for `jaxreg.config.load_config`.

    Raises:
        ValueError: neither a file nor a name that ships.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = path.as_posix().removeprefix("configs/").removesuffix(".py")
    if shipped not in config_names():
        raise ValueError(
            f"--config: expected a Python file or one of {', '.join(config_names())}, got "
            f"{name!r}. Correct the name."
        )
    return _FOLDER / f"{shipped}.py"
