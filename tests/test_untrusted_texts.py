"""Texts of files on terminals and in pages: shown, never obeyed."""

import csv
import html.parser
import json
import re
import xml.etree.ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tuning
from markdown_it import MarkdownIt

from albert_cli import console
from albert_cli.strict_json import strict_json
from converters.messages import visible

TEXTS = {
    "title of the window": "a \x1b]0;owned\x07 b",
    "clears the screen": "\x1b[2J\x1b[31mred",
    "C1": "x\x9b31my\x85z",
    "delete and backspace": "ab\x08\x7fc",
    "carriage return": "true\rfalse",
    "override": "abc\u202etxt.exe\u2066",
    "separators": "one\u2028two\u2029three",
    "script": "<script>alert(1)</script>",
    "image": '<img src=x onerror="alert(1)">',
    "table": "a | b || c",
    "code": "`x` and ``y``",
    "link": "[a](javascript:alert(1)) ![b](c)",
    "formula": "$x_1$ costs $5",
    "comment": "a --> b <!-- c",
    "entity": "&lt;b&gt; &amp;",
}
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


class Page(html.parser.HTMLParser):
    """Tags, attributes and cells of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self._open = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tuning.write_model(tmp_path_factory.mktemp("model") / "hf")


@pytest.fixture
def files(tmp_path):
    """All texts in the files that commands read."""
    texts = list(TEXTS.values())
    with open(tmp_path / "texts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "text b"), *((text, text) for text in texts)])
    vectors = pa.array([[float(n), 1.0] for n in range(len(texts))], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"text": texts, "embedding": vectors}), tmp_path / "vectors.parquet")
    return tmp_path


COMMANDS = {
    "similarity": ("similarity", *TEXTS.values()),
    "similarity of a file": ("similarity", "--in", "texts.csv", "--top", "2"),
    "similarity of vectors": ("similarity", "vectors.parquet"),
    "search": ("search", *TEXTS.values(), "--in", "texts.csv"),
    "search of vectors": ("search", "a", "--in", "vectors.parquet", "--dims", "2"),
    "tokenize": ("tokenize", "--in", "texts.csv"),
    "tokenize to pieces": ("tokenize", "--in", "texts.csv", "--format", "tokens"),
    "tokenize to records": ("tokenize", "--in", "texts.csv", "--format", "jsonl"),
    "fill-mask": ("fill-mask", *(f"{text} [MASK]" for text in TEXTS.values())),
    "score": ("score", *TEXTS.values()),
    "sop": ("sop", "--in", "texts.csv", "--text-pair-column", "text b"),
    "a file that is not there": ("inspect", TEXTS["title of the window"]),
    "an option that is not there": ("inspect", "--\x1b[2J"),
}


ALL = [(name, json_too) for name in COMMANDS for json_too in (False, True)]
ONE_WAY = ("tokenize to", "a file that", "an option that")


@pytest.mark.parametrize(("name", "json_too"), [one for one in ALL if not (one[1] and one[0].startswith(ONE_WAY))])
def test_no_command_prints_what_a_terminal_obeys(name, json_too, files, model, albert, monkeypatch):
    monkeypatch.chdir(files)
    command = COMMANDS[name]
    own = () if command[0] == "inspect" or command[1:] == ("vectors.parquet",) else ("--model", model)
    code, out, err = albert(command[0], *own, *(["--json"] if json_too else []), *command[1:])
    assert code == (0 if command[0] != "inspect" else 1 + command[1].startswith("--")), err
    assert "Traceback" not in err
    assert not OBEYED.search(out), OBEYED.search(out)
    assert not OBEYED.search(err), OBEYED.search(err)
    if json_too:
        json.loads(out)


@every_text
def test_a_line_of_a_terminal_shows_any_text(text, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    console.say(text)
    console.warn(text)
    console.complain(text)
    console.print_table([[text, "1"]], [text, "n"], styles=["bold red"])
    console.write([text + "\n", console.Prose(text), console.Table([[text]])])
    found = capsys.readouterr()
    for shown in (found.out, found.err):
        ours = re.sub(r"\x1b\[[0-9;]*m", "", shown) if not text.startswith("\x1b") else shown.replace("\x1b[1m", "")
        ours = ours.replace("\x1b[0m", "").replace("\x1b[31m", "")
        assert not OBEYED.search(ours), shown


def test_other_characters_of_every_script_stay_as_they_are():
    text = "é で ไทย עברית می‌خواهم 👩‍👩‍👧 \xa0\u3000 tab\there\nline"
    assert visible(text) == text
    assert visible(text, line=True) == text.replace("\t", "\\t").replace("\n", "\\n")


@every_text
def test_json_is_strict_whatever_a_text_or_number_is(text):
    shown = visible(strict_json({"text": text, "x": [float("nan"), -float("inf"), 1.5]}, ensure_ascii=False))
    assert not OBEYED.search(shown)

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(shown, parse_constant=refuse) == {"text": text, "x": [None, None, 1.5]}


def test_pages_of_tokens_and_pictures_show_every_text(files, model, albert, monkeypatch):
    monkeypatch.chdir(files)
    assert albert("tokenize", "--model", model, "--in", "texts.csv", "--out", "page.html")[0] == 0
    page = Page((files / "page.html").read_text(encoding="utf-8"))
    assert not {"script", "img", "a", "b"} & set(page.tags)
    assert "onerror" not in page.attributes
    assert albert("similarity", *TEXTS.values(), "--model", model, "--plot", "map.svg")[0] == 0
    assert ET.parse(files / "map.svg").getroot().tag.endswith("svg")
    assert albert("score", *list(TEXTS.values())[:8], "--model", model, "--plot", "bars.svg")[0] == 0
    assert ET.parse(files / "bars.svg").getroot().tag.endswith("svg")


def test_the_report_of_a_run_shows_every_label_and_text(files, model, albert, monkeypatch):
    monkeypatch.chdir(files)
    rows = [(text, label) for label in TEXTS.values() for text in TEXTS.values()]
    tuning.write_csv(files / "train <b>|`.csv", rows)
    options = ("--epochs", "1", "--max-length", "16", "--batch-size", "64", "--out", "run", "--freeze-encoder")
    code, out, err = albert("finetune", "csv", "--train", "train <b>|`.csv", "--model", model, *options)
    assert code == 0, err
    assert not OBEYED.search(out + err)
    report = (files / "run/report.md").read_text(encoding="utf-8")
    assert not OBEYED.search(report)
    assert "<script" not in report
    assert "<img" not in report
    page = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(report))
    assert not {"script", "b"} & set(page.tags)
    assert "onerror" not in page.attributes
    assert page.tags.count("a") == 1  # of the predictions
    with open(files / "run/dev_predictions.csv", encoding="utf-8", newline="") as file:
        wrong = [row for row in csv.DictReader(file) if row["wrong"] == "1"][:10]
    for row in wrong:
        for name in ("text", "label"):
            assert visible(" ".join(row[name].split())) in page.cells
    code, out, err = albert("predict", "run", "--in", "texts.csv")
    assert code == 0, err
    assert not OBEYED.search(out + err)
