"""The generated pages are what the code says, every command and format is in them, and the README's facts hold."""

import re
import subprocess
import sys
from pathlib import Path

from albert_cli.main import app
from converters import convert

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


def test_files_that_the_architecture_page_names_exist():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert len(named) > 20
    homes = (ROOT, ROOT / "albert_cli", ROOT / "converters")
    lacking = sorted(name for name in named if not any((home / name).is_file() for home in homes))
    assert not lacking
