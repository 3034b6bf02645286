"""albert search: the nearest rows of files of vectors, ours and others', and of texts embedded on the spot."""

import csv
import datetime
import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_cli.embedding import nearest
from albert_cli.embedding.nearest import Nearest, cosines
from albert_cli.embedding.similarity import VectorFile, Vectors
from converters.errors import AlbertError

ROWS = [
    ("u0", "i like my phone", "en", 2018),
    ("u1", "my phone is not good.", "en", 2021),
    ("u2", "global warming is real", "de", 2020),
    ("u3", "how old are you?", "en", 2020),
    ("u4", "what is your age?", "de", 1999),
]


@pytest.fixture
def table(tmp_path):
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("url", "text", "lang", "year"), *ROWS])
    return tmp_path / "rows.csv"


@pytest.fixture
def ours(table, letter_model, albert):
    """A file of `albert embed` with texts, ids and columns."""
    out = table.with_suffix(".parquet")
    words = ["--id-column", "url", "--keep-columns", "lang,year", "--keep-text", "--threads", "1"]
    assert albert("embed", "--in", table, "--model", letter_model, *words, "--out", out)[0] == 0
    return out


def other(path, vectors, **columns):
    """A file of another program."""
    pq.write_table(pa.table({**columns, "vector": pa.array(vectors.tolist(), pa.list_(pa.float64()))}), path)
    return path


def searched(albert, *words):
    code, out, err = albert("search", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def embedded(albert, model, *texts):
    code, out, err = albert("embed", *texts, "--model", model)
    assert code == 0, err
    return np.array([json.loads(line) for line in out.splitlines()])


def test_the_nearest_rows_of_our_own_file_by_all_that_it_says(ours, letter_model, albert):
    query = "what phone?"
    vectors = embedded(albert, letter_model, query, *(row[1] for row in ROWS))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = unit[1:] @ unit[0]
    found = searched(albert, query, "--in", ours, "--top", "3")
    assert [item["query"] for item in found] == [query]
    rows = [hit["row"] for hit in found[0]["nearest"]]
    assert rows == np.argsort(-expected)[:3].tolist()
    for hit in found[0]["nearest"]:
        url, text, lang, year = ROWS[hit["row"]]
        assert (hit["id"], hit["text"], hit["columns"]) == (url, text, {"lang": lang, "year": str(year)})
        assert abs(hit["cosine"] - expected[hit["row"]]) < 1e-5


def test_the_table_for_people(ours, albert):
    code, out, err = albert("search", ROWS[3][1], ROWS[4][1], "--in", ours, "--top", "2")
    assert code == 0, err
    first, second = out.split("\n\n")
    lines = first.splitlines()
    assert lines[0] == ROWS[3][1]
    assert lines[1].split() == ["rank", "cosine", "id", "text", "lang", "year"]
    assert re.fullmatch(r" +1 +1\.000 +u3 +how old are you\? +en +2020", lines[2])
    assert len(lines) == 4
    assert second.splitlines()[2].split()[:3] == ["1", "1.000", "u4"]


def test_queries_from_a_file(ours, tmp_path, albert):
    (tmp_path / "q.txt").write_text(f"{ROWS[1][1]}\n{ROWS[2][1]}\n")
    found = searched(albert, ROWS[0][1], "--queries", tmp_path / "q.txt", "--in", ours, "--top", "1")
    assert [(item["query"], item["nearest"][0]["id"]) for item in found] == [(ROWS[n][1], f"u{n}") for n in range(3)]


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        (["lang=en"], {0, 1, 3}),
        (["lang != en"], {2, 4}),
        (["year>=2020"], {1, 2, 3}),  # a column of texts, for CSV has no numbers
        (["year > 999"], {0, 1, 2, 3, 4}),  # by its digits 999 would be the largest
        (["lang=en", "year<2020.5"], {0, 3}),
        (["id=u2"], {2}),
        (["n_tokens<14"], set()),
    ],
)
@pytest.mark.parametrize("on_the_spot", [False, True])
def test_only_rows_that_meet_the_conditions(ours, table, letter_model, albert, conditions, rows, on_the_spot):
    if on_the_spot and conditions[0].startswith("n_tokens"):
        pytest.skip("a column of the file of vectors")
    where = [word for text in conditions for word in ("--where", text)]
    source = [table, "--model", letter_model, "--id-column", "url"] if on_the_spot else [ours]
    if on_the_spot:
        where = [word.replace("id=", "url=") for word in where]
    found = searched(albert, "a query", "--in", *source, *where)
    assert {hit["row"] for hit in found[0]["nearest"]} == rows


