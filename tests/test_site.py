"""The site of docs/: it is built strictly, its links and anchors lead somewhere, and its pages say what is there."""

import html.parser
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from every_command import make_world
from typer.testing import CliRunner

from albert_cli.embedding.parquet import read_metadata
from albert_cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Links(html.parser.HTMLParser):
    """What a page leads to, what it loads, and the places in it that can be led to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loads = given.get("src") if tag in ("script", "img", "iframe") else None
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            loads = given.get("href")
        if loads:
            self.loaded.append(loads)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material")):
        pytest.skip("needs mkdocs-material: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", "docs/site/mkdocs.yml"]
    done = subprocess.run([*words, "--site-dir", folder], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 15
    broken, inner = [], 0
    for page, found in pages.items():
        for target in [*found.links, *found.loaded]:
            if target.startswith(("data:", "mailto:")):
                continue
            if urlsplit(target).scheme:
                if target in found.loaded:
                    broken.append(f"{page.name} loads {target}")
                continue
            path, anchor = urldefrag(unquote(target))
            if page.name == "404.html":  # its links begin at the root of the site
                path = path.lstrip("/")
            at = (page.parent / path).resolve() if path else page
            at = at / "index.html" if at.is_dir() else at
            inner += 1
            if not at.is_file():
                broken.append(f"{page.relative_to(site)}: {target}")
            elif anchor and at in pages and anchor not in pages[at].places:
                broken.append(f"{page.relative_to(site)}: no {anchor} in {target}")
    assert broken == []
    assert inner > 300


def test_every_page_is_found_by_the_search_and_in_the_navigation(site):
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    places = {item["location"].partition("#")[0] for item in index["docs"]}
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert (f"{name}/" if name != "index" else "") in places, name
    assert (site / "schemas/embed.json").read_bytes() == (DOCS / "schemas/embed.json").read_bytes()
    assert not list(site.rglob("*.py"))


def test_the_site_is_configured_for_every_page():
    """Also where mkdocs is not installed."""
    named = re.findall(r": ([\w/]+\.md)$", (DOCS / "site/mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_messages_that_troubleshooting_explains_are_those_of_the_code():
    files = [path for package in ("albert_cli", "converters") for path in (ROOT / package).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", " ".join(path.read_text(encoding="utf-8") for path in files))
    quoted = re.findall(r"^> (.*)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) > 10
    for line in quoted:
        for part in line.split("…"):
            assert part.strip() in code, part


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def named_in(page):
    return {name for cell in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.usefixtures("undrawn")
def test_the_page_of_files_names_what_lies_in_a_run_and_in_parquet(world):
    page = (DOCS / "files.md").read_text(encoding="utf-8")
    files, _, columns = page.partition("## Parquet of")
    present = {path.name for path in (world / "run").iterdir() if not path.name.startswith(".")}
    assert present <= named_in(files)
    tables = re.findall(r"^\[(\w+)", (world / "run/run.toml").read_text(), re.MULTILINE)
    assert set(tables) <= named_in(files.partition("Tables of")[2])
    events = {json.loads(line)["event"] for line in (world / "run/metrics.jsonl").read_text().splitlines()}
    assert events == named_in(files.partition("Events of")[2].partition("## Pretraining")[0]) - {"event"}
    words = ["embed", "--in", world / "t.txt", "--model", world / "model", "--out", world / "v.parquet"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    keys = {name for name in named_in(columns.partition("Metadata of")[2]) if name.startswith("albert.")}
    assert keys == {f"albert.{name}" for name in read_metadata(world / "v.parquet")}


@pytest.mark.slow
def test_the_page_of_every_command_shows_what_they_print():
    done = subprocess.run(
        [sys.executable, "docs/tried.py", "--check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_tried():
    page = (DOCS / "tried.md").read_text(encoding="utf-8")
    groups = [group.typer_instance for group in app.registered_groups]
    names = {command.name or command.callback.__name__ for group in groups for command in group.registered_commands}
    assert set(re.findall(r"^\$ albert ([\w-]+)", page, re.MULTILINE)) == names - {"serve"}  # runs until it is stopped
