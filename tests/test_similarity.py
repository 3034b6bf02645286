"""albert similarity: cosines, neighbours and the picture, from texts and from files."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from albert_cli.builtin.held_out import SIX
from albert_cli.embedding.nearest import cosines
from albert_cli.embedding.similarity import VectorFile, Vectors, nearest
from albert_cli.main import app
from converters.errors import AlbertError

SENTENCES = list(SIX)


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(item) for item in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def sentences(tmp_path):
    (tmp_path / "six.txt").write_text("\n".join(SENTENCES) + "\n")
    return tmp_path / "six.txt"


@pytest.fixture
def embedded(sentences, letter_model):
    options = ["--in", sentences, "--model", letter_model, "--keep-text", "--threads", "1"]
    run("embed", *options)
    return sentences.with_suffix(".parquet")


def expected_cosines(path):
    vectors = np.array(pq.read_table(path)["embedding"].to_pylist())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_the_table_holds_the_cosine_of_every_two_texts(sentences, embedded, letter_model):
    data = json.loads(run("similarity", "--in", sentences, "--model", letter_model, "--json").stdout)
    assert data["rows"] == data["columns"] == SENTENCES
    assert np.abs(np.array(data["cosines"]) - expected_cosines(embedded)).max() < 1e-5
    lines = run("similarity", *SENTENCES[:2], "--model", letter_model).stdout.splitlines()
    assert lines[0].split() == ["1", "2"]
    cosine = f"{expected_cosines(embedded)[0, 1]:.3f}"
    assert lines[1:] == [f"1  1.000  {cosine}  {SENTENCES[0]}", f"2  {cosine}  1.000  {SENTENCES[1]}"]


def test_a_text_is_compared_with_a_file_as_the_file_was_made(sentences, letter_model):
    options = ["--in", sentences, "--model", letter_model, "--keep-text", "--threads", "1"]
    run("embed", *options, "--pooling", "cls", "--layer", "1", "--dims", "9", "--normalize")
    path = sentences.with_suffix(".parquet")
    found = json.loads(run("similarity", SENTENCES[3], path, "--top", "2", "--json").stdout)
    assert found[0]["query"] == SENTENCES[3]
    assert found[0]["nearest"][0]["label"] == SENTENCES[3]
    assert abs(found[0]["nearest"][0]["cosine"] - 1) < 1e-5
    assert found[0]["nearest"][0]["row"] == 3


def test_neighbours_in_a_file_leave_out_the_row_itself(embedded):
    found = json.loads(run("similarity", embedded, "--top", "5", "--json").stdout)
    table = expected_cosines(embedded)
    for row, item in enumerate(found):
        rows = [one["row"] for one in item["nearest"]]
        assert rows == [int(n) for n in np.argsort(-table[row]) if n != row]
    # Two files: every row of the first among those of the second, itself too.
    both = json.loads(run("similarity", embedded, embedded, "--top", "1", "--json").stdout)
    assert [item["nearest"][0]["row"] for item in both] == list(range(6))


@given(
    table=st.lists(
        st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=7, max_size=7), min_size=1, max_size=4
    ),
    top=st.integers(1, 9),
    same=st.booleans(),
)
def test_the_nearest_are_those_of_a_stable_sort_whatever_the_ties(table, top, same):
    rows = np.array(table, np.float32).T  # (7, dimensions)
    vectors = Vectors([str(number) for number in range(7)], rows)
    for query, found in enumerate(nearest(vectors, vectors, top, same=same)):
        cosine = cosines(rows, rows)[query]
        order = [int(row) for row in np.argsort(-cosine, kind="stable") if not (same and row == query)]
        assert [one.row for one in found] == order[:top]
        assert [one.cosine for one in found] == [float(cosine[row]) for row in order[:top]]


def test_texts_against_a_file_of_texts(sentences, letter_model):
    done = run("similarity", "How old are you?", "--in", sentences, "--model", letter_model, "--top", "1")
    assert re.fullmatch(r"How old are you\?\s+1\.000\s+5\s+How old are you\?", done.stdout.splitlines()[1])
    table = run("similarity", "a phone", "--in", sentences, "--model", letter_model).stdout
    assert len(table.splitlines()[1].split()) == 1 + 6 + 2
    assert table.splitlines()[-1] == "6  what is your age?"


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_stored_in_fewer_bits_the_cosines_stay_near(sentences, embedded, letter_model, dtype):
    options = ["--in", sentences, "--model", letter_model, "--out-dtype", dtype, "--threads", "1"]
    run("embed", *options, "--out", sentences.with_name("small.parquet"))
    data = json.loads(run("similarity", sentences.with_name("small.parquet"), "--json").stdout)
    assert data["rows"] == [str(n) for n in range(6)]
    error = np.abs(np.array(data["cosines"]) - expected_cosines(embedded)).max()
    if dtype == "binary":
        vectors = np.array(pq.read_table(embedded)["embedding"].to_pylist()) > 0
        agreeing = (vectors[:, None] == vectors[None]).mean(axis=2)
        assert np.abs(np.array(data["cosines"]) - (2 * agreeing - 1)).max() < 1e-6
    else:
        assert error < {"float16": 1e-3, "int8": 2e-2}[dtype]


def test_nearest_in_chunks_is_nearest_of_all(monkeypatch, tmp_path):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((500, 8)).astype(np.float32)
    values[17] = values[400] = values[3]
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 8)
    pq.write_table(pa.table({"vector": column}), tmp_path / "v.parquet")
    monkeypatch.setattr("albert_cli.embedding.similarity._CHUNK", 64)
    queries = Vectors(["q"] * 20, values[:20])
    found = nearest(queries, VectorFile(tmp_path / "v.parquet"), 7)
    table = cosines(values[:20], values)
    for row, neighbours in zip(table, found, strict=True):
        expected = np.argsort(-row, kind="stable")[:7]
        assert np.abs(row[expected] - np.array([one.cosine for one in neighbours])).max() < 1e-6
    assert {one.row for one in found[3][:3]} == {3, 17, 400}


def test_the_heat_map_is_a_picture_with_every_label(sentences, letter_model, tmp_path):
    options = ["--in", sentences, "--model", letter_model, "--plot"]
    done = run("similarity", *options, tmp_path / "heat.svg")
    assert done.stdout.endswith(f"{tmp_path / 'heat.svg'}: 6 x 6 cosines\n")
    run("similarity", *options, tmp_path / "heat.png")
    from matplotlib.image import imread

    picture = imread(tmp_path / "heat.png")
    assert min(picture.shape[:2]) > 600
    # A heat map: the diagonal is the darkest, so many different colours are there.
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100
    assert (tmp_path / "heat.svg").read_text(encoding="utf-8").count("<svg") == 1
    with pytest.raises(AlbertError, match=r"heat\.png: exists already; --force replaces it$"):
        run("similarity", *options, tmp_path / "heat.png")
    before = (tmp_path / "heat.png").read_bytes()
    run("similarity", *options, tmp_path / "heat.png", "--force")
    assert (tmp_path / "heat.png").read_bytes() == before
    with pytest.raises(AlbertError, match=r"heat\.bmp: a picture is a \.png, \.svg or \.pdf file"):
        run("similarity", *options, tmp_path / "heat.bmp")


def test_the_figure_carries_the_labels_and_numbers(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    from albert_cli.embedding.heat_map import draw

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self) or save(self, *args, **kwargs)
    )
    table = np.array([[1.0, 0.25], [0.25, 1.0]], np.float32)
    draw(table, ["costs $5 or $6", "b"], ["c", "d"], tmp_path / "h.png")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"costs \$5 or \$6", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "d"]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.25", "1.00"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("plain", "x.parquet: has no column of vectors; its columns are a"),
        ("two", "x.parquet: has vectors in u, v; --embedding-column names one"),
        ("broken", "x.parquet: not a Parquet file, or a damaged one ("),
        ("foreign", "x.parquet: does not say how its vectors were made; compare it with another file"),
    ],
)
def test_files_without_vectors_are_refused(tmp_path, make, message):
    vectors = [[1.0, 2.0]]
    if make == "broken":
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
    else:
        columns = {"plain": {"a": [1]}, "two": {"u": vectors, "v": vectors}, "foreign": {"v": vectors}}[make]
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(AlbertError) as error:
        run("similarity", "a text", tmp_path / "x.parquet")
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_vectors_of_another_model_or_size_are_refused(embedded, letter_model, tmp_path):
    run(
        "init",
        tmp_path / "m",
        "--model-config",
        letter_model.parent / "config.json",
        "--seed",
        "8",
        "--tokenizer",
        letter_model / "spiece.model",
    )
    with pytest.raises(AlbertError, match=r"six\.parquet: its vectors are not of this model \(weights SHA-256"):
        run("similarity", "a text", embedded, "--model", tmp_path / "m")
    pq.write_table(pa.table({"v": [[1.0, 2.0]]}), tmp_path / "x.parquet")
    with pytest.raises(AlbertError, match="vectors of 16 numbers cannot be compared with vectors of 2"):
        run("similarity", embedded, tmp_path / "x.parquet")


def test_settings_that_a_file_has_decided_are_refused(embedded):
    for option in (["--pooling", "cls"], ["--layer", "1"]):
        done = run("similarity", "a text", embedded, *option, code=2)
        assert f"{option[0]}: texts are embedded as" in re.sub(r"[│\s]+", " ", done.output)


def test_wrong_usage(tmp_path, letter_model):
    assert "nothing to compare" in run("similarity", code=2).output
    (tmp_path / "t.txt").write_text("a\n" * 101)
    done = run("similarity", "--in", tmp_path / "t.txt", "--model", letter_model, code=2)
    assert "101 rows are too many for a table of at most 100" in re.sub(r"[│\s]+", " ", done.output)


def test_queries_of_a_file_against_a_file_of_vectors(sentences, embedded, letter_model):
    queries = sentences.with_name("queries.csv")
    queries.write_text(f"q;n\n{SENTENCES[2]};1\n{SENTENCES[5]};2\n")
    options = ["--in", queries, "--text-column", "q", "--delimiter", ";", embedded, "--top", "2"]
    found = json.loads(run("similarity", *options, "--json").stdout)
    assert [(item["query"], item["nearest"][0]["row"]) for item in found] == [(SENTENCES[2], 2), (SENTENCES[5], 5)]
    assert [len(item["nearest"]) for item in found] == [2, 2]
    lines = run("similarity", *options).stdout.splitlines()
    assert lines[0].split() == ["text", "cosine", "row", "nearest"]
    assert re.fullmatch(rf"{re.escape(SENTENCES[2])}\s+1\.000\s+3\s+{re.escape(SENTENCES[2])}", lines[1])
    more = json.loads(run("similarity", "a phone", *options, "--json").stdout)
    assert [item["query"] for item in more] == ["a phone", SENTENCES[2], SENTENCES[5]]


def test_rows_go_by_the_ids_of_their_file(albert, sentences, letter_model, tmp_path):
    rows = "".join(json.dumps({"text": text, "key": f"k{number}"}) + "\n" for number, text in enumerate(SENTENCES))
    (tmp_path / "t.jsonl").write_text(rows)
    options = ["--in", tmp_path / "t.jsonl", "--model", letter_model, "--threads", "1"]
    albert("embed", *options, "--id-column", "key", "--out", tmp_path / "ids.parquet")
    albert("embed", *options, "--out", tmp_path / "plain.parquet")
    code, out, err = albert("similarity", SENTENCES[3], tmp_path / "ids.parquet", "--model", letter_model, "--top", "1")
    assert (code, out.splitlines()[0].split()) == (0, ["text", "cosine", "id", "nearest"])
    assert out.splitlines()[1].split()[-3:] == ["1.000", "k3", "k3"]
    assert "ids.parquet: holds no texts, so rows go by id; albert embed --keep-text copies them" in err
    code, out, err = albert(
        "similarity", SENTENCES[3], tmp_path / "plain.parquet", "--model", letter_model, "--top", "1"
    )
    assert out.splitlines()[1].split()[-3:] == ["1.000", "4", "4"]
    assert "plain.parquet: holds no texts, so rows go by number; albert embed --keep-text" in err
    _, out, _ = albert("similarity", tmp_path / "plain.parquet")
    assert [line.split()[::7] for line in out.splitlines()[1:]] == [[str(row), str(row)] for row in range(1, 7)]


def test_what_cannot_be_shown_is_refused_before_any_work(albert, embedded, letter_model, tmp_path, monkeypatch):
    from albert_cli.embedding.embedder import Embedder

    monkeypatch.setattr(Embedder, "embed", None)
    (tmp_path / "t.txt").write_text("a\n" * 1500)
    for more, what in (
        ([], "1,500 rows are too many for a table of at most 100; --top K lists the nearest"),
        (
            ["--top", "3", "--plot", tmp_path / "p.png"],
            "1,500 rows are too many for a picture of at most 100; leave out --plot",
        ),
        ([embedded], "1,500 rows are too many for a table of at most 100; --top K lists the nearest"),
    ):
        code, _, err = albert("similarity", "--in", tmp_path / "t.txt", *more)
        assert code == 2
        assert what in re.sub(r"[│\s]+", " ", err)
    code, _, err = albert("similarity", "a", "b", "--plot", tmp_path / "p.bmp")
    assert (code, err) == (1, f"albert: {tmp_path / 'p.bmp'}: a picture is a .png, .svg or .pdf file\n")


def test_texts_that_are_cut_are_reported(albert, letter_model):
    code, _, err = albert("similarity", "a " * 100, "b", "--model", letter_model)
    assert code == 0, err
    assert "1 of 2 texts are longer than 64 tokens: " in err
    assert "albert embed --on-truncate window takes them whole" in err


def test_scales_of_small_numbers_are_no_vectors(albert, letter_model, tmp_path):
    (tmp_path / "x.txt").write_text("a b\nc d\n")
    made = ["embed", "--in", tmp_path / "x.txt", "--model", letter_model, "--pooling", "tokens", "--out-dtype", "int8"]
    assert albert(*made, "--out", tmp_path / "x.parquet")[0] == 0
    code, _, err = albert("similarity", tmp_path / "x.parquet", "a", "--model", letter_model)
    assert (code, "x.parquet: has no column of vectors; its columns are" in err) == (1, True)


def test_a_file_of_bare_vectors_is_named_as_such(albert, letter_model, tmp_path):
    (tmp_path / "x.txt").write_text("a b\nc d\n")
    made = ["embed", "--in", tmp_path / "x.txt", "--model", letter_model, "--out", tmp_path / "x.npy"]
    assert albert(*made)[0] == 0
    code, _, err = albert("similarity", tmp_path / "x.npy", "a", "--model", letter_model)
    assert code == 1
    assert "x.npy: vectors without their model; albert embed --out FILE.parquet names it" in err
