"""albert tokenize as a user meets it: every format, corpus figures, comparison, and one clear line for bad input."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest
from tokenizer_oracle import glue_texts
from typer.testing import CliRunner

from albert_cli import console
from albert_cli.main import app, main
from albert_cli.tokenization.reports import View
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.messages import escaped

ROOT = Path(__file__).parents[1]
TEXT = "Café (ok) in 1992, he paid £9,000.5 for 各"


@pytest.fixture(scope="session")
def model(shared_data):
    return shared_data / "tokenizer/spiece.model"


def albert(*arguments, stdin=None, **options):
    """Run the real program."""
    return subprocess.run(
        [sys.executable, "-m", "albert_cli.main", "tokenize", *map(str, arguments)],
        capture_output=True, check=False, input=stdin, cwd=ROOT, env=os.environ | {"PYTHONUTF8": "1"}, **options,
    )  # fmt: skip


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, ["tokenize", *map(str, arguments)], catch_exceptions=False)


def fault(*arguments, **options):
    """The one line that a failing run prints; in this process unless it is given an input or the like."""
    if options:
        done = albert(*arguments, **options)
        code, out, err = done.returncode, done.stdout.decode(), done.stderr.decode()
    else:
        code, out, err = main_here("tokenize", *arguments)
    assert (code, out) == (1, ""), err
    [line] = err.splitlines()
    return line.removeprefix("albert: ")


def main_here(*arguments):
    """The program in this process: exit code, standard output and errors."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            mock.patch.object(sys, "argv", ["albert", *map(str, arguments)]),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
            pytest.raises(SystemExit) as stopped,
        ):
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return stopped.value.code or 0, *(stream.buffer.getvalue().decode() for stream in streams)


