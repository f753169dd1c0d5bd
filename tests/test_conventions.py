"""Habits of the library as rules, read from the source of every module.

- Every module, public class and public function has a docstring whose first paragraph ends with a
  full stop. Where the function returns something, it says what: by the word "Returns", or, for a
  docstring of one line, by that line. A docstring that describes arguments describes the result.
- Optional arguments are keyword-only, and `key` comes first.
- In a package, a function and a module never share a public name.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted((ROOT / "jaxreg").rglob("*.py"))
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def relative(path):
    return path.relative_to(ROOT).as_posix()


def public_functions():
    """(label, function, whether it is a method) of everything a user can call by name."""
    for path in PATHS:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, FUNCTION) and not node.name.startswith("_"):
                yield f"{relative(path)}:{node.name}", node, False
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for item in node.body:
                    if isinstance(item, FUNCTION) and not item.name.startswith("_"):
                        yield f"{relative(path)}:{node.name}.{item.name}", item, True


def own_nodes(function):
    """Nodes of a function without those of functions defined within it."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))


def returns_something(function):
    return any(
        (isinstance(node, ast.Return) and node.value is not None)
        or isinstance(node, (ast.Yield, ast.YieldFrom))
        for node in own_nodes(function)
    )


def test_docstrings_say_what_is_returned():
    wrong = []
    for label, function, _ in public_functions():
        docstring = ast.get_docstring(function) or ""
        first = docstring.split("\n\n")[0]
        if not first.rstrip().endswith((".", ":")):
            wrong.append(f"{label}: expected a paragraph that ends with a full stop, got {first!r}")
        if returns_something(function) and "\n\n" in docstring:
            tiny = "Args:" not in docstring and len(function.body) <= 6
            if not (tiny or "Returns" in docstring or "Yields" in docstring):
                wrong.append(f"{label}: no Returns")
    assert not wrong, "\n".join(wrong)


def test_optional_arguments_are_keyword_only():
    wrong = []
    for label, function, _ in public_functions():
        optional = function.args.args[len(function.args.args) - len(function.args.defaults) :]
        if optional:
            wrong.append(f"{label}: put * before {[argument.arg for argument in optional]}")
    assert not wrong, "\n".join(wrong)


def test_key_comes_first():
    wrong = []
    for label, function, is_method in public_functions():
        arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if is_method and arguments and arguments[0] in ("self", "cls"):
            arguments = arguments[1:]
        arguments += [a.arg for a in function.args.kwonlyargs]
        if {"rng_key", "prng_key", "rngs"} & set(arguments):
            wrong.append(f"{label}: a random key is called key")
        if "key" in arguments and arguments[0] != "key":
            wrong.append(f"{label}: key comes first, not {arguments}")
    assert not wrong, "\n".join(wrong)


def test_modules_and_classes_have_docstrings():
    wrong = []
    for path in PATHS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        bare = [node for node in (tree, *classes) if not ast.get_docstring(node)]
        wrong += [f"{relative(path)}: {getattr(node, 'name', 'the module')}" for node in bare]
    assert not wrong, "no docstring:\n" + "\n".join(wrong)


def test_no_function_hides_a_module():
    """`jaxreg.register` is a function: a module of that name would replace it once imported."""
    wrong = []
    for package in (path for path in PATHS if path.name == "__init__.py"):
        modules = {p.stem for p in package.parent.glob("*.py")} | {
            p.name for p in package.parent.iterdir() if (p / "__init__.py").is_file()
        }
        hidden = sorted(_names_of(package) & modules)
        wrong += [f"{relative(package)}: {name}" for name in hidden]
    assert not wrong, "both a module and a function:\n" + "\n".join(wrong)


def _names_of(package):
    """Functions, classes and imports of a package's __init__."""
    names = set()
    for node in ast.parse(package.read_text(encoding="utf-8")).body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ImportFrom) and node.module != relative(package.parent).replace(
            "/", "."
        ):  # importing the module itself by its own name hides nothing
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_the_rules_see_functions_and_methods():
    labels = {label: is_method for label, _, is_method in public_functions()}
    assert labels["jaxreg/ops/deformation.py:compose"] is False
    assert labels["jaxreg/geometry/grid.py:Grid.world_from_voxel"] is True
    assert len(labels) > 200
