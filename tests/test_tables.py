"""Tables as people have them: every command reads the same ones, and says the same of those it cannot read."""

import csv
import datetime
import gzip
import io
import json
import lzma
import re
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tuning import reviews, write_csv, write_model

from albert_cli.declared import read_settings
from albert_cli.errors import Notice
from albert_cli.tables.columns import Columns
from albert_cli.tables.delimited import delimiter_of
from albert_cli.tables.sources import Source
from albert_cli.tables.table import read_table
from albert_cli.tables.texts import stream
from albert_cli.training.settings import Settings
from converters.errors import AlbertError, did_you_mean


def by_embed(path, **options):
    columns = Columns("text", "label", delimiter=options.get("delimiter"))
    rows = pa.Table.from_batches(list(Source(str(path), columns).batches())).to_pylist()
    return [(row["_line"], row["text"], row["pair"]) for row in rows]


def by_training(path, **options):
    table = read_table(path, wanted=("text", "label"), **options)
    texts, labels = (table.column(name, "it") for name in ("text", "label"))
    return list(zip(table.lines, texts, labels, strict=True))


@pytest.fixture(params=[by_embed, by_training])
def read(request):
    return request.param


LONG = "wort " * 40_000


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("t.csv", "text,label\na,b\n", [(2, "a", "b")]),
        ("UP.CSV", "text,label\na,b\n", [(2, "a", "b")]),
        ("t.TSV", "text\tlabel\n\"a\tb\n", [(2, '"a', "b")]),
        ("t.tab", "text\tlabel\na\tb\n", [(2, "a", "b")]),
        ("t.NDJSON", '{"text": "a", "label": "b"}\n', [(1, "a", "b")]),
        ("bom.csv", "\ufefftext,label\na,b\n", [(2, "a", "b")]),
        ("crlf.csv", "text,label\r\na,b\r\n", [(2, "a", "b")]),
        ("cr.csv", "text,label\ra,b\rc,d", [(2, "a", "b"), (3, "c", "d")]),
        ("cr.tsv", "text\tlabel\ra\tb\r", [(2, "a", "b")]),
        ("cr.jsonl", '{"text": "a", "label": "b"}\r{"text": "c", "label": "d"}\r', [(1, "a", "b"), (2, "c", "d")]),
        ("a.json", '[{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]', [(1, "a", "b"), (1, "c", "d")]),
        ("p.json", '\n[\n{"text": "a",\n"label": "b"},\n {"text": "c", "label": ""}\n]', [(3, "a", "b"), (5, "c", "")]),
        ("empty-first.jsonl", '\n{"text": "a", "label": "b"}\n', [(2, "a", "b")]),
        ("breaks.csv", 'text,label\n"a\r\nb",c\nd,e\n', [(2, "a\r\nb", "c"), (4, "d", "e")]),
        ("blank.csv", "\n\ntext,label\n\na,b\n   \nc,d\n\n", [(5, "a", "b"), (7, "c", "d")]),
        ("spaces.csv", "text, label \na, b\n", [(2, "a", " b")]),
        ("quotes.csv", '"text","label"\n"a ""b"", c",5" disk\n', [(2, 'a "b", c', '5" disk')]),
        ("long.csv", f'text,label\n"{LONG}",b\n', [(2, LONG, "b")]),
        ("excel.csv", 'sep=;\r\ntext;label\r\n"a;b";c\r\n', [(3, "a;b", "c")]),
        ("t.csv.gz", "text,label\na,b\n", [(2, "a", "b")]),
        ("T.CSV.ZST", "text,label\na,b\n", [(2, "a", "b")]),
    ],
)  # fmt: skip
def test_what_people_call_a_table_is_read(tmp_path, read, name, data, rows):
    path = tmp_path / name
    packed = {".gz": gzip.compress, ".ZST": lambda raw: pa.compress(raw, "zstd", asbytes=True)}
    path.write_bytes(packed.get(path.suffix, bytes)(data.encode()))
    assert read(path) == rows