def test_a_list_of_words_has_no_column_of_scores(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n")
    assert run("ab a", "--model", tmp_path / "vocab.txt").output.splitlines() == [
        "ab a",
        "id  piece  kind     span  text  type  mask",
        " 2  [CLS]  control                 0     1",
        " 4  a      normal   0:1   a        0     1",
        " 5  ##b    normal   1:2   b        0     1",
        " 4  a      normal   3:4   a        0     1",
        " 3  [SEP]  control                 0     1",
    ]


def test_the_table(model):
    done = run(TEXT, "--model", model)
    assert done.exit_code == 0
    lines = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    assert lines[0][0] == "Café (ok) in 1992, he paid £9,000.5 for 各"
    assert lines[1] == ["id", "piece", "score", "kind", "span", "text", "type", "mask"]
    assert lines[2] == ["2", "[CLS]", "0", "control", "0", "1"]
    assert lines[3] == ["6241", "▁cafe", "-11.06", "normal", "0:4", "Café", "0", "1"]
    assert ["1483", "▁1992", "-9.597", "digit-comma split", "13:17", "1992", "0", "1"] in lines
    assert ["11", "£", "0", "user-defined", "27:28", "£", "0", "1"] in lines
    assert ["1", "各", "0", "unknown", "40:41", "各", "0", "1"] in lines


def test_json_holds_what_a_model_takes(model):
    [record] = json.loads(run("Who wrote it?", "Jane did.", "--pair", "--model", model, "--json").stdout)
    encoding = Tokenizer.from_pretrained(model).encode("Who wrote it?", "Jane did.")
    assert record["input_ids"] == encoding.ids
    assert record["token_type_ids"] == encoding.token_type_ids
    assert record["attention_mask"] == encoding.attention_mask
    assert record["tokens"] == encoding.pieces
    assert record["offset_mapping"] == [list(span) for span in encoding.offsets]


def test_two_texts_are_two_records_without_pair(model):
    done = run("one", "two", "--model", model, "--format", "jsonl", "--no-special")
    assert [json.loads(line)["tokens"] for line in done.stdout.splitlines()] == [["▁one"], ["▁two"]]


def test_julia_ids(model):
    done = run("God is Great! I won a lottery.", "--raw", "--index-base", 1, "--model", model, "--format", "ids")
    assert done.stdout == "14 2 5649 26 14 2 100 722 188 14 2 231 22 17519 10\n"


def test_decoding(model):
    published = "2 28823 25 136 16 9111 17 4769 9 3"
    assert run("--decode", published, "--model", model).stdout == "kathmandu is city of temples and gods.\n"
    one_based = run("--decode", "[28824, 26]", "--index-base", 1, "--model", model, "--json")
    assert json.loads(one_based.stdout) == [{"text": "kathmandu is"}]


def test_a_file_gives_the_same_ids_as_the_library(model, shared_data, tmp_path):
    tokenizer = Tokenizer.from_pretrained(model)
    texts = [text for text in glue_texts(shared_data)[::25] if "\n" not in text]
    source, target = tmp_path / "in.txt", tmp_path / "ids.txt"
    source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
    assert run("--in", source, "--model", model, "--format", "ids", "--max-length", 32, "--out", target).exit_code == 0
    rows = [[int(number) for number in line.split()] for line in target.read_text().splitlines()]
    batch = tokenizer.encode_batch(texts, max_length=32)
    assert rows == [batch[row].tolist() for row in range(len(texts))]
    done = albert("--in", "-", "--model", model, "--format", "ids", "--max-length", 32, stdin=source.read_bytes())
    assert done.stdout == target.read_bytes()


def test_pairs_from_a_file_windows_and_padding(model, tmp_path):
    (tmp_path / "pairs.txt").write_text("who?\tthe of and in to is it\n")
    arguments = ["--in", tmp_path / "pairs.txt", "--pair", "--model", model, "--max-length", 9]
    windows = run(*arguments, "--truncation", "only_second", "--stride", 0, "--format", "tokens").stdout
    assert windows == "[CLS] ▁who ? [SEP] ▁the ▁of ▁and ▁in [SEP]\n[CLS] ▁who ? [SEP] ▁to ▁is ▁it [SEP]\n"
    padded = run("a", "--model", model, "--max-length", 5, "--pad", "--format", "ids")
    assert padded.stdout == "2 21 3 0 0\n"
    assert "1 tokens left out" in run("a a a", "--model", model, "--max-length", 4).stdout


def test_texts_and_pairs_of_a_table(model, tmp_path):
    def tokens(*arguments):
        done = run(*arguments, "--model", model, "--format", "tokens", "--no-special")
        assert done.exit_code == 0, done.output
        return done.stdout

    table = tmp_path / "t.csv"
    table.write_text('id,review,reply\n1,"the, of",and\n2,in,to\n')
    named = ["--in", table, "--text-column", "review"]
    assert tokens(*named) == "▁the , ▁of\n▁in\n"
    assert tokens(*named, "--pair", "--text-pair-column", "reply") == "▁the , ▁of ▁and\n▁in ▁to\n"
    assert tokens("--in", table, "--input-format", "txt") == tokens(*table.read_text().splitlines())
    (tmp_path / "t.jsonl").write_text('{"text": "in", "pair": "to"}\n')
    assert tokens("--in", tmp_path / "t.jsonl", "--pair") == "▁in ▁to\n"
    (tmp_path / "semicolons.csv").write_text("text;n\nin;1\n")
    assert tokens("--in", tmp_path / "semicolons.csv", "--delimiter", ";") == "▁in\n"
    (tmp_path / "notes.md").write_text("in\n")
    assert tokens("--in", tmp_path / "notes.md") == "▁in\n"


def test_what_a_table_lacks_is_reported_with_the_options_that_name_it(model, tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text("a\tb\nc\td\n")
    assert fault("--in", table, "--pair", "--model", model) == (
        f"{table}: the header has no column 'text', 'pair'; it has 'a', 'b'. --text-column names the one with the "
        "texts, --text-pair-column names the one with the second texts"
    )
    inside = ["--in", tmp_path, "--text-column", "a", "--model", model, "--format", "json"]
    assert fault(*inside, "--out", tmp_path / "o.json") == (
        f"{tmp_path / 'o.json'}: lies in the input ({tmp_path}), and would be read as a part of it; name another --out"
    )


def test_flags_reach_the_tokenizer(model):
    def tokens(*arguments):
        return run(*arguments, "--model", model, "--format", "tokens", "--no-special").stdout.strip()

    assert tokens("É [MASK]") == "▁ e ▁[ mask ]"
    assert tokens("É [MASK]", "--special-in-text") == "▁ e [MASK]"
    assert tokens("É", "--keep-accents") == "▁ é"
    assert tokens("Éa", "--cased") != tokens("Éa")


def test_statistics(model, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("a b 各\nthe Æther\n" + "the " * 300 + "\n\n", encoding="utf-8")
    figures = json.loads(run("--in", source, "--model", model, "--stats", "--json").stdout)
    tokenizer = Tokenizer.from_pretrained(model)
    rows = tokenizer.ids(source.read_text(encoding="utf-8").split("\n")[:4])
    assert figures["texts"] == 4
    assert figures["tokens"] == sum(map(len, rows))
    assert figures["characters"] == 5 + 9 + 1200
    assert figures["unknown_tokens"] == 2
    assert figures["unknown_characters"] == {"各": 1, "Æ": 1}
    assert figures["longer_than"] == {"128": 1, "256": 1, "512": 0}
    assert figures["length"]["max"] == 302
    assert sum(figures["histogram"].values()) == 4
    assert figures["most_frequent"][0] == {"id": 14, "piece": "▁the", "count": 301}
    table = run("--in", source, "--model", model, "--stats").stdout
    assert re.search(r"各 +U\+5404 +CJK UNIFIED IDEOGRAPH-5404 +1\n", table)
    assert re.search(r"over 256 +1 +25\.00%\n", table)


def test_comparison(model, shared_data, tmp_path):
    from transformers.models.albert import AlbertTokenizer as TransformersAlbert

    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(model, folder)
    TransformersAlbert.from_pretrained(folder).save_pretrained(folder)
    arguments = ["--compare", folder / "tokenizer.json", "--model", model]
    done = run("in 1992, (he) was", *arguments)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["1483", "▁1992", "≠", "6233", "▁1992,"] in lines
    assert ["15", ",", "≠"] in lines
    assert lines[-1] == ["1", "of", "1", "texts", "differ", "(100.00%)"]
    source = tmp_path / "in.txt"
    source.write_text("plain text\nin 1992, he\n")
    done = run("--in", source, *arguments)
    assert "plain text" not in done.stdout
    assert done.stdout.endswith("1 of 2 texts differ (50.00%)\n")
    [item] = json.loads(run("--in", source, *arguments, "--json").stdout)
    assert item["first"]["tokens"] != item["second"]["tokens"]
    convert.convert(shared_data / "checkpoints/tf1-google", tmp_path / "hf")
    done = run("in 1992, (he) was", "--model", model, "--compare", tmp_path / "hf/tokenizer.json")
    assert done.stdout.endswith("0 of 1 texts differ (0.00%)\n")
    assert "texts differ" in run("in 1992, (he) was", "--model", model, "--compare", "built-in").stdout


def test_alternatives(model):
    [best] = json.loads(run("hello world", "--nbest", 3, "--model", model, "--json").stdout)
    assert best["alternatives"][0]["tokens"] == ["▁hello", "▁world"]
    assert len(best["alternatives"]) == 3
    drawn = [albert("hello world again", "--sample", "--seed", seed, "--model", model).stdout for seed in (7, 7, 8, 9)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


class Page(HTMLParser):
    """The texts of the pieces, and everything the page refers to."""

    def __init__(self):
        super().__init__()
        self.open, self.pieces, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("src", "href") if name in values]
        if tag not in ("meta", "br"):
            self.open.append((tag, values.get("class", "")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "span" and self.open[-1][1].startswith("t h"):
            self.pieces.append(data)


def test_the_page_is_whole_and_self_contained(model, tmp_path):
    target = tmp_path / "page.html"
    odd = "<b>&amp;\x1b"
    assert run(TEXT, odd, "--model", model, "--format", "html", "--out", target).exit_code == 0
    text = target.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert "url(" not in text
    assert "<script" not in text
    tokenizer = Tokenizer.from_pretrained(model)
    wanted = [escaped(piece) for each in (TEXT, odd) for piece in tokenizer.encode(each).pieces]
    assert [piece for piece in page.pieces if piece.strip()][6:] == wanted  # after the legend's six
    assert "<dt>text</dt><dd>Café</dd>" in text
    assert "&lt;b&gt;&amp;amp;\\x1b" in text


@pytest.mark.slow
def test_the_page_in_a_browser(model, tmp_path):
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("no chromium to look at the page with")
    target = tmp_path / "page.html"
    run(TEXT, "--model", model, "--format", "html", "--out", target)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", f"--user-data-dir={tmp_path}/p"]
    picture = tmp_path / "page.png"
    subprocess.run([browser, *flags, f"--screenshot={picture}", target.as_uri()], check=True, capture_output=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    done = subprocess.run([browser, *flags, "--dump-dom", target.as_uri()], check=True, capture_output=True)
    assert done.stdout.decode().count('class="t h') == 5 + len(Tokenizer.from_pretrained(model).encode(TEXT))


# --- bad input ---


def test_no_model():
    # The built-in model's; what is said of it is in test_builtin.py.
    done = albert("x", "--format", "ids")
    assert done.returncode == 0
    assert len(done.stdout.split()) >= 3
    assert done.stderr.decode().count("this is the small built-in one") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\ncaf\xe9\n", "line 2 is not UTF-8: byte 0xe9 at offset 6; convert it to UTF-8, or pass --errors replace"),
        (b"", "there is no text to read"),
    ],
)
@pytest.mark.parametrize("mode", ["--stats", "--format=ids", "--json"])
def test_bad_text_files(model, tmp_path, content, message, mode):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(content)
    assert fault("--in", source, "--model", model, mode, "--out", target) == f"{source}: {message}"
    assert list(tmp_path.iterdir()) == [source]


def test_text_that_can_be_read_after_all(model, tmp_path):
    source = tmp_path / "in.txt"
    source.write_bytes(b"caf\xe9 \x00" + b"x" * 10**6 + b"\n\r\n")
    done = albert("--in", source, "--model", model, "--format", "ids", "--errors", "replace")
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = done.stdout.splitlines()
    assert len(first) > 10**5
    assert second == b"2 3"


def test_other_faults(model, tmp_path):
    missing = tmp_path / "nothing"
    assert fault("x", "--model", missing).startswith(f"{missing}: no such file")
    assert fault("--in", missing, "--model", model) == f"{missing}: no such file or directory"
    corrupt = tmp_path / "bad.model"
    corrupt.write_bytes(model.read_bytes()[:5000])
    assert fault("x", "--model", corrupt) == f"{corrupt}: not a SentencePiece model (truncated or another file)"
    (tmp_path / "pairs.txt").write_text("a\tb\nc\n")
    assert fault(
        "--in", tmp_path / "pairs.txt", "--pair", "--model", model, "--format", "ids", "--out", tmp_path / "o"
    ) == (f"{tmp_path}/pairs.txt: line 2 holds 1 texts separated by tabs, where --pair needs 2")
    assert fault("--decode", "2 x", "--model", model) == (
        "line 1: 'x' is not an id; ids are whole numbers separated by blanks or commas"
    )
    assert fault("--decode", "99999", "--model", model) == (
        "id 99999 at position 0 is not in the vocabulary (0 to 29999)"
    )
    assert fault("x", "--nbest", 513, "--model", model) == "SentencePiece gives 1 to 512 alternatives, not 513"
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")
    assert fault("x", "--nbest", 2, "--model", tmp_path / "vocab.txt").startswith(
        "alternatives need a SentencePiece model"
    )


def test_a_file_is_replaced_only_when_reported_to(model, tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("mine")
    arguments = ["a", "--model", model, "--format", "ids", "--out", target]
    assert "--force" in fault(*arguments)
    assert target.read_text() == "mine"
    assert albert(*arguments, "--force").returncode == 0
    assert target.read_text() == "2 21 3\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to tokenize; give a text, or --in FILE"),
        (["x", "--in", "y"], "texts on the command line and --in do not go together"),
        (["x", "--pair"], "--pair takes two texts, not 1"),
        (["x", "--stats", "--nbest", "3"], "--stats and --nbest and --sample do not go together"),
        (["x", "--text-pair-column", "y"], "--text-pair-column needs --pair"),
        (["x", "--pad"], "--pad needs --max-length"),
        (["x", "--stats", "--format", "html"], "--format html does not go with --stats"),
        (["x", "--decode", "2"], "--decode takes its ids in one argument"),
        (["x", "--index-base", "2"], "--index-base"),
    ],
)
def test_wrong_usage(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


@pytest.mark.slow
def test_a_large_file_streams_in_constant_memory(model, tmp_path):
    line = "The quick brown fox, in 1992, jumped over the lazy dog; it was naïve.\n" * 1000

    def peak(thousands, *mode):
        source = tmp_path / f"{thousands}.txt"
        with source.open("w") as file:
            for _ in range(thousands):
                file.write(line)
        code = (
            "import resource, sys; from albert_cli.main import app; sys.argv[0] = 'albert'\n"
            "app(standalone_mode=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        command = [sys.executable, "-c", code, "tokenize", "--in", source, "--model", model, *mode]
        done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        return int(done.stderr)

    for mode in (["--format", "ids", "--out", tmp_path / "out", "--force"], ["--stats"]):
        assert peak(400, *mode) < peak(100, *mode) + 10_000  # KiB


@pytest.mark.filterwarnings("ignore:.*as the name says uncased")
@pytest.mark.parametrize("name", ["tokenizer/spiece.model", "relatives/tf1-bert-uncased", "relatives/hf-roberta"])
def test_memory_follows_the_characters_of_a_text_not_its_pieces(name, shared_data, tmp_path):
    view = View(Tokenizer.from_pretrained(shared_data / name))
    text = "Who wrote in 1992 about Kathmandu? " * 1500
    console.write(view.records([(text[:99], None)]), tmp_path / "warm")  # what is kept of the vocabulary
    tracemalloc.start()
    console.write(view.records([(text, None)]), tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 90 * len(text)  # as objects, the pieces took 200 and their table 280 to 790
