"""Tables as people have them: every command reads the same ones, and says the same of those it cannot read."""

import gzip
import io
import json
import re
import sys

import pyarrow as pa
import pytest
from tuning import reviews, write_csv, write_model

from albert_cli.errors import Notice
from albert_cli.tables.delimited import delimiter_of
from albert_cli.tables.sources import Columns, Source
from albert_cli.tables.table import read_table
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
def test_another_delimiter_is_found_and_said(tmp_path, read, name, data, seen):
    (tmp_path / name).write_text(data)
    with pytest.warns(Notice, match=f"its columns seem to be separated by {seen}; --delimiter says so"):
        assert read(tmp_path / name) == [(2, "a, b", "c")]


def test_the_delimiter_can_be_said(tmp_path, read):
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
        (b"text,label\na\rb,c\n", "broken quoting in the row that begins at line 2 (a carriage return stands outside"),
        (b"texts,label\na,b\n", "did you mean 'texts'?"),
        (b"text,text,label\na,b,c\n", "several columns "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_way(tmp_path, read, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(AlbertError) as error:
        read(tmp_path / "t.csv")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}: ")
    assert "\n" not in str(error.value)


def test_an_array_that_is_none_is_told_by_its_line(tmp_path, read):
    for text in ('[{"text": "a"}, 5]', '[\n{"text": "a"\n', '[{"text": "a"}] 5', '[{"text": "a"} {"text": "b"}]'):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(AlbertError, match=r"t\.json: line 1 (holds a list|is not JSON)"):
            read(tmp_path / "t.json")


def test_names_that_are_near():
    assert did_you_mean("text", ["id", "Text"]) == "; did you mean 'Text'?"
    assert did_you_mean("label", ["lable", "x"]) == "; did you mean 'lable'?"
    assert did_you_mean("text", ["body"]) == ""


@pytest.mark.parametrize("command", [["score"], ["fill-mask"], ["sop", "--pair-column", "label"], ["embed"]])
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


def test_what_predict_cannot_read_is_said(run, refused, tmp_path):
    (tmp_path / "t.txt").write_text("good film\n")
    message = refused("predict", run / "two", "--in", tmp_path / "t.txt")
    assert message.endswith(
        "lines of text hold no pairs, which this model judges; give a table with the columns text and other"
    )
    (tmp_path / "t.csv").write_text("text,n,n\na,1,2\n")
    message = refused("predict", run / "one", "--in", tmp_path / "t.csv")
    assert message == f"{tmp_path / 't.csv'}: several columns are called 'n'; rename all but one"
    (tmp_path / "t.doc").write_text("a")
    assert "files of the kind '.doc' are not read; tables are .txt, .csv" in refused(
        "predict", run / "one", "--in", tmp_path / "t.doc"
    )
    out = tmp_path / "p.csv.gz"
    message = f"{out}: predictions are written as .csv, .tsv, .jsonl, .parquet (.json for answers); name such a file"
    assert refused("predict", run / "one", "--in", tmp_path / "t.txt", "--out", out) == message


def test_training_and_evaluation_take_such_tables(run, albert, tmp_path):
    text = "text;label\n" + "".join(f"{text};{label}\n" for text, label in reviews(24))
    (tmp_path / "T.CSV.gz").write_bytes(gzip.compress(text.encode()))
    code, out, _ = albert("evaluate", run / "one", "--data", tmp_path / "T.CSV.gz", "--json")
    assert code == 0
    plain = albert("evaluate", run / "one", "--data", run / "one.csv", "--json")[1]
    assert json.loads(out) == json.loads(plain)
    options = ["--model", run / "model", "--steps", 1, "--train", tmp_path / "T.CSV.gz"]
    code, _, err = albert("finetune", "csv", *options, "--delimiter", ";", "--out", tmp_path / "run")
    assert code == 0, err
    assert re.search(r"^delimiter = \";\"$", (tmp_path / "run" / "run.toml").read_text(), re.M)
