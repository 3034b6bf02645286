"""Tables read and written in blocks: the same rows as whole, in memory that does not grow with them."""

import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from albert_cli.errors import AlbertError, DataError
from albert_cli.tables import blocks
from albert_cli.tables.blocks import in_blocks
from albert_cli.tables.table import read_table
from albert_cli.tables.write import table_writer, write_rows, write_table


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", 3)
    monkeypatch.setattr(blocks, "CHARACTERS", 40)


def write(path: Path, columns):
    write_table(columns, path, force=True)
    return path


COLUMNS = {"text": [f"text {n}" * (1 + 9 * (n == 4)) for n in range(10)], "n": [str(n) for n in range(10)]}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_blocks_are_the_table(tmp_path, name):
    path = write(tmp_path / name, COLUMNS)
    whole = read_table(path)
    with in_blocks(path, wanted=["text"]) as found:
        assert (found.where, found.header, found.rows) == (whole.where, whole.header, 10)
        tables = list(found)
    assert max(len(table.rows) for table in tables) == 3
    assert len(tables) > 4  # a long row is a block of its own
    assert [row for table in tables for row in table.rows] == whole.rows
    assert [line for table in tables for line in table.lines] == whole.lines


def test_columns_that_later_rows_and_files_name(tmp_path):
    rows = [{"text": "a"}, {"text": "b", "more": 1}, *({"text": "c"} for _ in range(5))]
    (tmp_path / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "2.csv.gz").write_bytes(gzip.compress(b"other,text\nx,y\n"))
    whole = read_table(tmp_path)
    with in_blocks(tmp_path) as found:
        assert found.header == ["text", "more", "other"] == whole.header
        tables = list(found)
    assert [row for table in tables for row in table.rows] == whole.rows
    assert [line for table in tables for line in table.lines] == whole.lines


def test_standard_input_is_read_twice(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\na\nb\nc\nd\n")))
    with in_blocks(Path("-"), kind="csv") as found:
        assert found.rows == 4
        assert [row for table in found for row in table.rows] == [["a"], ["b"], ["c"], ["d"]]
        assert sum(len(table.rows) for table in found) == 4


def test_faults_come_before_the_first_block(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"text\n" + b"sound\n" * 20 + b"\xff\n")
    with pytest.raises(AlbertError, match="line 22 is not UTF-8"), in_blocks(path):
        pytest.fail("a block came first")
    path.write_text("text\n")
    with pytest.raises(DataError, match="there is no text to read"), in_blocks(path):
        pytest.fail("a block came first")
    with pytest.raises(AlbertError, match="the header has no column 'body'"), in_blocks(path, wanted=["body"]):
        pytest.fail("a block came first")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_written_in_parts_as_at_once(tmp_path, name):
    whole = write(tmp_path / f"whole-{name}", COLUMNS)
    with table_writer(tmp_path / name) as add:
        for low in range(0, 10, 4):
            add({key: column[low : low + 4] for key, column in COLUMNS.items()})
        assert not (tmp_path / name).exists()
    if name.endswith(".parquet"):
        assert pq.read_table(tmp_path / name).equals(pq.read_table(whole))
    else:
        assert (tmp_path / name).read_bytes() == whole.read_bytes()


def test_a_parquet_column_learns_its_type_later(tmp_path):
    with table_writer(tmp_path / "t.parquet") as add:
        add({"a": [None], "b": [[]], "c": [1]})
        add({"a": [0.5], "b": [["x"]], "c": [2]})
        add({"a": [None], "b": [[]], "c": [3]})
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.to_pydict() == {"a": [None, 0.5, None], "b": [[], ["x"], []], "c": [1, 2, 3]}
    assert table.schema.types == [pa.float64(), pa.list_(pa.string()), pa.int64()]
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]


def test_a_bad_cell_of_a_later_part_is_counted_from_the_first(tmp_path):
    parts = [{"a": ["x", "y", "z"]}, {"a": ["\t"]}]

    def written():
        with table_writer(tmp_path / "t.tsv") as add:
            for part in parts:
                add(part)

    with pytest.raises(DataError, match="row 4 holds a tab"):
        written()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_no_more_than_a_block_is_held(tmp_path, monkeypatch, name):
    monkeypatch.setattr(blocks, "ROWS", 500)
    monkeypatch.setattr(blocks, "CHARACTERS", 2**20)

    def peak(rows):
        source = tmp_path / f"{rows}-{name}"
        made = ({"id": str(n), "text": f"some text {n}" * 4} for n in range(rows))
        assert write_rows(made, source, force=True) == rows
        tracemalloc.start()
        try:
            with in_blocks(source) as found, table_writer(tmp_path / name, force=True) as add:
                for table in found:
                    add({key: table.column(key, "") for key in table.header})
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(16_000) < 1.1 * peak(8_000)