def test_conditions_on_columns_of_every_type(tmp_path, letter_model, albert):
    days = [datetime.date(2020, 1, day) for day in range(1, 6)]
    path = other(
        tmp_path / "v.parquet",
        np.eye(5, 16) + 1,
        day=pa.array(days),
        stars=pa.array([1, 2, None, 4, 5], pa.int64()),
        price=pa.array([0.5, 1.5, 2.5, 3.5, float("nan")]),
        sold=pa.array([True, False, None, True, False]),
        kind=pa.array(["a", "b", "a", None, "b"]).dictionary_encode(),
        few=pa.array([1, 2, 3, 4, -5], pa.int8()),
        many=pa.array([0, 1, 2, 3, 2**64 - 1], pa.uint64()),
        half=pa.array([0.5, 1, 2, 3, 4], pa.float16()),
        view=pa.array(["1", "b", "a", None, "2.5"], pa.string_view()),
        since=pa.array(days).cast(pa.timestamp("ns")).cast(pa.timestamp("ns", "UTC")),
    )
    for condition, rows in {
        "day>2020-01-03": [3, 4],
        "stars!=2": [0, 3, 4],
        "stars<2.5": [0, 1],
        "price<=1.5": [0, 1],
        "sold=true": [0, 3],
        "kind=b": [1, 4],
        "few<1000": [0, 1, 2, 3, 4],
        "few>-1000000000000000000000": [0, 1, 2, 3, 4],
        "many>=18446744073709551615": [4],
        "many>-1": [0, 1, 2, 3, 4],
        "many<2.5": [0, 1, 2],
        "half>=2": [2, 3, 4],
        "view=a": [2],
        "view>=1": [0, 4],
        "since>2020-01-03": [3, 4],
        "since<2020-01-02T01:00:00Z": [0, 1],
    }.items():
        found = searched(albert, "a", "--in", path, "--model", letter_model, "--where", condition)
        assert sorted(hit["row"] for hit in found[0]["nearest"]) == rows, condition
    names = {"day", "stars", "price", "sold", "kind", "few", "many", "half", "view", "since"}
    assert set(found[0]["nearest"][0]["columns"]) == names
    for hit in searched(albert, "a", "--in", path, "--model", letter_model, "--keep-columns", "day")[0]["nearest"]:
        assert hit["columns"] == {"day": str(days[hit["row"]])}
    code, out, _ = albert("search", "a", "--in", path, "--model", letter_model, "--keep-columns", "few,few", "--top", 1)
    assert (code, out.split("\n")[1].split()) == (0, ["rank", "cosine", "row", "few"])


def test_the_name_of_a_file_need_not_be_text(tmp_path, letter_model, albert):
    path = other(tmp_path / "v.parquet", np.eye(2, 16)).rename(tmp_path / os.fsdecode(b"v\xff.parquet"))
    assert len(searched(albert, "a", "--in", path, "--model", letter_model)[0]["nearest"]) == 2


def test_nothing_that_meets_the_conditions_is_said(ours, albert):
    code, out, err = albert("search", "a", "--in", ours, "--where", "lang=fr")
    assert (code, out) == (0, "")
    assert err.endswith("albert: note: no row meets the conditions\n")
    assert searched(albert, "a", "--in", ours, "--where", "lang=fr") == [{"query": "a", "nearest": []}]


