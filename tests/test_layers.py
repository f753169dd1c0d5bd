"""Imports go strictly downward and the library keeps quiet: read from the source, not imported."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxreg"

# Lowest first. Units on one line must not import each other; inside a unit any order without a
# circle will do. "jaxreg" is the package's own __init__: the public names, which only cli may use.
LAYERS = (
    ("config", "weights"),
    ("configs", "ops"),
    ("geometry",),
    ("io", "lungs", "phantom"),
    ("datasets", "figures", "metrics"),
    ("engine",),
    ("network", "trust"),
    ("pipeline",),
    ("training", "benchmark"),
    ("jaxreg",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {unit: height for height, layer in enumerate(LAYERS) for unit in layer}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def unit(module):
    """The entry of LAYERS that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(module, *, top_level_only=False):
    """Modules of jaxreg that a module imports, also within functions, with line numbers."""
    tree = TREES[module]
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # "from . import x" within a package
                package = module if MODULES[module].name == "__init__.py" else parent(module)
                for _ in range(node.level - 1):
                    package = parent(package)
                base = f"{package}.{base}" if base else package
            joined = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in joined]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "jaxreg":
                yield name, node.lineno


def parent(module):
    return module.rpartition(".")[0]


def test_every_module_has_a_layer():
    unknown = sorted({unit(module) for module in MODULES} - set(HEIGHT))
    assert not unknown, f"not in LAYERS: {unknown}"


def test_imports_go_strictly_downward():
    wrong = [
        f"{module}, line {line}: imports {name}"
        for module in MODULES
        for name, line in imports(module)
        if unit(name) != unit(module) and HEIGHT[unit(name)] >= HEIGHT[unit(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_circle():
    """Depth-first walk; a module met again while it is still open closes a circle."""
    state = {}

    def visit(module, path):
        assert state.get(module) != "open", f"circle: {' -> '.join([*path, module])}"
        if module in state:
            return
        state[module] = "open"
        for name, _ in imports(module):
            if name in MODULES and name != module:
                visit(name, [*path, module])
        state[module] = "done"

    for module in MODULES:
        visit(module, [])


def test_no_module_prints():
    """The command line speaks to its user; everything below it returns or logs."""
    wrong = [
        f"{module}, line {node.lineno}"
        for module in sorted(MODULES)
        if unit(module) != "cli"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint")
    ]
    assert not wrong, "print; return it or use logging:\n" + "\n".join(wrong)


def test_the_walk_sees_imports_in_functions_and_relative_ones():
    source = "def f():\n    from jaxreg.ops import pyramid\nfrom . import config\n"
    TREES["jaxreg.sample"], MODULES["jaxreg.sample"] = ast.parse(source), PACKAGE / "sample.py"
    try:
        found = {name for name, _ in imports("jaxreg.sample")}
    finally:
        del TREES["jaxreg.sample"], MODULES["jaxreg.sample"]
    assert found == {"jaxreg.ops.pyramid", "jaxreg.config"}


def project_files():
    """Text files of the project, without what is generated beside them."""
    kinds = {
        ".py",
        ".md",
        ".toml",
        ".json",
        ".cfg",
        ".yml",
        ".yaml",
        ".cff",
        ".sh",
        ".txt",
        ".csv",
        "",
    }
    folders = ("jaxreg", "tests", "benchmarks", "docs", ".ci")
    # .git is a file in a worktree
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in files if path.suffix in kinds and "__pycache__" not in path.parts]


# A path from the root of one machine's file system, or of a drive.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}/:*-])/(?:home|root|work|mnt|media|scratch|workspace|Users)/[\w.]"
    r"|\b[A-Z]:\\{1,2}[A-Za-z]"
)


def test_no_file_holds_a_path_of_one_machine():
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in project_files()
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if MACHINE_PATH.search(line)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("folder", ["home", "work", "Users"])
def test_machine_paths_are_recognised(folder):
    assert MACHINE_PATH.search(f'open("/{folder}/me/scan.nii.gz")')
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/me and ./{folder}/me")


def test_benchmarks_import_what_there_is():
    """They are run by hand only: a name that moved would be found late."""
    missing = []
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxreg"):
                module = importlib.import_module(str(node.module))
                missing += [
                    f"{path.name}: {node.module}.{name.name}"
                    for name in node.names
                    if not hasattr(module, name.name)
                    and f"{node.module}.{name.name}" not in MODULES
                ]
    assert not missing
