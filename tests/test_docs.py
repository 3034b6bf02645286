"""The generated pages are what the code says, every command and format is in them, and the README's facts hold."""

import re
import subprocess
import sys
from pathlib import Path

from albert_cli.main import app
from converters import convert
from converters.families import families

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_documented():
    pages = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    groups = [group.typer_instance for group in app.registered_groups]
    names = [command.name or command.callback.__name__ for group in groups for command in group.registered_commands]
    assert len(names) >= 4
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in names:
        assert re.search(rf"^## albert {name}( |$)", pages, re.MULTILINE)
        assert f"albert {name}" in readme


def test_every_format_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in convert.formats():
        assert f"| `{name}` |" in readme


def test_every_family_is_in_the_readme_with_what_each_format_holds():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in readme.splitlines() if line.startswith("| ")}
    names = [name.strip("`| ") for name in rows["| model"]]
    assert [*convert.formats(), "onnx"] == names
    for family in families().values():
        for title in family.titles:
            cells = dict(zip(names, rows[f"| {title}"], strict=True))
            assert cells["safetensors"] == "read, written, proved"
            assert cells["fairseq"] == ("read" if family.fairseq.rows else "no")
            assert (cells["tf"] == "no") == (family.config.google_file is None)


def test_every_command_is_in_the_table_of_commands_and_models():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- commands and models")[2].partition("<!-- end -->")[0].strip().splitlines()[1:]
    names = {name.split()[0] for line in table[2:] for name in re.findall(r"`(.*?)`", line)}
    groups = [group.typer_instance for group in app.registered_groups]
    commands = [command for group in groups for command in group.registered_commands]
    assert names == {command.name or command.callback.__name__ for command in commands}
    titles = [title for family in families().values() for title in family.titles]
    assert [cell.strip() for cell in table[0].strip("|").split("|")] == ["command", *titles]


def test_files_that_the_architecture_page_names_exist():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert len(named) > 20
    homes = (ROOT, ROOT / "albert_cli", ROOT / "converters")
    lacking = sorted(name for name in named if not any((home / name).is_file() for home in homes))
    assert not lacking


def test_the_page_on_reliability_names_tests_that_exist():
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if "`test_" in line]
    assert len(rows) > 15
    for row in rows:
        file = None
        for named in re.findall(r"`(test_[\w.:]+)`", row):
            place, _, name = named.rpartition("::")
            file = place or file
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), named