def test_vectors_of_another_program_by_the_model_that_is_named(tmp_path, letter_model, albert, refused):
    vectors = embedded(albert, letter_model, *(row[1] for row in ROWS))
    path = other(tmp_path / "v.parquet", vectors, title=[row[1] for row in ROWS])
    found = searched(albert, ROWS[2][1], "--in", path, "--model", letter_model, "--top", "2")[0]["nearest"]
    assert (found[0]["row"], found[0]["columns"]) == (2, {"title": ROWS[2][1]})
    assert abs(found[0]["cosine"] - 1) < 1e-5
    assert refused("search", "a", "--in", path) == (
        f"{path}: does not say which model made its vectors; --model names it"
    )
    path = other(tmp_path / "w.parquet", vectors[:, :9])
    code, _, err = albert("search", "a", "--in", path, "--model", letter_model)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"albert: {path}: its vectors have 9 numbers, those of {letter_model} 16; name the model that made them "
        "(--model), and --dims where they were cut"
    )
    found = searched(albert, ROWS[2][1], "--in", path, "--model", letter_model, "--dims", "9", "--top", "1")
    assert found[0]["nearest"][0]["row"] == 2


def test_texts_on_the_spot_are_as_a_file_of_embed(table, ours, letter_model, albert, tmp_path):
    before = sorted(tmp_path.iterdir())
    model = ["--model", letter_model, "--threads", "1"]
    found = searched(albert, "a phone", "--in", table, "--id-column", "url", "--keep-columns", "lang,year", *model)
    stored = searched(albert, "a phone", "--in", ours, "--threads", "1")
    for one, two in zip(found[0]["nearest"], stored[0]["nearest"], strict=True):
        assert abs(one.pop("cosine") - two.pop("cosine")) < 1e-6
        assert one == two
    plain = searched(albert, "a phone", "--in", table, *model, "--top", "1")[0]["nearest"][0]
    assert set(plain) == {"row", "cosine", "text"}
    assert sorted(tmp_path.iterdir()) == before
    pq.write_table(pa.table({"text": [row[1] for row in ROWS]}), tmp_path / "texts.parquet")
    texts = searched(albert, "a phone", "--in", tmp_path / "texts.parquet", *model, "--top", "1")[0]["nearest"][0]
    assert texts == plain


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_vectors_in_fewer_bits(table, letter_model, albert, tmp_path, dtype):
    out = tmp_path / "small.parquet"
    words = ["--in", table, "--model", letter_model, "--out-dtype", dtype, "--threads", "1", "--out", out]
    assert albert("embed", *words)[0] == 0
    hit = searched(albert, ROWS[2][1], "--in", out, "--top", "1")[0]["nearest"][0]
    assert hit["row"] == 2
    assert hit["cosine"] > {"float16": 0.999, "int8": 0.999, "binary": 0.5}[dtype]


def test_queries_are_made_in_the_precision_of_the_file(table, letter_model, albert, tmp_path, monkeypatch):
    from albert_cli.embedding import embedder

    seen = []
    real = embedder.make_encoder
    monkeypatch.setattr(
        embedder, "make_encoder", lambda model, **how: seen.append(how["precision"]) or real(model, **how)
    )
    words = ["--in", table, "--model", letter_model, "--threads", "1", "--precision", "int8"]
    assert albert("embed", *words, "--out", tmp_path / "v.parquet")[0] == 0
    searched(albert, "a", "--in", tmp_path / "v.parquet")
    searched(albert, "a", "--in", tmp_path / "v.parquet", "--precision", "fp32")
    assert seen == ["int8", "int8", "fp32"]


