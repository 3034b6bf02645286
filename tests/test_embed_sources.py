"""What `albert embed` reads: every kind of file, compressed or not, and what is said of bad ones."""

import csv
import gzip
import io
import json
import os
import random
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_cli.embedding.unique_ids import check_unique
from albert_cli.errors import TextError
from albert_cli.tables.columns import Columns
from albert_cli.tables.input_files import plain_name
from albert_cli.tables.sources import Source
from converters.errors import AlbertError

ROWS = [("a", "one"), ("b", 'two, "quoted"'), ("c", ""), ("d", "Zürich €5 naïve"), ("e", "tab\\here")]


def write_txt(path):
    path.write_text("".join(f"{text}\n" for _, text in ROWS), encoding="utf-8")


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("key", "text"), *ROWS])


def write_tsv(path):
    path.write_text("key\ttext\r\n" + "".join(f"{key}\t{text}\r\n" for key, text in ROWS), encoding="utf-8")


def write_jsonl(path):
    path.write_text("".join(json.dumps({"text": text, "key": key}) + "\n" for key, text in ROWS), encoding="utf-8")


def write_parquet(path):
    keys, texts = zip(*ROWS, strict=True)
    pq.write_table(pa.table({"key": keys, "other": [1.5] * 5, "text": pa.array(texts).dictionary_encode()}), path)


def compress(path, codec):
    packed = path.with_name(path.name + {"gzip": ".gz", "zstd": ".zst"}[codec])
    with pa.CompressedOutputStream(str(packed), codec) as stream:
        stream.write(path.read_bytes())
    return packed


def read(path, *columns, **options):
    batches = list(Source(str(path), Columns(*columns), **options).batches())
    return pa.Table.from_batches(batches).to_pylist()


