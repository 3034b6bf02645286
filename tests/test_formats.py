"""The contract of formats and exporters: what mypy checks, and that formats are leaves."""

import ast
import pkgutil
from pathlib import Path

import pytest

import converters
from albert_cli import exporters
from converters import formats
from converters.formats import Format, Writable


def modules(package):
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def imported(file):
    """The full names of what a file imports, at any depth in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", [formats, exporters])
def test_mypy_checks_every_module_against_its_protocol(package):
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    lists = {node.target.id: node.value for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    assert sorted(name.id for name in lists["_CHECKED"].elts) == modules(package)


def test_mypy_checks_what_writes_against_its_protocol():
    tree = ast.parse(Path(formats.__file__).read_text(encoding="utf-8"))
    lists = {node.target.id: node.value for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    writing = [module.__name__.rpartition(".")[2] for module in formats.writable().values()]
    assert [name.id for name in lists["_CHECKED_TO_WRITE"].elts] == writing


def test_every_format_has_every_member():
    found = formats.formats()
    assert len(found) == len(modules(formats))
    for name, module in found.items():
        assert name == module.NAME
        writes = name in formats.writable()
        assert writes == module.WRITES
        for protocol in [Format, Writable][: 1 + writes]:
            for member in (*protocol.__annotations__, *(key for key in vars(protocol) if not key.startswith("_"))):
                assert hasattr(module, member), (name, member)
        assert hasattr(module, "write") == writes
        if not writes:
            continue
        assert all(module.fits_target(Path(f"x{suffix}")) for suffix in module.SUFFIXES), name
        assert (module.OURS is None) == bool(module.SUFFIXES), name


def test_formats_are_leaves():
    """None imports another, and nothing but the flow of conversions imports any."""
    root = Path(converters.__file__).parent
    for file in set(root.rglob("*.py")) - {root / "formats/__init__.py"}:
        used = {name for name in imported(file) if name.startswith("converters.formats")}
        flow = file in (root / "convert.py", root / "parts.py")
        allowed = (
            {f"converters.formats.{name}" for name in ("Format", "Writable", "formats", "writable")} if flow else set()
        )
        assert used <= allowed, file