@given(
    rows=st.lists(
        st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=3, max_size=3), min_size=1, max_size=30
    ),
    queries=st.integers(1, 5),
    top=st.integers(1, 40),
    block=st.integers(1, 40),
    at_once=st.integers(1, 4),
)
def test_block_by_block_the_nearest_are_those_of_a_stable_sort(rows, queries, top, block, at_once):
    vectors = np.array(rows, np.float32)
    asked = np.array(rows * queries, np.float32)[:queries]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nearest, "_NUMBERS", block)
        patched.setattr(nearest, "_QUERIES", at_once)
        best = Nearest(asked, top)
        for start in range(0, len(vectors), 7):
            best.add(np.arange(start, min(start + 7, len(vectors))), vectors[start : start + 7])
    # A vector that comes twice has one cosine, whatever the shape of the block it is multiplied in.
    exact = np.round(cosines(asked, vectors).astype(np.float64), 5)
    for query in range(queries):
        got = exact[query][best.rows[query]]
        assert got.tolist() == np.sort(exact[query])[::-1][:top].tolist()
        assert np.abs(best.cosines[query] - got).max() < 1e-5


def test_vectors_whose_squares_float32_cannot_hold_have_their_cosine():
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((4, 16)).astype(np.float32)
    scaled = vectors * np.array([[1e-30], [1], [1e30], [0]], np.float32)
    expected = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    expected[3] = expected[:, 3] = 0
    assert np.abs(cosines(scaled, scaled) - expected).max() < 1e-6