@pytest.mark.parametrize(
    ("name", "data", "seen"),
    [
        ("t.csv", "text;label\na, b;c\n", "semicolons, not by commas"),
        ("t.csv", "text\tlabel\na, b\tc\n", "tabs, not by commas"),
        ("t.csv", "text|label\na, b|c\n", "vertical bars, not by commas"),
        ("t.csv", 'text;label;"x, y"\na, b;c;1\n', "semicolons, not by commas"),
        ("t.tsv", 'text,label\n"a, b",c\n', "commas, not by tabs"),
    ],
)
def test_another_delimiter_is_found_and_reported(tmp_path, read, name, data, seen):
    (tmp_path / name).write_text(data)
    with pytest.warns(Notice, match=f"its columns seem to be separated by {seen}; --delimiter sets it"):
        assert read(tmp_path / name) == [(2, "a, b", "c")]


def test_the_delimiter_can_be_reported(tmp_path, read):
    (tmp_path / "t.csv").write_text("text;label\na, b;c\n")
    assert read(tmp_path / "t.csv", delimiter=";") == [(2, "a, b", "c")]
    (tmp_path / "t.csv").write_text("text^label\na, b^c\n")
    assert read(tmp_path / "t.csv", delimiter="^") == [(2, "a, b", "c")]
    assert [delimiter_of(text) for text in ("tab", "\\t", ";", "|")] == ["\t", "\t", ";", "|"]
    for text in ("", "ab", '"', "\n"):
        with pytest.raises(ValueError, match="a delimiter is one character, or tab"):
            delimiter_of(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text,label\na,b\n".encode("utf-16"), "UTF-16 by its byte-order mark, not UTF-8; convert it: iconv -f UTF-16"),
        ("text,label\na,b\n".encode("utf-32"), "UTF-32 by its byte-order mark, not UTF-8; convert it: iconv -f UTF-32"),
        ("text,label\na,b\n".encode("utf-16-le"), "full of zero bytes; if it is UTF-16, convert it"),
        (b"text,label\na,b\n\xe4,c\n", "line 3 is not UTF-8: byte 0xe4 at offset 15; convert it to UTF-8"),
        (b"text,label\na,b,c\nd,e\nf\n", "2 rows not of 2 columns: line 2 has 3, line 4 has 1; a cell that holds ',' "),
        (b"text,label\n" + b"a\n" * 20, "20 rows not of 2 columns: line 2 has 1, line 3 has 1, "),
        (b'text,label\na,b\n"c,d\n', "broken quoting in the row that begins at line 3 (unexpected end of data)"),
        (b"text,label\na\rb,c\n", "a carriage return stands outside of quotes in the row that begins at line 2"),
        (b"texts,label\na,b\n", "did you mean 'texts'?"),
        (b"text,text,label\na,b,c\n", "several columns "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_reported_in_one_way(tmp_path, read, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(AlbertError) as error:
        read(tmp_path / "t.csv")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}: ")
    assert "\n" not in str(error.value)


def test_an_array_that_is_none_is_reported_by_its_line(tmp_path, read):
    for text in ('[{"text": "a"}, 5]', '[\n{"text": "a"\n', '[{"text": "a"}] 5', '[{"text": "a"} {"text": "b"}]'):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(AlbertError, match=r"t\.json: line 1 (holds a list|is not JSON)"):
            read(tmp_path / "t.json")


def test_names_that_are_near():
    assert did_you_mean("text", ["id", "Text"]) == "; did you mean 'Text'?"
    assert did_you_mean("label", ["lable", "x"]) == "; did you mean 'lable'?"
    assert did_you_mean("text", ["body"]) == ""


@pytest.mark.parametrize("command", [["score"], ["fill-mask"], ["sop", "--text-pair-column", "label"], ["embed"]])
def test_commands_take_the_delimiter(letter_model, albert, tmp_path, command):
    (tmp_path / "t.csv").write_text("text;label\na [MASK];b\n")
    out = ["--out", tmp_path / "v.parquet", "--threads", "1"] if command == ["embed"] else []
    arguments = [*command, "--in", tmp_path / "t.csv", "--model", letter_model, *out]
    code, _, err = albert(*arguments)
    assert (code, err.count("seem to be separated by semicolons")) == (0, 1)
    code, _, err = albert(*arguments, "--delimiter", ";", *["--force"] * bool(out))
    assert (code, "separated" in err) == (0, False)
    code, _, err = albert(*arguments, "--delimiter", "ab", *["--force"] * bool(out))
    assert code == 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A classifier of single texts, one of pairs, and a regression, each trained for a step."""
    from typer.testing import CliRunner

    from albert_cli.main import app

    root = tmp_path_factory.mktemp("runs")
    model = write_model(root / "model")
    rows = reviews(24)
    write_csv(root / "one.csv", rows)
    write_csv(root / "two.csv", [(text, text, label) for text, label in rows], ("text", "other", "label"))
    write_csv(root / "number.csv", [(text, len(text)) for text, _ in rows])
    for name, more in (("one", []), ("two", ["--text-pair-column", "other"]), ("number", ["--regression"])):
        arguments = ["finetune", "csv", "--train", root / f"{name}.csv", "--model", model, "--steps", 1, *more]
        done = CliRunner().invoke(app, [str(item) for item in [*arguments, "--out", root / name]])
        assert done.exit_code == 0, done.output
    return root


def test_predictions_are_printed_where_no_file_is_named(run, albert, tmp_path):
    write_csv(tmp_path / "t.csv", [("a good film",), ("a dull\tplot",)], ("text",))
    code, out, _ = albert("predict", run / "one", "--in", tmp_path / "t.csv", "--probabilities")
    lines = [line.split() for line in out.splitlines()]
    assert (code, lines[0]) == (0, ["row", "prediction", "probability_neg", "probability_pos", "text"])
    assert [(line[0], line[4:]) for line in lines[1:]] == [("1", ["a", "good", "film"]), ("2", ["a", "dull\\tplot"])]
    write_csv(tmp_path / "i.csv", [("x7", "a good film", "one")], ("id", "text", "other"))
    code, out, _ = albert("predict", run / "two", "--in", tmp_path / "i.csv")
    assert out.splitlines()[0].split() == ["id", "prediction", "text", "pair"]
    assert out.splitlines()[1].split()[::4] == ["x7", "film"]
    code, out, _ = albert("predict", run / "number", "--in", tmp_path / "t.csv", "--json")
    assert [list(row) for row in json.loads(out)] == [["text", "prediction"]] * 2


def test_predict_reads_what_embed_reads(run, albert, tmp_path, monkeypatch):
    def pipe(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    def predicted(*arguments):
        code, out, err = albert("predict", run / "one", *arguments, "--out", "-")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    (tmp_path / "t.txt").write_text("good film\nbad film\n")
    rows = predicted("--in", tmp_path / "t.txt")
    assert [row["text"] for row in rows] == ["good film", "bad film"]
    (tmp_path / "t.TXT.gz").write_bytes(gzip.compress(b"good film\nbad film\n"))
    assert predicted("--in", tmp_path / "t.TXT.gz") == rows
    pipe(b"good film\nbad film\n")
    assert predicted("--in", "-") == rows
    pipe(b'{"text": "good film"}\n{"text": "bad film"}\n')
    assert predicted("--in", "-", "--input-format", "jsonl") == rows
    (tmp_path / "p.csv").write_text("text;n\ngood film;1\n")
    assert [row["n"] for row in predicted("--in", tmp_path / "p.csv", "--delimiter", ";")] == ["1"]


def test_what_predict_cannot_read_is_reported(run, refused, tmp_path):
    (tmp_path / "t.txt").write_text("good film\n")
    message = refused("predict", run / "two", "--in", tmp_path / "t.txt")
    assert message.endswith(
        "lines of text hold no pairs, which this model judges; give a table with the columns text and other"
    )
    message = refused("predict", run / "one", "--in", tmp_path / "t.txt", "--text-column", "x")
    assert message == f"{tmp_path / 't.txt'}: lines of text have no columns; leave --text-column out"
    (tmp_path / "t.csv").write_text("text,n,n\na,1,2\n")
    message = refused("predict", run / "one", "--in", tmp_path / "t.csv")
    assert message == f"{tmp_path / 't.csv'}: several columns are called 'n'; rename all but one"
    (tmp_path / "t.doc").write_text("a")
    assert "files of the kind '.doc' are not read; tables are .txt, .csv" in refused(
        "predict", run / "one", "--in", tmp_path / "t.doc"
    )
    out = tmp_path / "p.csv.gz"
    kinds = ".csv, .tsv, .jsonl, .parquet (.json for answers, .conll for tags)"
    message = f"{out}: predictions are written as {kinds}; name such a file"
    assert refused("predict", run / "one", "--in", tmp_path / "t.txt", "--out", out) == message


def test_training_and_evaluation_take_such_tables(run, albert, tmp_path):
    text = "text;label\n" + "".join(f"{text};{label}\n" for text, label in reviews(24))
    (tmp_path / "T.CSV.gz").write_bytes(gzip.compress(text.encode()))
    code, out, _ = albert("evaluate", run / "one", "--data", tmp_path / "T.CSV.gz", "--json")
    assert code == 0
    plain = albert("evaluate", run / "one", "--data", run / "one.csv", "--json")[1]
    assert json.loads(out.replace("T.CSV.gz", "one.csv")) == json.loads(plain)
    options = ["--model", run / "model", "--steps", 1, "--train", tmp_path / "T.CSV.gz"]
    code, _, err = albert("finetune", "csv", *options, "--delimiter", ";", "--out", tmp_path / "run")
    assert code == 0, err
    assert re.search(r"^delimiter = \";\"$", (tmp_path / "run" / "run.toml").read_text(), re.M)


# One small table in every format, compression and place, read by every command that takes --in.

TABLE = [("a [MASK]", "one"), ("b, c [MASK]", "two"), ('say "d" [MASK]', "three"), ("é [MASK]", "four")]
COLUMNS = ("text", "pair")


def written(kind, table):
    """The bytes of a table."""
    if kind == "txt":
        return "".join(f"{text}\n" for text, _ in table).encode()
    if kind == "csv":
        file = io.StringIO(newline="")
        csv.writer(file).writerows([COLUMNS, *table])
        return file.getvalue().encode("utf-8-sig")
    if kind == "tsv":
        return "".join("\t".join(row) + "\r\n" for row in [COLUMNS, *table]).encode()
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table]
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".xz": lzma.compress,
}
KINDS = ("txt", "csv", "tsv", "jsonl", "json", "parquet")
PLACES = ("file", "glob", "directory", "stdin")


def put(folder, kind, packing, place, monkeypatch):
    """The table where --in finds it, in two files where several can be named: what names it, and its kind."""
    if place == "stdin":
        data = PACKED[packing](written(kind, TABLE))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
        return "-", {"kind": {"json": "jsonl"}.get(kind, kind)}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    parts = [TABLE] if place == "file" else [TABLE[:1], TABLE[1:]]
    for number, part in enumerate(parts):
        (folder / f"{number}.{kind}{packing}").write_bytes(PACKED[packing](written(kind, part)))
    return str({"file": folder / f"0.{kind}{packing}", "glob": folder / "*.*", "directory": folder}[place]), {}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_three_readers_give_the_same_rows(tmp_path, monkeypatch, kind, packing, place):
    pair = "pair" if kind != "txt" else None
    wanted = [(text, name if pair else "") for text, name in TABLE]

    def source():
        return put(tmp_path / "t", kind, packing, place, monkeypatch)

    path, options = source()
    found = pa.Table.from_batches(list(Source(path, Columns(pair=pair), **options).batches())).to_pylist()
    assert [(row["text"], row.get("pair", "")) for row in found] == wanted
    path, options = source()
    assert [(row.text, row.pair) for row in stream(path, Columns(pair=pair), **options)] == wanted
    path, options = source()
    table = read_table(Path(path), wanted=["text", *([pair] if pair else [])], **options)
    assert table.column("text", "it") == [text for text, _ in TABLE]
    assert pair is None or table.column("pair", "it") == [name for _, name in TABLE]
    first, step = {"csv": (2, 1), "tsv": (2, 1), "json": (2, 4)}.get(kind, (1, 1))
    if place in ("file", "stdin"):
        assert table.lines == [first + step * row for row in range(4)]
    else:
        places = [f"0.{kind}{packing}:{first}", *(f"1.{kind}{packing}:{first + step * row}" for row in range(3))]
        assert table.lines == [str(tmp_path / "t" / place) for place in places]


def _texts(command, out, folder):
    """The texts that a command read, by what it prints or writes."""
    if command == "embed":
        return parquet.read_table(folder / "v.parquet")["text"].to_pylist()
    if command == "similarity":
        return json.loads(out)["rows"]
    if command == "tokenize":
        return [record["text"] for record in json.loads((folder / "t.json").read_text())]
    if command in ("score", "fill-mask"):
        return [record["text"] for record in json.loads(out)]
    rows = [json.loads(line) for line in out.splitlines()]
    return [row["first" if command == "sop" else "text"] for row in rows]


COMMANDS = {
    "embed": ["--keep-text", "--threads", "1", "--out", "{folder}/v.parquet"],
    "similarity": ["--json"],
    "tokenize": ["--out", "{folder}/t.json"],
    "score": ["--json"],
    "fill-mask": ["--json"],
    "sop": ["--out", "-"],
    "predict": ["--out", "-"],
}


@pytest.fixture
def start(letter_model, run, tmp_path):
    """The arguments of a command that reads texts from somewhere."""

    def arguments(command, source, kind=None):
        model = [run / "one"] if command == "predict" else ["--model", letter_model]
        more = [item.format(folder=tmp_path) for item in COMMANDS[command]]
        return [command, *model, "--in", source, *(["--input-format", kind] if kind else []), *more]

    return arguments


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", range(len(KINDS)))
def test_every_command_reads_the_same_texts(albert, start, tmp_path, monkeypatch, command, number):
    kind = KINDS[number]
    if (command, kind) == ("sop", "txt"):
        pytest.skip("lines hold no pairs")
    turn = number + list(COMMANDS).index(command)
    packing, place = list(PACKED)[turn % len(PACKED)], PLACES[turn // 2 % len(PLACES)]
    path, options = put(tmp_path / "t", kind, packing, place, monkeypatch)
    code, out, err = albert(*start(command, path, options.get("kind")))
    assert code == 0, err
    assert _texts(command, out, tmp_path) == [text for text, _ in TABLE]


RAGGED = "2 rows not of 2 columns{names}: line {first}, line 4 has {last}"
QUOTED = "; a cell that holds ',' stands in double quotes, with no blank before them"
OPEN = (
    "broken quoting in the row that begins at line 3 (unexpected end of data); is a quotation mark left open? one "
    'inside a quoted cell is doubled ("")'
)
NAME = ". --text-column names the one with the texts"
OBJECTS = (
    "line 2 is not JSON: Expecting property name enclosed in double quotes at column 2; line 3 holds a list, not an "
    "object of columns; line 4: 'text' is 5, not text; line 5 has no column 'text'; it has 'pair'"
)
ARRAY = "line 1 is not JSON: Expecting value at column 2; line 2 is not JSON: Extra data at column 27"
NOT_READ = (
    "files of the kind '.doc' are not read; tables are .txt, .csv, .tsv, .tab, .jsonl, .ndjson, .json, .parquet, .pq, "
    "gzip, zstd or xz too; --input-format says what it holds"
)
LATIN = "line 3 is not UTF-8: byte 0xe4 at offset 14; convert it to UTF-8, or pass --errors replace"
BROKEN = {
    "ragged.csv": (b"text,pair\na,b,c\nd,e\nf\n", RAGGED.format(names="", first="2 has 3", last=1) + QUOTED),
    "ragged.tsv": (b"text\tpair\na\n\nb\tc\td\n", RAGGED.format(names=" (text, pair)", first="2 has 1", last=3)),
    "open.csv": (b'text,pair\na,b\n"c,d\n', OPEN),
    "other.csv": (
        b"texts,pair\na,b\n",
        f"the header has no column 'text'; it has 'texts', 'pair'{NAME}; did you mean 'texts'?",
    ),
    "twice.csv": (b"text,text,pair\na,b,c\n", "several columns are called 'text'; rename all but one"),
    "latin.csv": (b"text,pair\na,b\n\xe4,c\n", LATIN),
    "header.csv": (b"text,pair\n", "there is no text to read"),
    "none.tsv": (b"", "there is no text to read"),
    "bad.jsonl": (b'{"text": "a", "pair": "b"}\n{oops\n[1]\n{"text": 5, "pair": ""}\n{"pair": "c"}\n', OBJECTS),
    "other.jsonl": (b'{"body": "a", "pair": "b"}\n', f"line 1 has no column 'text'; it has 'body', 'pair'{NAME}"),
    "cut.json": (b'[\n{"text": "a", "pair": "b"},\n', ARRAY),
    "cut.parquet": (b"PAR1 but no more", "not a Parquet file, or a damaged one (Parquet magic bytes not found in "),
    "cut.csv.gz": (
        gzip.compress(b"text,pair\n" + b"a,b\n" * 999)[:-20],
        "the compressed data is damaged or cut sho",
    ),
    "cut.tsv.xz": (lzma.compress(b"text\tpair\n" + b"a\tb\n" * 999)[:-20], "the compressed data is damaged or cut sho"),
    "t.doc": (b"a", NOT_READ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_command_says_the_same_of_a_broken_file(refused, start, run, tmp_path, name):
    data, fault = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(data)
    for command in COMMANDS:
        if (command, name) != ("tokenize", "t.doc"):  # which are lines of text there
            assert refused(*start(command, path)).startswith(f"{path}: {fault}"), command
    training = ["--text-pair-column", "pair", "--label-column", "pair", "--model", run / "model", "--steps", 1]
    message = refused("finetune", "csv", "--train", path, *training, "--out", tmp_path / "run")
    for option in (NAME, ", or pass --errors", "; --input-format"):  # which it lacks
        fault = fault.partition(option)[0]
    assert message.startswith(f"{path}: {fault}")
    assert "--errors" not in message
    assert "--input-format" not in message


@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_training_reads_what_predict_reads_but_no_stream(albert, run, tmp_path, command):
    rows = reviews(24)
    packed = {"a.csv.gz": gzip.compress, "b.ndjson.zst": PACKED[".zst"], "c.parquet": bytes}
    for number, (name, pack) in enumerate(packed.items()):
        part = [{"text": text, "label": label} for text, label in rows[8 * number : 8 * number + 8]]
        table = pa.Table.from_pylist(part)
        sink = io.BytesIO()
        if name.startswith("a"):
            sink.write(b"text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in part).encode())
        elif name.startswith("b"):
            sink.write("".join(json.dumps(row) + "\n" for row in part).encode())
        else:
            parquet.write_table(table, sink)
        (tmp_path / name).write_bytes(pack(sink.getvalue()))
    pattern = tmp_path / "*.*"
    if command == "evaluate":
        plain = albert("evaluate", run / "one", "--data", run / "one.csv", "--json")[1]
        found = albert("evaluate", run / "one", "--data", pattern, "--json")[1]
        assert json.loads(found.replace("*.*", "one.csv")) == json.loads(plain)
        code, _, err = albert("evaluate", run / "one", "--data", "-")
        assert (code, "- is standard input, which this is not read from; name a file" in err) == (2, True)
        return
    for name in ("plain", "parts"):
        train = run / "one.csv" if name == "plain" else pattern
        options = ["--model", run / "model", "--steps", 2, "--train", train, "--dev", tmp_path / "b.ndjson.zst"]
        code, _, err = albert("finetune", "csv", *options, "--out", tmp_path / name)
        assert code == 0, err
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "parts")]
    assert weights[0] == weights[1]
    code, _, err = albert("finetune", "csv", "--model", run / "model", "--train", "-", "--out", tmp_path / "stream")
    assert (code, "- is standard input, which this is not read from; name a file" in err) == (2, True)
    (tmp_path / "bad.csv").write_text("text,label\na,b,c\na,\n")
    code, _, err = albert("finetune", "csv", *options[:4], "--train", pattern, "--skip-bad", "--out", tmp_path / "bad")
    assert code == 0, err
    bad = tmp_path / "bad.csv"
    assert f"2 rows left out: line {bad}:2 not of 2 columns; line {bad}:3 without a usable label" in err


BYTES = {
    "label": (["a film", "a plot"], pa.array([b"pos", b"neg"]), "'label' is binary"),
    "image": (["a film", "a plot"], pa.array([b"\0", b"\xff"], pa.binary(1)), "'image' is fixed_size_binary[1]"),
    "parts": (["a film", "a plot"], pa.array([[b"a"], [b"b"]]), "'parts' is list<"),
    "code": (["a film", "a plot"], pa.array([b"a", b"b"]).dictionary_encode(), "'code' is dictionary<"),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_in_parquet_never_become_text(run, refused, tmp_path, name):
    texts, column, said = BYTES[name]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"text": texts, name: column}), path)
    out = ["--out", tmp_path / "out.csv"]
    calls = [["predict", run / "one", "--in", path, *out], ["evaluate", run / "one", "--data", path]]
    calls.append(["embed", "--in", path, "--model", run / "one", *out, "--keep-columns", name])
    calls.append(["finetune", "csv", "--train", path, "--model", run / "one", "--out", tmp_path / "run"])
    for words in calls:
        message = refused(*words)
        assert message.startswith(f"{path}: {said}"), message
        assert message.endswith(
            ", and bytes are neither text nor numbers; declare the column as string, or leave it out of the file"
        )


def test_bytes_in_parquet_are_copied_to_parquet(albert, letter_model, tmp_path):
    parquet.write_table(pa.table({"text": ["a film"], "image": [b"\0\xff"]}), tmp_path / "rows.parquet")
    out = tmp_path / "out.parquet"
    words = [
        "embed",
        "--in",
        tmp_path / "rows.parquet",
        "--model",
        letter_model,
        "--out",
        out,
        "--keep-columns",
        "image",
    ]
    assert albert(*words)[0] == 0
    assert parquet.read_table(out)["image"].to_pylist() == [b"\0\xff"]


def test_dates_within_lists_of_parquet_are_text(run, albert, tmp_path):
    days = pa.array([[datetime.date(2020, 1, 2)]])
    parquet.write_table(pa.table({"text": ["a film"], "days": days}), tmp_path / "rows.parquet")
    code, out, err = albert("predict", run / "one", "--in", tmp_path / "rows.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["days"] == '["2020-01-02"]'


MISSING = "the header has no column 'text'; it has {}. --text-column names the one with the texts{}"
BARE = "a carriage return stands outside of quotes"
HEADERS = {
    "cr": (
        b"te\rxt,label\na,pos\n",
        f"{BARE} in the row that begins at line 1; take it out, or put its cell in double quotes",
    ),
    "quoted": (b'"te\rxt",label\na,pos\n', MISSING.format(r"'te\rxt', 'label'", r"; did you mean 'te\rxt'?")),
    "long": (b"x" * 200_000 + b",label\na,pos\n", MISSING.format(f"'{'x' * 59}…, 'label'", "")),
    "many": (
        b",".join(b"c%d" % number for number in range(30)) + b"\n" + b"," * 29 + b"\n",
        MISSING.format(", ".join(f"'c{number}'" for number in range(20)) + " and 10 more", ""),
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_any_kind_is_one_line(refused, letter_model, tmp_path, name):
    content, message = HEADERS[name]
    csv.field_size_limit(131_072)  # Python's own, which a fresh process has
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert refused("embed", "--in", path, "--model", letter_model) == f"{path}: {message}"


DELIMITER = "a delimiter is one character, or tab, comma, semicolon or pipe, not {!r}"


@pytest.mark.parametrize("delimiter", ["ab", "", '"', "\n", "tabs"])
def test_a_delimiter_in_a_file_of_settings_is_looked_at(refused, albert, tmp_path, delimiter):
    (tmp_path / "s.toml").write_text(f"delimiter = {json.dumps(delimiter)}\n")
    message = refused("finetune", "csv", "--config", tmp_path / "s.toml", "--out", tmp_path / "run")
    assert message == f"{tmp_path}/s.toml: delimiter: {DELIMITER.format(delimiter)}"
    if delimiter:
        code, _, err = albert("finetune", "csv", "--delimiter", delimiter)
        assert code == 2
        assert err.splitlines()[-1] == f"Error: Invalid value for '--delimiter': {DELIMITER.format(delimiter)}"


def test_a_delimiter_may_be_named_in_a_file_of_settings(tmp_path):
    (tmp_path / "s.toml").write_text('delimiter = "tab"\n')
    assert read_settings(tmp_path / "s.toml", Settings) == {"delimiter": "\t"}
