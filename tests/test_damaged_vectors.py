"""Files of vectors, and parts of them, that were damaged: refused in one line, and never other results."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from albert_cli.embedding import engine
from albert_cli.pretraining import distillation
from converters.errors import AlbertError

TEXTS = ["a film", "another film", "the rain", "a phone"]
AGAIN = "; embed it again"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(letter_model, tmp_path_factory):
    """A file of vectors, and an unfinished run of three parts."""
    from typer.testing import CliRunner

    from albert_cli.main import app

    folder = tmp_path_factory.mktemp("vectors")
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    words = ["embed", "--in", f"{folder}/texts.txt", "--model", str(letter_model), "--threads", "1", "--keep-text"]
    assert CliRunner().invoke(app, [*words, "--out", f"{folder}/whole.parquet"]).exit_code == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "_BLOCK_ROWS", {"cpu": 1})
        patched.setattr(engine.Parts, "finish", lambda self, count: (_ for _ in ()).throw(Killed))
        assert isinstance(CliRunner().invoke(app, [*words, "--out", f"{folder}/parts.parquet"]).exception, Killed)
    return folder, words


def metadata(**changes):
    """Changes of the metadata; None takes a key away."""

    def change(table):
        facts = dict(table.schema.metadata)
        for key, value in changes.items():
            facts[f"albert.{key}".encode()] = value if isinstance(value, bytes) else str(value).encode()
            if value is None:
                del facts[f"albert.{key}".encode()]
        return table.replace_schema_metadata(facts)

    return change


def vectors(rows, kind=None):
    def change(table):
        kind_of = kind or pa.list_(pa.float32())
        at = table.schema.get_field_index("embedding")
        return table.set_column(at, "embedding", pa.array(rows, kind_of))

    return change


def texts_of_bytes(table):
    raw = pa.array([b"\xff"] * table.num_rows, pa.binary()).view(pa.string())
    return table.set_column(table.schema.get_field_index("text"), "text", raw)


ROW = [0.5] * 16
# What is changed in the file; what is said where a text is compared with it, and where its rows are with one another.
FILES = {
    "layers no list": (metadata(layers="x"), "layers is 'x', not a list", None),
    "layers of texts": (metadata(layers='["2"]'), "layers[0] is '2', not a whole number", None),
    "a layer below": (metadata(layers="[-3]"), "layers[0] is -3, not at least 0", None),
    "a layer beyond": (metadata(layers="[7]"), "layer 7 was asked for; this model has 0 to 2", None),
    "no layer": (metadata(layers="[]"), "layers is [], of which none is that of the column 'embedding'", None),
    "two layers": (metadata(layers="[1, 2]"), "layers is [1, 2], of which none is that of the column", None),
    "another pooling": (metadata(pooling="median"), "damaged: pooling 'median' is not one of mean, cls, ", None),
    "no pooling": (metadata(pooling=None), "pooling is missing", None),
    "normalize": (metadata(normalize="yes"), "normalize is 'yes', not one of true, false, before", None),
    "normalize as a number": (metadata(normalize=1), "normalize is '1', not one of true, false, before", None),
    "max_length": (metadata(max_length=0), "max_length is 0, not at least 1", None),
    "max_length beyond": (metadata(max_length=10**30), "max_length is 1000000000", None),
    "on_truncate": (metadata(on_truncate="wrap"), "on_truncate is 'wrap', not one of cut, window", None),
    "lower_case": (metadata(lower_case='"false"'), "lower_case is 'false', not true or false", None),
    "several": (metadata(pooling=None, layers="{}"), "layers is {}, not a list; pooling is missing", None),
    "nesting": (metadata(layers="[" * 100000), "layers is '[[[", None),
    "dims": (metadata(dims="x"), "dims is 'x', not a whole number", ""),
    "other dims": (metadata(dims=8), "dims is 8, but 'embedding' holds 16 numbers of float32", ""),
    "dims beyond": (metadata(dims=10**12), "dims is 1000000000000, not from 1 to 1048576", ""),
    "not UTF-8": (metadata(dtype=b"\xff"), "dtype is '\\\\xff', not one of float32, float16, int8, binary", ""),
    "dtype": (metadata(dtype="binary"), "dtype is 'binary', but 'embedding' holds float", ""),
    "ragged": (vectors([ROW, ROW[:3], ROW, ROW]), "row 2 has a vector of 3 numbers, where the others have 16", ""),
    "a null": (vectors([ROW, None, ROW, ROW]), "row 2 has no vector, where the others have 16", ""),
    "a null among fixed": (vectors([ROW, None, ROW, ROW], pa.list_(pa.float32(), 16)), "row 2 has no vector, ", ""),
    "a number lacks": (vectors([ROW, ROW, ROW, [None, *ROW[1:]]]), "the vector of row 4 lacks a number", ""),
    "NaN": (vectors([ROW, ROW, [float("nan"), *ROW[1:]], ROW]), "the vector of row 3 is not finite (NaN or ", ""),
    "infinite": (vectors([ROW, ROW, [float("inf"), *ROW[1:]], ROW]), "the vector of row 3 is not finite (NaN or ", ""),
    "labels": (texts_of_bytes, "its rows cannot be read: ", ""),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_vectors_is_refused(made, tmp_path, albert, name):
    change, message, alone = FILES[name]
    path = tmp_path / "v.parquet"
    pq.write_table(change(pq.read_table(made[0] / "whole.parquet")), path)
    for words in (["a text", path], [path], [path, path, "--top", "1", "--json"]):
        code, out, err = albert("similarity", *words)
        if alone is None and words[0] == path:  # how the vectors were made does not matter among themselves
            assert (code, bool(out)) == (0, True), err
            continue
        last = err.splitlines()[-1]
        assert code == 1, (out, err)
        assert message in last
        assert str(path) in last or "layer 7" in last


def part(damage):
    def change(directory):
        path = directory / "part-00000001.arrow"
        path.write_bytes(damage(path.read_bytes()))

    return change


def manifest(content):
    return lambda directory: (directory / "manifest.json").write_text(content)


def flip(place):
    return part(lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def zeros(data):
    found = pa.ipc.open_file(pa.BufferReader(data))
    batch = found.get_batch(0)
    sink = pa.BufferOutputStream()
    at = batch.schema.get_field_index("embedding")
    other = batch.set_column(at, "embedding", pa.array([[0.0] * 16], batch.schema.field("embedding").type))
    with pa.ipc.new_file(sink, found.schema) as writer:
        writer.write_batch(other.replace_schema_metadata(found.schema.metadata))
    return sink.getvalue().to_pybytes()


PARTS = {
    "no facts": (manifest("{}"), "manifest.json: damaged: facts is missing; notes is missing; --force restarts"),
    "a list": (manifest("[]"), "manifest.json: damaged: [], no table; --force restarts"),
    "half": (manifest("{"), "manifest.json: is not JSON: "),
    "null facts": (manifest('{"facts": null, "notes": {}}'), "facts is None, not a table"),
    "numbers": (manifest('{"facts": {"dims": 3}, "notes": {}}'), "facts.dims is 3, not a text in quotes"),
    "other facts": (manifest('{"facts": {}, "notes": {}}'), "was started with other settings ("),
    "other values": (part(zeros), "part-00000001.arrow: damaged: its SHA-256 is not that of the rows it was written"),
    "cut short": (part(lambda data: data[:100]), "part-00000001.arrow: damaged: "),
    "empty": (part(lambda data: b""), "part-00000001.arrow: damaged: "),
    "zeros": (part(lambda data: bytes(len(data))), "part-00000001.arrow: damaged: "),
}


@pytest.mark.parametrize("name", PARTS)
def test_damaged_parts_are_refused_and_force_starts_again(made, tmp_path, albert, monkeypatch, name):
    monkeypatch.setattr(engine, "_BLOCK_ROWS", {"cpu": 1})
    change, message = PARTS[name]
    directory = tmp_path / "parts.parquet.parts"
    shutil.copytree(made[0] / "parts.parquet.parts", directory)
    assert len(list(directory.glob("part-*"))) == len(TEXTS)
    change(directory)
    code, _, err = albert(*made[1], "--out", tmp_path / "parts.parquet", "--resume")
    assert code == 1
    assert message in err.splitlines()[-1]
    code, _, err = albert(*made[1], "--out", tmp_path / "parts.parquet", "--force")
    assert code == 0, err
    assert pq.read_table(tmp_path / "parts.parquet").equals(pq.read_table(made[0] / "whole.parquet"))


def test_every_flipped_byte_of_the_values_of_a_part_is_noticed(made, tmp_path, albert, monkeypatch):
    monkeypatch.setattr(engine, "_BLOCK_ROWS", {"cpu": 1})
    whole = (made[0] / "parts.parquet.parts/part-00000001.arrow").read_bytes()
    value = pa.ipc.open_file(pa.BufferReader(whole)).get_batch(0)["embedding"].values[3].as_py()
    place = whole.index(np.float32(value).tobytes())
    for at in (place, place + 3):
        shutil.copytree(made[0] / "parts.parquet.parts", tmp_path / "parts.parquet.parts", dirs_exist_ok=True)
        flip(at)(tmp_path / "parts.parquet.parts")
        code, _, err = albert(*made[1], "--out", tmp_path / "parts.parquet", "--resume")
        assert code == 1
        assert "its SHA-256 is not that of the rows" in err


def test_a_finished_file_without_its_counts_is_not_resumed(made, tmp_path, albert):
    table = pq.read_table(made[0] / "whole.parquet")
    pq.write_table(metadata(rows="many", tokens=None)(table), tmp_path / "whole.parquet")
    code, _, err = albert(*made[1], "--out", tmp_path / "whole.parquet", "--resume")
    assert code == 1
    assert f"metadata is damaged: rows is 'many', not a whole number; tokens is missing{AGAIN}" in err


def _stamped(**changes):
    def change(folder):
        path = folder / "x.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "x.npy").write_bytes(b""), "x.npy: its SHA-256 is not that in x.json"),
        (lambda folder: (folder / "x.npy").write_bytes(bytes(200)), "x.npy: its SHA-256 is not that in x.json"),
        (lambda folder: (folder / "x.json").write_bytes(b"{"), "x.json: is not JSON: "),
        (lambda folder: (folder / "x.json").write_bytes(b"[]"), "x.json: damaged: [], no table"),
        (_stamped(sha256=3), "x.json: damaged: sha256 is 3, not a text in quotes"),
        (_stamped(sha256="0"), "x.npy: its SHA-256 is not that in x.json"),
    ],
)
def test_damaged_vectors_of_a_teacher_are_refused(tmp_path, damage, message):
    made = distillation._kept(tmp_path, "x", lambda: np.arange(6, dtype=np.float16).reshape(2, 3), resuming=True)
    again = distillation._kept(tmp_path, "x", lambda: pytest.fail("it is there"), resuming=True)
    assert np.array_equal(made, again)
    damage(tmp_path)
    with pytest.raises(AlbertError) as caught:
        distillation._kept(tmp_path, "x", lambda: pytest.fail("it is there"), resuming=True)
    assert message in str(caught.value)
    assert f"; remove {tmp_path}, and the vectors are computed again" in str(caught.value)
    again = distillation._kept(tmp_path, "x", lambda: made, resuming=False)
    assert np.array_equal(made, again)