def test_numbers_that_float32_cannot_hold_have_their_cosine(tmp_path, letter_model, albert):
    vectors = np.random.default_rng(6).standard_normal((3, 16))
    found = []
    for scale in (1, [[1e300], [1e-300], [1e307]]):
        pq.write_table(pa.table({"v": (vectors * scale).tolist()}), tmp_path / "v.parquet")
        code, out, err = albert("search", "a", "--in", tmp_path / "v.parquet", "--model", letter_model, "--json")
        assert (code, err.count("\n")) == (0, 1), err
        found.append([(hit["row"], round(hit["cosine"], 5)) for hit in json.loads(out)[0]["nearest"]])
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_many_row_groups_and_foreign_lists(tmp_path):
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((1000, 8)).astype(np.float32)
    names = [f"n{row}" for row in range(1000)]
    table = pa.table({"text": names, "v": pa.array(vectors.tolist(), pa.large_list(pa.float32()))})
    pq.write_table(table, tmp_path / "v.parquet", row_group_size=70)
    from albert_cli.embedding.search import search

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("albert_cli.embedding.similarity._CHUNK", 32)
        found = search(VectorFile(tmp_path / "v.parquet"), Vectors(["q"] * 9, vectors[:9]), 20, columns=["text"])
    expected = np.argsort(-cosines(vectors[:9], vectors), axis=1, kind="stable")[:, :20]
    assert [[hit.row for hit in hits] for hits in found] == expected.tolist()
    assert all(hit.text == hit.columns["text"] == names[hit.row] for hits in found for hit in hits)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, letter_model):
    """A file of 8 times the vectors takes no more memory, to within 30 MiB."""
    import subprocess
    import sys

    rng = np.random.default_rng(5)
    peaks = []
    for groups in (4, 32):
        schema = pa.schema({"vector": pa.list_(pa.float32(), 16), "text": pa.string()})
        with pq.ParquetWriter(tmp_path / "v.parquet", schema) as writer:
            for _ in range(groups):
                values = pa.array(rng.standard_normal(16 * 25_000, dtype=np.float32))
                writer.write_table(
                    pa.table([pa.FixedSizeListArray.from_arrays(values, 16), ["a text " * 9] * 25_000], schema=schema)
                )
        words = ["search", "a query", "--in", tmp_path / "v.parquet", "--model", letter_model, "--top", "3"]
        code = (
            "import resource, sys; from albert_cli.main import build; sys.argv = ['albert', *sys.argv[1:]]\n"
            "build('search')(standalone_mode=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < peaks[0] + 30 * 1024, peaks


USAGE = {
    ("a",): "nowhere to look; --in names a file of vectors, or of texts",
    ("--in", "{ours}"): "nothing to look for; give a QUERY, or --queries FILE",
    ("--in", "-", "--queries", "-"): "--in and --queries cannot both be standard input; name a file",
    ("a", "--in", "{ours}", "--where", "lang"): (
        "'lang' is not COLUMN, one of <= >= != = < >, and a value, as in 'year>=2020'"
    ),
    ("a", "--in", "{ours}", "--pooling", "cls"): (
        "--pooling has no effect on {ours}, which says how its vectors were made; leave it out"
    ),
    ("a", "--in", "{ours}", "--text-column", "b"): (
        "--text-column has no effect where vectors are ready; leave it out"
    ),
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_wrong_usage(ours, albert, words):
    code, out, err = albert("search", *(word.format(ours=ours) for word in words))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"Error: Invalid value: {USAGE[words].format(ours=ours)}"


REFUSED = {
    "gone.parquet": "gone.parquet: no such file or directory",
    "ours.parquet --where stars=1": (
        "--where stars=1: has no column 'stars'; it has 'id', 'text', 'lang', 'year', 'n_tokens', 'truncated', "
        "'empty', 'embedding'"
    ),
    "ours.parquet --where n_tokens=many": "--where n_tokens=many: 'n_tokens' holds int32, and 'many' is none",
    "ours.parquet --where embedding=1": "'embedding' is fixed_size_list<element: float>[16], which has no one value",
    "ours.parquet --keep-columns stars": "has no column 'stars'; its columns are id, text, lang, year, ",
    "ours.parquet --embedding-column v": "has no column of vectors 'v'; its columns are id, text, lang, year, ",
    "ours.parquet --model built-in": "its vectors are not of this model (weights SHA-256 ",
    "cut.parquet": "cut.parquet: not a Parquet file, or a damaged one (",
    "nan.parquet": "the vector of row 2 is not finite (NaN or infinite)",
    "bare.npy": "bare.npy: vectors without their model; albert embed --out FILE.parquet names it",
    "empty.txt --model built-in": "empty.txt: there is no text to read",
    "two.parquet": "has vectors in a, b; --embedding-column names one",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_searched_is_one_line(ours, refused, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    ours.rename("ours.parquet")
    table = pq.read_table("ours.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "ours.parquet").read_bytes()[:-100])
    bad = pa.array([[0.5] * 16, [float("nan")] * 16, *[[0.5] * 16] * 3], pa.list_(pa.float32()))
    pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", bad), "nan.parquet")
    np.save("bare.npy", np.eye(3))
    (tmp_path / "empty.txt").write_text("")
    pq.write_table(pa.table({"a": [[1.0]], "b": [[1.0]]}), "two.parquet")
    assert REFUSED[words] in refused("search", "a", "--in", *words.split())


def test_a_file_without_rows_gives_none(tmp_path, letter_model, albert):
    pq.write_table(pa.table({"v": pa.array([], pa.list_(pa.float32()))}), tmp_path / "v.parquet")
    assert searched(albert, "a", "--in", tmp_path / "v.parquet", "--model", letter_model) == [
        {"query": "a", "nearest": []}
    ]


def test_a_condition_is_read_as_it_stands():
    from albert_cli.tables.conditions import condition_of

    for text, parts in {
        "a=b=c": ("a", "=", "b=c"),
        " a b >= 1 ": ("a b", ">=", "1"),
        "a=": ("a", "=", ""),
        "ä!=é": ("ä", "!=", "é"),
        "a<-1": ("a", "<", "-1"),
    }.items():
        one = condition_of(text)
        assert (one.column, one.operator, one.value) == parts
    for text in ("", "=", "a", "=1"):
        with pytest.raises(ValueError, match="is not COLUMN, one of"):
            condition_of(text)


def test_of_python_errors_are_ours(tmp_path):
    with pytest.raises(AlbertError, match="vectors of 2 numbers cannot be compared with vectors of 3"):
        Nearest(np.eye(2, dtype=np.float32), 1).add(np.arange(3), np.eye(3, dtype=np.float32))