@pytest.mark.parametrize("codec", [None, "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "parquet"])
def test_every_kind_gives_the_same_rows(tmp_path, kind, codec):
    path = tmp_path / f"rows.{kind}"
    globals()[f"write_{kind}"](path)
    path = compress(path, codec) if codec else path
    named = kind != "txt"
    rows = read(path, "text" if named else None, None, "key" if named else None)
    assert [row["text"] for row in rows] == [text for _, text in ROWS]
    assert [row["id"] for row in rows] == ([key for key, _ in ROWS] if named else [0, 1, 2, 3, 4])
    assert [row["_row"] for row in rows] == [0, 1, 2, 3, 4]
    first = {"txt": 1, "csv": 2, "tsv": 2, "jsonl": 1, "parquet": 1}[kind]
    assert [row["_line"] for row in rows] == list(range(first, first + 5))


def test_standard_input_is_lines_unless_reported_otherwise(monkeypatch):
    def pipe(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    pipe(gzip.compress(b"one\ntwo\n"))
    assert [row["text"] for row in read("-")] == ["one", "two"]
    pipe(b'{"text": "one", "id": 5}\n')
    assert [(row["text"], row["id"]) for row in read("-", None, None, "id", kind="jsonl")] == [("one", 5)]


def test_directories_and_globs_in_order(tmp_path):
    for name, text in [("b.txt", "2"), ("a.txt", "1"), ("sub/c.csv", "text\n3"), (".hidden.txt", "x"), ("x.pdf", "y")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    os.mkfifo(tmp_path / "pipe.txt")  # nobody writes into it
    source = Source(str(tmp_path))
    assert [row["text"] for row in read(tmp_path)] == ["1", "2", "3"]
    assert [path.name for path in source.skipped] == ["pipe.txt", "x.pdf"]
    assert [row["text"] for row in read(tmp_path / "*.txt")] == ["1", "2"]
    assert source.listing() == [["a.txt", 2], ["b.txt", 2], ["c.csv", 7]]


def test_nothing_is_guessed_of_the_types_in_a_csv_and_json_keeps_its_own(tmp_path):
    (tmp_path / "t.csv").write_text("text,n\na,007\nb,1e3\n")
    (tmp_path / "t.jsonl").write_text('{"text": "a", "n": 7}\n{"text": null}\n\n{"text": "\\ud83d", "n": 8}\n')
    assert [row["kept.n"] for row in read(tmp_path / "t.csv", None, None, None, ("n",))] == ["007", "1e3"]
    rows = read(tmp_path / "t.jsonl", None, None, None, ("n",))
    assert [(row["text"], row["kept.n"], row["_line"]) for row in rows] == [("a", 7, 1), (None, None, 2), ("�", 8, 4)]


def test_a_line_of_a_megabyte_is_a_row_like_any_other(tmp_path):
    long = "wörter " * 150_000
    (tmp_path / "t.txt").write_text(f"a\n{long}\nb\n", encoding="utf-8")
    assert [row["text"] for row in read(tmp_path / "t.txt")] == ["a", long, "b"]
    (tmp_path / "t.csv").write_text(f'id,text\n1,"{long}"\n2,b\n', encoding="utf-8")
    assert [row["text"] for row in read(tmp_path / "t.csv", None, None, "id")] == [long, "b"]


@given(
    st.lists(st.integers(0, 30), max_size=60),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=60)
def test_blocks_hold_every_row_once_within_their_bounds(tmp_path_factory, sizes, rows, characters, shards):
    path = tmp_path_factory.mktemp("blocks") / "t.txt"
    path.write_text("".join("x" * size + "\n" for size in sizes))
    seen = []
    for shard in range(shards):
        for block in Source(str(path)).blocks(rows, characters, shard=(shard, shards)):
            lengths = [len(text) for text in block["text"].to_pylist()]
            assert 1 <= len(lengths) <= rows
            assert sum(lengths) <= characters or len(lengths) == 1
            numbers = block["_row"].to_pylist()
            assert numbers == sorted(numbers)
            assert {number % shards for number in numbers} == {shard}
            seen += zip(numbers, lengths, strict=True)
    assert sorted(seen) == list(enumerate(sizes))


@pytest.mark.parametrize(
    ("name", "data", "columns", "message"),
    [
        (
            "t.csv",
            b"key,body\na,b\n",
            (),
            "{path}: the header has no column 'text'; it has 'key', 'body'. --text-column names the one with the texts",
        ),
        ("t.csv", b"text\na\n", (None, None, "key"), "{path}: the header has no column 'key'; it has 'text'"),
        ("t.csv", b"text,text\na,b\n", (), "{path}: several columns are called 'text'; rename all but one"),
        (
            "t.csv",
            b"id,text\n1,a\n2,b,c\n",
            (),
            "{path}: 1 row not of 2 columns: line 3 has 3; a cell that holds ',' stands in double quotes, ",
        ),
        (
            "t.csv",
            b'id,text\n1,a\n2,"b\n3,c\n',
            (),
            "{path}: broken quoting in the row that begins at line 3 (unexpected end of data); is a quotation mark",
        ),
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', (), "{path}: line 2 is not JSON: "),
        ("t.jsonl", b'["a"]\n', (), "{path}: line 1 holds a list, not an object of columns"),
        ("t.jsonl", b'{"text": "a"}\n{"body": "b"}\n', (), "{path}: line 2 has no column 'text'; it has 'body'"),
        ("t.jsonl", b'{"text": "a"}\n{"text": 5}\n', (), "{path}: line 2: 'text' is 5, not text"),
        (
            "t.jsonl",
            b'{"text": "a", "id": 1}\n{"text": "b"}\n',
            (None, None, "id"),
            "{path}: line 2 has no column 'id'; it has 'text'",
        ),
        (
            "t.jsonl",
            b'{"text": "a", "id": 1}\n{"text": "b", "id": null}\n',
            (None, None, "id"),
            "{path}: line 2 has no 'id'; every row needs an id of its own",
        ),
        (
            "t.jsonl",
            b'{"text": "a", "id": 1}\n{"text": "b", "id": "x"}\n',
            (None, None, "id"),
            "{path}: line 2: 'id' is 'x', not a whole number",
        ),
        (
            "t.txt",
            b"fine\nb\xe4d\n",
            (),
            "{path}: line 2 is not UTF-8: byte 0xe4 at offset 6; convert it to UTF-8, or pass --errors replace",
        ),
        ("t.parquet", b"PAR1 but no more", (), "{path}: not a Parquet file, or a damaged one ("),
        ("t.txt.gz", gzip.compress(random.Random(1).randbytes(90_000), mtime=0)[:50_000], (), "{path}: "),
        (
            "t.xls",
            b"",
            (),
            (
                "{path}: files of the kind '.xls' are not read; tables are .txt, .csv, .tsv, .tab, .jsonl, .ndjson, "
                ".json, .parquet, .pq, gzip, zstd or xz too; --input-format says what it holds"
            ),
        ),
        ("empty/", b"", (), "{path}: the directory holds no file of a known kind (.txt, .csv, "),
        ("*.txt", b"", (), "{path}: no file matches the pattern"),
        ("none.txt", None, (), "{path}: no such file or directory"),
    ],
)
def test_bad_input_is_one_line_with_file_and_line(tmp_path, name, data, columns, message):
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif data is not None and "*" not in name:
        path.write_bytes(data)
    with pytest.raises(AlbertError) as error:
        read(path, *columns)
    assert str(error.value).startswith(message.format(path=path))
    assert "\n" not in str(error.value)


def test_damaged_compression_is_reported(tmp_path):
    whole = gzip.compress("\n".join(str(n * n) for n in range(20_000)).encode())
    (tmp_path / "t.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TextError, match=r"t\.txt\.gz: the compressed data is damaged or cut short"):
        read(tmp_path / "t.txt.gz")


def test_an_unreadable_file_of_a_glob_is_reported_before_any_work(tmp_path):
    (tmp_path / "a.txt").write_text("fine\n")
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlbertError, match=r"b\.txt: no such file or directory"):
        Source(str(tmp_path / "*.txt"))


def test_replaced_characters_are_asked_for(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"b\xe4d\n")
    assert [row["text"] for row in read(tmp_path / "t.txt", errors="replace")] == ["b�d"]


def test_a_column_that_changes_its_type_between_files_is_reported(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": [[1]]}), tmp_path / "b.parquet")
    with pytest.raises(TextError, match=r"b\.parquet: lines 1 to 1: 'n' is list<.*> there and int64 before"):
        read(tmp_path, None, None, None, ("n",))
    with pytest.raises(TextError, match=r"a\.parquet: 'n' is int64, not text; --text-column names another column"):
        read(tmp_path, "n")


def test_an_id_that_comes_twice_is_refused_with_both_places(tmp_path):
    lines = [f'{{"text": "t", "id": "{n}"}}\n' for n in range(5000)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    (tmp_path / "b.jsonl").write_text('{"text": "t", "id": "5000"}\n{"text": "t", "id": "4321"}\n')
    check_unique(Source(str(tmp_path / "a.jsonl"), Columns(id="id")))
    places = f"{tmp_path / 'b.jsonl'}: line 2: the id '4321' is that of {tmp_path / 'a.jsonl'}: line 4322 already"
    with pytest.raises(TextError, match=re.escape(places)):
        check_unique(Source(str(tmp_path), Columns(id="id")))


def test_equal_hashes_of_different_ids_are_no_duplicate(tmp_path, monkeypatch):
    import numpy as np

    from albert_cli.embedding import unique_ids

    def all_equal(source):
        for batch in source.batches():
            yield batch, np.zeros(batch.num_rows, np.uint64)

    monkeypatch.setattr(unique_ids, "_hashes", all_equal)
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2,b\n")
    check_unique(Source(str(tmp_path / "a.csv"), Columns(id="id")))


@pytest.mark.parametrize(
    ("name", "plain"), [("t.csv.gz", "t"), ("t.txt", "t"), ("t.v2.jsonl.zst", "t.v2"), ("t.data", "t.data")]
)
def test_the_name_without_endings(tmp_path, name, plain):
    assert plain_name(tmp_path / name) == plain
