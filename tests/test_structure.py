"""The rules of the house that a program can check in the source: who imports whom, and how long things are."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("albert_cli", "converters")
LONGEST_FILE = 450
LONGEST_FUNCTION = 60
PROBLEMS, TASKS = "albert_cli.training.problems", "albert_cli.tasks"


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def is_for_types(node):
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def walk(tree, *, types):
    """All nodes; without `types` not those below `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        skipped = node.body if is_for_types(node) and not types else []
        waiting += [child for child in ast.iter_child_nodes(node) if child not in skipped]


def imported(module, tree, *, types):
    """The modules of the two packages that a module imports, wherever in it that stands."""
    for node in walk(tree, types=types):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                above = module.split(".")[: None if SOURCES[module].name == "__init__.py" else -1]
                above = above[: len(above) - node.level + 1]
                start = ".".join([*above, *filter(None, [node.module])])
            found = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            longest = name if name in SOURCES else name.rpartition(".")[0]
            if longest in SOURCES and longest != module:
                yield longest


IMPORTS = {name: set(imported(name, tree, types=False)) for name, tree in TREES.items()}
# Also what is imported for annotations alone: an arrow holds for these as well.
ALL_IMPORTS = {name: set(imported(name, tree, types=True)) for name, tree in TREES.items()}


def circles(imports):
    """The groups of modules that import one another, directly or by way of others (Tarjan)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(" ".join(sorted(group)))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return set(found)


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def arrows(start, end, *, but=()):
    """The imports from one package to another, as `a -> b`."""
    return {
        f"{module} -> {other}"
        for module, others in ALL_IMPORTS.items()
        for other in others
        if within(module, start) and within(other, end) and module not in but
    }


def kinds_of_problems():
    """The kinds, each a file of the folder."""
    return {module.removeprefix(f"{PROBLEMS}.") for module in SOURCES if module.startswith(f"{PROBLEMS}.")}


def mentions_of_kinds(tree, kinds, *, compared):
    """Text equal to a kind; if `compared`, `.kind` in a comparison, too, whatever it is compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in kinds:
            yield node.value
        elif compared and isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Attribute) and side.attr == "kind":
                    yield ast.unparse(node)


def functions(tree, outer=""):
    """Every function with its lines; of a command those of its body, for its signature declares options."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from functions(node, f"{outer}{node.name}." if isinstance(node, ast.ClassDef) else outer)
            continue
        first = node.lineno
        if any(ast.unparse(decorator).startswith("app.command") for decorator in node.decorator_list):
            first = node.body[bool(ast.get_docstring(node))].lineno
        yield f"{outer}{node.name}", node.end_lineno - first + 1
        yield from functions(node, f"{outer}{node.name}.")


def test_no_modules_import_one_another():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}) == {"a b c"}
    assert circles(IMPORTS) == set()


def test_imports_are_seen_wherever_they_stand():
    source = """
import typing
from typing import TYPE_CHECKING
import converters.spec
if TYPE_CHECKING:
    from converters import convert
else:
    from converters.config import EncoderConfig
def late():
    from albert_cli import console, runs
if typing.TYPE_CHECKING:
    import albert_cli.model.encoder
"""
    always = {"converters.spec", "converters.config", "albert_cli.console", "albert_cli.runs"}
    for_types = {"converters.convert", "albert_cli.model.encoder"}
    tree = ast.parse(source)
    assert set(imported("albert_cli.main", tree, types=False)) == always
    assert set(imported("albert_cli.main", tree, types=True)) == always | for_types
    relative = ast.parse("from .spec import check\nfrom . import names\nfrom .formats.npz import read")
    assert set(imported("converters.convert", relative, types=True)) == {
        "converters.spec", "converters.names", "converters.formats.npz",
    }  # fmt: skip


def test_converters_know_nothing_of_the_commands_package():
    assert arrows("converters", "albert_cli") == set()


def test_no_format_imports_another():
    package = "converters.formats"
    found = arrows(package, package, but=(package,))  # the package itself has what all formats share
    assert {arrow for arrow in found if not arrow.endswith(f"-> {package}")} == set()


def test_commands_are_imported_by_main_alone():
    assert arrows("albert_cli", "albert_cli.commands") == {"albert_cli.main -> albert_cli.commands"}


def test_the_trainings_share_a_room_and_know_nothing_of_each_other():
    training, pretraining, runs = (f"albert_cli.{name}" for name in ("training", "pretraining", "runs"))
    for start, end in ((pretraining, training), (training, pretraining), (runs, training), (runs, pretraining)):
        assert arrows(start, end) == set()
    assert arrows(training, runs)
    assert arrows(pretraining, runs)


def test_a_kind_of_problem_is_known_in_its_own_place_alone():
    kinds = kinds_of_problems()
    assert {"classification", "regression"} <= kinds
    source = "'regression'; 'a regression'; info.kind == other; 1 == task.kind"
    assert list(mentions_of_kinds(ast.parse(source), kinds, compared=True)) == [
        "regression", "info.kind == other", "1 == task.kind",
    ]  # fmt: skip
    found = {
        f"{module}: {what}"
        for module, tree in TREES.items()
        if not (within(module, PROBLEMS) or within(module, TASKS))
        for what in mentions_of_kinds(tree, kinds, compared=within(module, "albert_cli.training"))
    }
    assert found == set()


def test_files_are_short():
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in SOURCES.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_functions_are_short():
    long = {
        f"{module}.{name}": lines
        for module, tree in TREES.items()
        for name, lines in functions(tree)
        if lines > LONGEST_FUNCTION
    }
    assert long == {}
    source = "def f():\n    def g():\n        pass\nclass C:\n    def m(self):\n        pass\n"
    assert dict(functions(ast.parse(source))) == {"f": 3, "f.g": 2, "C.m": 2}
    command = "@app.command()\ndef f(\n    a,\n    b,\n):\n    'Text.'\n    return a\n"
    assert dict(functions(ast.parse(command))) == {"f": 1}
