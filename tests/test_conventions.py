"""Habits of the library as rules, read from the source of every module.

- Every module, public class and public function has a docstring whose first paragraph ends with a
  full stop. Where the function returns something, it says what: by the word "Returns", or, for a
  docstring of one line, by that line. A docstring that describes arguments describes the result.
- Two or more arguments stand under "Args:", and what is raised under "Raises:", also where a
  private function of the module raises it. Exceptions: click commands, whose docstring is their
  help, and a function whose first line says what it raises.
- Arguments and results have types.
- Optional arguments are keyword-only, and `key` comes first.
- In a package, a function and a module never share a public name.
"""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted((ROOT / "jaxreg").rglob("*.py"))
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path):
    return path.relative_to(ROOT).as_posix()


def public_functions():
    """(label, function, whether it is a method) of everything a user can call by name."""
    for path in PATHS:
        for node in parsed(path).body:
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


def is_command(function):
    """Whether click makes a command of it."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def arguments_of(function):
    given = function.args
    arguments = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs)
    return [a.arg for a in arguments if a and a.arg not in ("self", "cls")]


def documented_arguments(docstring):
    """Names under "Args:", those of a line that describes several included."""
    _, _, rest = docstring.partition("Args:\n")
    section = re.split(r"^(?=\S)", rest, maxsplit=1, flags=re.M)[0]
    entries = re.findall(r"^    ([*\w][\w*, ]*):", section, flags=re.M)
    return {name.strip(" *") for entry in entries for name in entry.split(",")}


def test_arguments_are_described():
    wrong = []
    for label, function, _ in public_functions():
        arguments = arguments_of(function)
        docstring = ast.get_docstring(function) or ""
        if is_command(function) or (len(arguments) < 2 and "Args:" not in docstring):
            continue
        missing = set(arguments) - documented_arguments(docstring)
        unknown = documented_arguments(docstring) - set(arguments)
        wrong += [f"{label}: Args lacks {name}" for name in sorted(missing)]
        wrong += [f"{label}: Args has {name}, no argument" for name in sorted(unknown)]
    assert not wrong, "\n".join(wrong)


def test_public_functions_are_annotated():
    """Outside of the phantom, whose arithmetic takes numbers and arrays alike."""
    wrong = []
    for label, function, _ in public_functions():
        if is_command(function) or label.startswith("jaxreg/phantom/"):
            continue
        given = function.args
        arguments = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs)
        wrong += [
            f"{label}: no type of {argument.arg}"
            for argument in arguments
            if argument and argument.arg not in ("self", "cls") and argument.annotation is None
        ]
        if function.returns is None:
            wrong.append(f"{label}: no type of the result")
    assert not wrong, "\n".join(wrong)


def raised_in(function):
    """Whether a function raises an error of its own making."""
    return any(isinstance(n, ast.Raise) and n.exc is not None for n in own_nodes(function))


def called_in(function):
    """Names of functions and methods called where no `try` catches what they raise."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Try) and node.handlers:
            todo += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", ""))
        if not isinstance(node, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))


def raising(path):
    """Names of the functions of a module that raise, by themselves or by a private one."""
    tree = parsed(path)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, FUNCTION)}
    found = {name for name, function in functions.items() if raised_in(function)}
    private = {name for name in functions if name.startswith("_")}
    while True:
        more = {
            name
            for name, function in functions.items()
            if (found & private | {"check"}) & set(called_in(function))
        }
        if more <= found:
            return found
        found |= more


def test_what_is_raised_is_described():
    wrong = []
    raisers = {relative(path): raising(path) for path in PATHS}
    for label, function, _ in public_functions():
        docstring = ast.get_docstring(function) or ""
        first = docstring.split("\n\n")[0]
        said = "Raises:" in docstring or re.search(r"[Rr]aises \w+Error", first)
        if function.name in raisers[label.split(":")[0]] and not (said or is_command(function)):
            wrong.append(f"{label}: no Raises")
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
        tree = parsed(path)
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
    for node in parsed(package).body:
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


def test_the_rules_see_what_is_raised_and_described():
    """Directly, by a private function, and by a check of settings."""
    assert "find_cases" in raising(ROOT / "jaxreg/datasets/dirlab.py")
    assert "read_sampled_landmarks" in raising(ROOT / "jaxreg/datasets/dirlab.py")
    assert "with_method" in raising(ROOT / "jaxreg/config/registration.py")
    docstring = (
        "Line.\n\nArgs:\n    a, b: two.\n        more: text.\n    *c: rest.\n\nReturns:\n    d: x."
    )
    assert documented_arguments(docstring) == {"a", "b", "c"}
