"""Habits of the library as rules, read from the source of every module.

- Every module, public class and public function has a docstring whose first paragraph ends with a
  full stop. Where the function returns something, it says what: by the word "Returns", or, for a
  docstring of one line, by that line. A docstring that describes arguments describes the result.
- Optional arguments are keyword-only, and `key` comes first.
- In a package, a function and a module never share a public name.
"""

import ast
from pathlib import Path

import pytest

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


FUNCTIONS = list(public_functions())
every_function = pytest.mark.parametrize(
    ("function", "is_method"), [f[1:] for f in FUNCTIONS], ids=[f[0] for f in FUNCTIONS]
)


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


@every_function
def test_docstring_says_what_is_returned(function, is_method):
    docstring = ast.get_docstring(function)
    assert docstring, "no docstring"
    first = docstring.split("\n\n")[0]
    assert first.rstrip().endswith((".", ":")), f"first paragraph without a full stop: {first!r}"
    if returns_something(function) and "\n\n" in docstring:
        tiny = "Args:" not in docstring and len(function.body) <= 6
        assert tiny or "Returns" in docstring or "Yields" in docstring, "no Returns"


@every_function
def test_optional_arguments_are_keyword_only(function, is_method):
    optional = function.args.args[len(function.args.args) - len(function.args.defaults) :]
    names = [argument.arg for argument in optional]
    assert not names, f"put * before {names}"


@every_function
def test_key_comes_first(function, is_method):
    arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if is_method and arguments and arguments[0] in ("self", "cls"):
        arguments = arguments[1:]
    everything = arguments + [a.arg for a in function.args.kwonlyargs]
    assert not {"rng_key", "prng_key", "rngs"} & set(everything), "a random key is called key"
    if "key" in everything:
        assert everything[0] == "key", f"key comes first, not {everything}"


@pytest.mark.parametrize("path", PATHS, ids=relative)
def test_modules_and_classes_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no module docstring"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name}: no docstring"


@pytest.mark.parametrize(
    "package", [p for p in PATHS if p.name == "__init__.py"], ids=lambda p: relative(p.parent)
)
def test_no_function_hides_a_module(package):
    """`jaxreg.register` is a function: a module of that name would replace it once imported."""
    modules = {p.stem for p in package.parent.glob("*.py")} | {
        p.name for p in package.parent.iterdir() if (p / "__init__.py").is_file()
    }
    names = set()
    for node in ast.parse(package.read_text(encoding="utf-8")).body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ImportFrom) and node.module != relative(package.parent).replace(
            "/", "."
        ):  # importing the module itself by its own name hides nothing
            names |= {alias.asname or alias.name for alias in node.names}
    assert not names & modules, f"both a module and a function: {sorted(names & modules)}"
