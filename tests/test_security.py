"""Files are data: nothing in the package runs code from a file, but the reader of training configs.

SECURITY.md says so to users; here it is read from the source of every module.
"""

import ast
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from training_pairs import write_pairs

from jaxreg.config import NetworkConfig, read_registration_config
from jaxreg.figures.thumbnails import read_thumbnail
from jaxreg.network.weights import load_weights
from jaxreg.training.pairs import read_pair

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "runpy",
    "yaml",
)
CALLS = ("eval", "exec", "compile", "exec_module", "__import__", "system", "popen", "loads_pickle")
# Imports a file by its path (a training configuration), and modules of the package by their names.
ALLOWED = {"jaxreg/config/text.py: exec_module"}


def dangers(source):
    """What a module imports or calls that could run code, or read pickled objects."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            re_compile = ast.unparse(node.func) == "re.compile" or "jit" in ast.unparse(node.func)
            shell = any(k.arg == "shell" for k in node.keywords)
            pickles = any(
                k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords
            )
            if (name in CALLS and not re_compile) or shell or pickles:
                yield name


def test_no_module_runs_code_from_a_file():
    found = set()
    for path in sorted((ROOT / "jaxreg").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        found |= {f"{name}: {danger}" for danger in dangers(path.read_text(encoding="utf-8"))}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(words, shell=True)",
        "exec(text)",
        "os.system(text)",
    ],
)
def test_the_rule_sees(source):
    assert list(dangers(source))


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickled object was loaded",)


def with_bomb(path, name):
    """Replaces an array of an .npz file by pickled objects."""
    with np.load(path) as archive:
        arrays = dict(archive)
    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    arrays[name] = bomb
    np.savez(path, **arrays)
    return path


def test_pickled_objects_in_prepared_pairs_are_refused(tmp_path):
    write_pairs(tmp_path, [0])
    path = next(tmp_path.glob("*.npz"))
    with np.load(path) as archive:
        name = archive.files[0]
    with pytest.raises(ValueError, match="allow_pickle"):
        read_pair(with_bomb(path, name))


def test_pickled_objects_in_weights_and_thumbnails_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes((ROOT / "jaxreg/weights/lung.npz").read_bytes())
    with pytest.raises(ValueError, match=r"weights\.npz: expected"):
        load_weights(with_bomb(path, "header"))
    thumbnail = tmp_path / "thumbnail.npz"
    np.savez(thumbnail, fixed=np.zeros(3))
    assert read_thumbnail(with_bomb(thumbnail, "fixed")) is None


def test_a_pickle_is_no_configuration(tmp_path):
    path = tmp_path / "settings.json"
    stream = io.BytesIO()
    pickle.dump(NetworkConfig(), stream)
    path.write_bytes(stream.getvalue())
    with pytest.raises(ValueError):
        read_registration_config(path)
