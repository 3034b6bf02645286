"""albert embed --update: only what is new or changed is embedded, and the file is the old one or the new one."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from albert_cli.embedding import embedder, update

FIRST = [("a", "one fine day", "3"), ("b", "two", "4"), ("c", "three", "5")]
# Another order; c is changed, d and e are new, b is gone.
LATER = [("e", "five", "1"), ("c", "thirty", "5"), ("a", "one fine day", "3"), ("d", "four", "2")]


def write(path, rows, header=("url", "text", "stars")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def run(tmp_path, letter_model, albert):
    """Write rows and embed them; the exit code, what was printed as JSON, and the error."""

    def embed(rows, *more, update=True, keep=("--keep-columns", "stars")):
        write(tmp_path / "t.csv", rows)
        words = ["--in", tmp_path / "t.csv", "--model", letter_model, "--id-column", "url", "--threads", "1", *keep]
        out = ["--out", tmp_path / "v.parquet", *(["--update"] if update else []), "--json"]
        code, printed, err = albert("embed", *words, *out, *more)
        return code, json.loads(printed) if code == 0 else printed, err

    return embed


@pytest.fixture
def seen(monkeypatch):
    """The texts that are embedded."""
    found, real = [], embedder.Embedder.tokenize

    def tokenize(self, texts, pairs=None):
        found.extend(texts)
        return real(self, texts, pairs)

    monkeypatch.setattr(embedder.Embedder, "tokenize", tokenize)
    return found


def table(tmp_path, name="v.parquet"):
    return pq.read_table(tmp_path / name)


@pytest.mark.parametrize("keep_text", [False, True])
def test_only_new_and_changed_rows_are_embedded(run, seen, tmp_path, albert, letter_model, keep_text):
    more = ["--keep-text"] if keep_text else []
    code, first, _ = run(FIRST, *more)
    assert (code, first["rows"]) == (0, 3)
    seen.clear()
    code, report, err = run(LATER, *more)
    assert code == 0, err
    counts = {name: report[name] for name in ("rows", "added", "changed", "unchanged", "not_in_the_input")}
    assert counts == {"rows": 5, "added": 2, "changed": 1, "unchanged": 1, "not_in_the_input": 1}
    assert sorted(seen) == ["five", "four", "thirty"]
    updated = table(tmp_path)
    assert updated["id"].to_pylist() == ["a", "b", "c", "e", "d"]
    assert updated["stars"].to_pylist() == ["3", "4", "5", "1", "2"]
    assert ("text" in updated.column_names, "text_sha256" in updated.column_names) == (keep_text, not keep_text)
    # Every row is as if the whole had been embedded at once.
    rows = [FIRST[0], FIRST[1], LATER[1], LATER[0], LATER[3]]
    write(tmp_path / "all.csv", rows)
    words = ["--in", tmp_path / "all.csv", "--model", letter_model, "--id-column", "url", "--threads", "1", *more]
    out = ["--keep-columns", "stars", "--update", "--out", tmp_path / "all.parquet"]
    assert albert("embed", *words, *out)[0] == 0
    whole = table(tmp_path, "all.parquet")
    assert whole.schema.remove_metadata() == updated.schema.remove_metadata()
    assert whole.drop(["embedding"]).equals(updated.drop(["embedding"]))
    x, y = (np.array(one["embedding"].to_pylist()) for one in (whole, updated))
    assert np.abs(x - y).max() < 1e-5
    differ = {key for key in whole.schema.metadata if whole.schema.metadata[key] != updated.schema.metadata[key]}
    assert differ == {b"albert.input", b"albert.input_sha256"}


def test_nothing_new_leaves_the_file_alone(run, seen, tmp_path):
    run(FIRST)
    path = tmp_path / "v.parquet"
    before = path.stat(), path.read_bytes()
    seen.clear()
    _, report, _ = run(FIRST[::-1])
    assert (report["added"], report["changed"], report["unchanged"]) == (0, 0, 3)
    after = path.stat(), path.read_bytes()
    assert (before[0].st_ino, before[0].st_mtime_ns, before[1]) == (after[0].st_ino, after[0].st_mtime_ns, after[1])
    assert seen == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "v.parquet"]


def test_a_kept_column_that_changed_is_a_change(run, tmp_path):
    run(FIRST)
    _, report, _ = run([("b", "two", "1")])
    assert (report["changed"], report["unchanged"], report["not_in_the_input"]) == (1, 0, 2)
    assert table(tmp_path)["stars"].to_pylist() == ["3", "1", "5"]


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
@pytest.mark.parametrize("kind", ["fixed", "list"])
def test_vectors_of_every_type(run, tmp_path, dtype, kind):
    how = ["--out-dtype", dtype, "--vector-type", kind]
    run(FIRST, *how)
    old = table(tmp_path)
    code, _, err = run(LATER, *how)
    assert code == 0, err
    new = table(tmp_path)
    assert new.schema.remove_metadata() == old.schema.remove_metadata()
    assert new.slice(0, 2).equals(old.slice(0, 2))
    assert new["text_sha256"][2] != old["text_sha256"][2]
    assert dtype == "binary" or new["embedding"][2] != old["embedding"][2]


def test_several_layers_and_pairs(tmp_path, letter_model, albert):
    words = ["--in", tmp_path / "t.csv", "--model", letter_model, "--text-pair-column", "pair", "--threads", "1"]
    words += ["--layer", "1,2", "--update", "--out", tmp_path / "v.parquet", "--json"]
    write(tmp_path / "t.csv", [("a", "x"), ("b", "y")], ("text", "pair"))
    assert albert("embed", *words)[0] == 0
    write(tmp_path / "t.csv", [("a", "x"), ("b", "z"), ("c", "")], ("text", "pair"))
    report = json.loads(albert("embed", *words)[1])
    assert (report["added"], report["changed"], report["unchanged"]) == (1, 1, 1)
    assert table(tmp_path).column_names == [
        "id", "text_sha256", "n_tokens", "truncated", "empty", "embedding_1", "embedding_2",
    ]  # fmt: skip


def test_rows_over_many_blocks_and_batches(run, tmp_path, monkeypatch):
    monkeypatch.setattr(update, "_CHUNK", 7)
    monkeypatch.setattr("albert_cli.embedding.engine._BLOCK_ROWS", {"cpu": 5})
    rows = [(f"u{n}", f"text {n}", str(n)) for n in range(60)]
    run(rows)
    before = dict(zip(table(tmp_path)["id"].to_pylist(), table(tmp_path)["text_sha256"].to_pylist(), strict=True))
    later = [(name, text + "!" if n % 3 == 0 else text, stars) for n, (name, text, stars) in enumerate(rows)]
    _, report, _ = run([*later[30:], *later[:30], *((f"w{n}", "new", "0") for n in range(13))])
    assert (report["changed"], report["unchanged"], report["added"], report["rows"]) == (20, 40, 13, 73)
    updated = table(tmp_path)
    assert updated["id"].to_pylist() == [*(row[0] for row in rows), *(f"w{n}" for n in range(13))]
    for n, (name, digest) in enumerate(zip(updated["id"].to_pylist(), updated["text_sha256"].to_pylist(), strict=True)):
        assert (before.get(name) == digest) == (n < 60 and n % 3 != 0)
    assert updated["n_tokens"].to_pylist()[0] == updated["n_tokens"].to_pylist()[1] + 1
    assert int(updated.schema.metadata[b"albert.rows"]) == 73
    assert int(updated.schema.metadata[b"albert.tokens"]) == sum(updated["n_tokens"].to_pylist())


def test_lines_of_text_are_known_by_their_number(tmp_path, letter_model, albert):
    words = ["--in", tmp_path / "t.txt", "--model", letter_model, "--update", "--threads", "1"]
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    assert albert("embed", *words)[0] == 0
    (tmp_path / "t.txt").write_text("one\n2\nthree\n")
    code, out, err = albert("embed", *words)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"updated   {tmp_path / 't.parquet'}: 3 rows"
    assert lines[1:3] == ["embedded  1 new rows, 1 changed ones", "kept      1 unchanged rows"]
    assert table(tmp_path, "t.parquet")["id"].to_pylist() == [0, 1, 2]


def test_an_updated_file_is_searched(run, tmp_path, albert):
    run(FIRST)
    run(LATER)
    code, out, err = albert("search", "thirty", "--in", tmp_path / "v.parquet", "--top", "1", "--json")
    assert code == 0, err
    hit = json.loads(out)[0]["nearest"][0]
    assert (hit["id"], hit["columns"]) == ("c", {"stars": "5"})
    assert abs(hit["cosine"] - 1) < 1e-5


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", ["embed", "write"])
def test_what_is_interrupted_leaves_the_old_file(run, tmp_path, monkeypatch, place):
    run(FIRST)
    before = (tmp_path / "v.parquet").read_bytes()

    def killed(*arguments, **more):
        raise Killed

    target = {"embed": (update.engine, "embed"), "write": (update, "_rows")}[place]
    with monkeypatch.context() as patched:
        patched.setattr(*target, killed)
        with pytest.raises(Killed):
            run(LATER)
    assert (tmp_path / "v.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "v.parquet"]
    assert run(LATER)[1]["rows"] == 5


def test_a_first_run_that_was_killed_is_resumed(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("albert_cli.embedding.engine._BLOCK_ROWS", {"cpu": 1})
        patched.setattr("albert_cli.embedding.engine.Parts.finish", lambda self, count: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(FIRST)
        assert (tmp_path / "v.parquet.parts").is_dir()
    monkeypatch.setattr("albert_cli.embedding.engine._BLOCK_ROWS", {"cpu": 1})
    code, report, err = run(FIRST)
    assert (code, report["rows"], report["rows_resumed"]) == (0, 3, 3), err


MADE_OTHERWISE = {
    ("--pooling", "cls"): "was made otherwise (pooling is cls, was mean); repeat its settings, or embed it again with",
    ("--max-length", "9"): "max length is 9, was 64",
    ("--out-dtype", "int8"): "dtype is int8, was float32",
    ("--model", "built-in"): "weights sha256 is ",
    ("--keep-text",): "keep text is true, was false",
}


@pytest.mark.parametrize("words", MADE_OTHERWISE, ids=" ".join)
def test_a_file_that_was_made_otherwise_is_refused(run, tmp_path, words):
    run(FIRST)
    before = (tmp_path / "v.parquet").read_bytes()
    code, _, err = run(LATER, *words)
    assert code == 1
    assert MADE_OTHERWISE[words] in err.splitlines()[-1]
    assert (tmp_path / "v.parquet").read_bytes() == before


def test_a_file_without_texts_or_hashes_is_refused(run, tmp_path):
    run(FIRST, update=False)
    code, _, err = run(LATER)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"albert: {tmp_path / 'v.parquet'}: holds neither texts nor their SHA-256, by which --update knows what is "
        "new; embed it again with --force and --keep-text, then --update works"
    )


def damaged(data):
    return data[: len(data) // 2]


def foreign(path):
    pq.write_table(pa.table({"id": ["a"], "embedding": [[1.0]]}), path)


def test_other_files_are_refused(run, tmp_path, albert, letter_model):
    path = tmp_path / "v.parquet"
    foreign(path)
    assert run(LATER)[2].splitlines()[-1] == f"albert: {path}: not a file of albert embed; --update needs one"
    path.unlink()
    run(FIRST)
    path.write_bytes(damaged(path.read_bytes()))
    assert f"{path}: not a Parquet file, or a damaged one (" in run(LATER)[2].splitlines()[-1]
    words = ["--in", tmp_path / "t.csv", "--model", letter_model, "--id-column", "url", "--shard", "0/2"]
    assert albert("embed", *words, "--keep-text", "--out", tmp_path / "s.parquet")[0] == 0
    shard = tmp_path / "s-00000-of-00002.parquet"
    code, _, err = albert("embed", *words[:-2], "--keep-text", "--out", shard, "--update")
    assert (code, err.splitlines()[-1]) == (
        1, f"albert: {shard}: a shard; merge all of them (--merge), and update the whole",
    )  # fmt: skip


def test_a_file_whose_columns_were_changed_is_refused(run, tmp_path):
    path = tmp_path / "v.parquet"
    run(FIRST)
    table = pq.read_table(path)
    place = table.schema.names.index("embedding")
    texts = pa.array(["x"] * table.num_rows)
    for changed, fault in (
        (table.append_column("id", texts), "it has 2 columns 'id'; embed it again"),
        (table.append_column("more", texts), f"its columns are {', '.join([*table.schema.names, 'more'])}, not id, "),
        (table.set_column(place, "embedding", texts), "its columns do not hold what vectors have ("),
    ):
        pq.write_table(changed, path)
        before = path.read_bytes()
        code, _, err = run(LATER)
        assert (code, err.splitlines()[-1].startswith(f"albert: {path}: is damaged: {fault}")) == (1, True), err
        assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir() if "update" in item.name) == []
    nulls = pa.nulls(table.num_rows, pa.int32())
    pq.write_table(table.set_column(table.schema.names.index("n_tokens"), "n_tokens", nulls), path)
    code, _, err = run(LATER)
    assert (code, err) == (0, "")


def test_a_file_without_rows_is_filled(run, tmp_path):
    run(FIRST)
    pq.write_table(table(tmp_path).slice(0, 0), tmp_path / "v.parquet")
    code, report, err = run(FIRST)
    assert (code, report["added"], err) == (0, len(FIRST), "")
    assert table(tmp_path).num_rows == len(FIRST)


def test_ids_that_come_twice_are_refused(run, tmp_path):
    run(FIRST)
    code, _, err = run([*LATER, LATER[0]])
    assert code == 1
    assert "line 6: the id 'e' is that of" in err.splitlines()[-1]


def test_a_column_of_another_type_is_refused(tmp_path, letter_model, albert):
    words = ["--in", tmp_path / "t.jsonl", "--model", letter_model, "--id-column", "n", "--update", "--threads", "1"]
    (tmp_path / "t.jsonl").write_text('{"n": 1, "text": "a"}\n')
    assert albert("embed", *words)[0] == 0
    (tmp_path / "t.jsonl").write_text('{"n": "x", "text": "a"}\n')
    code, _, err = albert("embed", *words)
    assert code == 1
    assert "line 1 and the rows after it: 'id' is string, which does not fit the int64 that it is in" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--resume"],
            "--resume has no effect with --update, which keeps what is there and takes what is new; leave it out",
        ),
        (["--out", "x.csv"], "--update needs a .parquet file, which says how its vectors were made, not x.csv"),
    ],
)
def test_wrong_usage(tmp_path, albert, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("a\n")
    code, _, err = albert("embed", "--in", "t.txt", "--update", *words)
    assert (code, err.splitlines()[-1]) == (2, f"Error: Invalid value: {message}")
