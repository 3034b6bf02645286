"""albert embed: vectors against transformers, what the file holds, who can open it, and what is refused."""

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from encoding import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from programs import Program
from typer.testing import CliRunner

from albert_cli.embedding import parquet
from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.pooling import pool
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from albert_cli.main import app
from converters.errors import AlbertError

TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog.", "b", "   ", "who are you? 42!", "a cat"]


def embed(*arguments, code=0, **options):
    """Run `albert embed` in this process, on one thread as others share the machine."""
    threads = [] if "--merge" in arguments else ["--threads", "1"]
    command = ["embed", *threads, *map(str, arguments)]
    done = CliRunner().invoke(app, command, catch_exceptions=False, **options)
    assert done.exit_code == code, done.output
    return done


def vectors_of(path, column="embedding"):
    array = pq.read_table(path)[column].combine_chunks()
    return np.asarray(array.flatten()).reshape(len(array), -1)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


@pytest.fixture(scope="module")
def embedder(letter_model):
    return Embedder.from_pretrained(letter_model, threads=1)


@pytest.fixture(scope="module")
def sentences(shared_data):
    lines = (shared_data / "glue/QNLI/train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = list(dict.fromkeys(text for line in lines for text in line.split("\t")[1:3]))[:1000]
    random.Random(7).shuffle(found)
    return found


def test_threads_are_given_back(letter_model):
    before = torch.get_num_threads()
    embedder = Embedder.from_pretrained(letter_model, threads=before + 1)
    seen, encoder = [], embedder.encoder

    def spy(batch, layers):
        seen.append(torch.get_num_threads())
        return encoder(batch, layers)

    spy.config, spy.chunks_at_once = encoder.config, 1
    embedder.encoder = spy
    embedder.embed(TEXTS)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


@pytest.fixture(scope="module")
def reference(google_model, sentences):
    """transformers' hidden states of each sentence by itself, without padding: (layers + 1, tokens, H), and pooler."""
    from transformers import AlbertModel

    from albert_cli.tokenization.tokenizer import Tokenizer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the machine may be busy
    model = AlbertModel.from_pretrained(google_model).eval()
    tokens = Tokenizer.from_pretrained(google_model).encode_batch(sentences, max_length=512)
    states, pooled = [], []
    with torch.inference_mode():
        for row in range(len(sentences)):
            found = model(torch.from_numpy(tokens[row].astype(np.int64))[None], output_hidden_states=True)
            states.append(torch.stack(found.hidden_states)[:, 0].numpy())
            pooled.append(found.pooler_output[0].numpy())
    torch.set_num_threads(threads)
    return states, np.stack(pooled)


@pytest.mark.parametrize(
    ("batch_tokens", "every"),
    [
        *(("1", 5), ("300", 1), ("auto", 1), ("100000", 1)),
        pytest.param("1", 1, marks=pytest.mark.slow),  # each text by itself takes long
    ],
)
def test_vectors_are_those_of_transformers_for_any_batch(
    google_model, sentences, reference, tmp_path, batch_tokens, every
):
    sentences, states, pooled = sentences[::every], reference[0][::every], reference[1][::every]
    (tmp_path / "texts.txt").write_text("\n".join(sentences), encoding="utf-8")
    options = ["--in", tmp_path / "texts.txt", "--model", google_model, "--batch-tokens", batch_tokens]
    embed(*options, "--layer", "all", "--out", tmp_path / "mean.parquet")
    for layer in range(5):
        expected = np.stack([text[layer].mean(axis=0) for text in states])
        assert np.abs(vectors_of(tmp_path / "mean.parquet", f"embedding_{layer}") - expected).max() < 1e-5
    embed(*options, "--pooling", "cls", "--layer", "2,-1", "--out", tmp_path / "cls.parquet")
    for layer in (2, 4):
        expected = np.stack([text[layer][0] for text in states])
        assert np.abs(vectors_of(tmp_path / "cls.parquet", f"embedding_{layer}") - expected).max() < 1e-5
    embed(*options, "--pooling", "pooler", "--out", tmp_path / "pooler.parquet")
    assert np.abs(vectors_of(tmp_path / "pooler.parquet") - pooled).max() < 1e-5


def test_pairs_are_those_of_transformers(google_model, tmp_path):
    from transformers import AlbertModel

    from albert_cli.tokenization.tokenizer import Tokenizer

    rows = [("Who wrote it?", "Jane Austen did, in 1813."), ("Why?", ""), ("What is it", "a long answer " * 20)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in rows))
    embed("--in", tmp_path / "p.jsonl", "--model", google_model, "--text-column", "q", "--text-pair-column", "a")
    found = vectors_of(tmp_path / "p.parquet")
    model, tokenizer = AlbertModel.from_pretrained(google_model).eval(), Tokenizer.from_pretrained(google_model)
    for row, (first, second) in enumerate(rows):
        encoding = tokenizer.encode(first, second)
        with torch.inference_mode():
            states = model(
                torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.token_type_ids])
            ).last_hidden_state
        assert np.abs(found[row] - states[0].mean(dim=0).numpy()).max() < 1e-5


def test_pooling_does_what_its_names_say():
    states = np.random.default_rng(3).standard_normal((9, 4)).astype(np.float32)
    offsets = np.array([0, 2, 3, 9])
    rows = [states[0:2], states[2:3], states[3:9]]
    place = [np.arange(1, len(row) + 1)[:, None] for row in rows]
    expected = {
        "mean": [row.mean(axis=0) for row in rows],
        "max": [row.max(axis=0) for row in rows],
        "cls": [row[0] for row in rows],
        "weighted": [(row * n).sum(axis=0) / n.sum() for row, n in zip(rows, place, strict=True)],
    }
    for how, vectors in expected.items():
        found = pool(torch.from_numpy(states), offsets, how).numpy()
        assert np.abs(found - np.stack(vectors)).max() < 1e-6, how
    pooler = torch.nn.Linear(4, 4)
    found = pool(torch.from_numpy(states), offsets, "pooler", pooler)
    assert torch.allclose(found, torch.tanh(pooler(torch.from_numpy(states[[0, 2, 3]]))), atol=1e-6)
    with pytest.raises(EmbeddingError, match="pooling 'median' is not one of mean, cls, pooler, max, weighted"):
        pool(torch.from_numpy(states), offsets, "median")
    with pytest.raises(ValueError, match="a row has no tokens"):
        pool(torch.from_numpy(states), np.array([0, 0, 9]), "mean")


def test_every_row_is_there_in_order_with_its_facts(letter_model, texts, tmp_path):
    done = embed("--in", texts, "--model", letter_model, "--keep-text", "--max-length", "20")
    table = pq.read_table(tmp_path / "texts.parquet")
    assert table.schema.names == ["id", "text", "n_tokens", "truncated", "empty", "embedding"]
    assert table["id"].to_pylist() == list(range(7))
    assert table["text"].to_pylist() == TEXTS
    assert table["n_tokens"].to_pylist() == [6, 2, 20, 3, 2, 15, 6]
    assert table["truncated"].to_pylist() == [0, 0, 18, 0, 0, 0, 0]
    assert table["empty"].to_pylist() == [False, True, False, False, True, False, False]
    assert table["embedding"].null_count == 0
    vectors = vectors_of(tmp_path / "texts.parquet")
    assert np.array_equal(vectors[0], vectors[6])
    assert np.array_equal(vectors[1], vectors[4])
    assert "1 of 7 texts were longer than --max-length: 18 tokens were left out" in done.stderr
    assert "2 of 7 texts are empty (column empty)" in done.stderr
    assert done.stdout.startswith(f"embedded  7 rows, 54 tokens -> {tmp_path / 'texts.parquet'}\n")


def test_metadata_says_what_the_vectors_are(letter_model, texts, tmp_path):
    embed("--in", texts, "--model", letter_model, "--max-length", "20", "--pooling", "cls", "--normalize")
    inspected = json.loads(CliRunner().invoke(app, ["inspect", str(letter_model), "--json"]).stdout)
    facts = parquet.read_metadata(tmp_path / "texts.parquet")
    wanted = {
        "model": str(letter_model),
        "revision": "",
        "weights_sha256": inspected["weights_sha256"],
        "tokenizer_sha256": inspected["tokenizer_sha256"],
        "pooling": "cls",
        "layers": "[2]",
        "normalize": "true",
        "dims": "16",
        "dtype": "float32",
        "max_length": "20",
        "precision": "fp32",
        "device": "cpu",
        "rows": "7",
        "rows_truncated": "1",
        "tokens_truncated": "18",
        "rows_empty": "2",
        "tokens": "54",
        "version": "0.1.0",
    }
    assert {key: facts.get(key) for key in wanted} == wanted
    assert re.fullmatch("[0-9a-f]{64}", facts["input_sha256"])
    assert np.abs(np.linalg.norm(vectors_of(tmp_path / "texts.parquet"), axis=1) - 1).max() < 1e-6


def test_the_file_opens_in_pyarrow_pandas_polars_and_duckdb(letter_model, texts, tmp_path):
    import duckdb
    import pandas
    import polars

    for dtype in ("float32", "float16", "int8", "binary"):
        for kind in ("fixed", "list"):
            path = tmp_path / f"{dtype}-{kind}.parquet"
            embed("--in", texts, "--model", letter_model, "--out", path, "--out-dtype", dtype, "--vector-type", kind)
            vectors = vectors_of(path)
            assert vectors.shape == (7, 2 if dtype == "binary" else 16)
            fixed = pa.types.is_fixed_size_list(pq.read_schema(path).field("embedding").type)
            assert fixed == (kind == "fixed")
            frame = pandas.read_parquet(path)
            assert np.array_equal(np.stack(frame["embedding"].to_list()), vectors)
            assert np.array_equal(np.stack(polars.read_parquet(path)["embedding"].to_list()), vectors)
            rows = duckdb.sql(f"SELECT embedding FROM '{path}' ORDER BY id").fetchall()
            assert np.array_equal(np.array([row[0] for row in rows]), vectors.astype(np.float64))
    path = tmp_path / "float32-fixed.parquet"
    query = f"SELECT list_cosine_similarity(embedding, embedding) FROM '{path}'"
    assert np.allclose([row[0] for row in duckdb.sql(query).fetchall()], 1)


def test_vectors_are_split_by_byte_without_a_dictionary_in_groups_of_25000_rows(tmp_path):
    rows = 60_000
    values = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    schema = pa.schema({"id": pa.int64(), "embedding": pa.list_(pa.float32(), 4)})
    batches = [
        pa.record_batch(
            {
                "id": pa.array(np.arange(low, low + 1000)),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values[low : low + 1000].reshape(-1)), 4),
            },
        )
        for low in range(0, rows, 1000)
    ]
    for name in ("a", "b"):
        parquet.write_parquet(schema, [batch.cast(schema) for batch in batches], tmp_path / name, {"rows": "60000"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    file = pq.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(n).num_rows for n in range(3)] == [25_000, 25_000, 10_000]
    column = file.metadata.row_group(0).column(1)
    assert (column.compression, column.has_dictionary_page) == ("ZSTD", False)
    assert set(column.encodings) == {"RLE", "BYTE_STREAM_SPLIT"}
    assert np.array_equal(vectors_of(tmp_path / "a"), values)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-1000, 1000, width=32),
    )
)
@settings(deadline=None, max_examples=50)
def test_int8_and_binary_keep_what_they_promise(vectors):
    stored, scale = parquet.quantized(vectors, "int8")
    assert stored.dtype == np.int8
    error = np.abs(stored * scale[:, None] - vectors)
    assert (error <= scale[:, None] * 0.5001 + 1e-30).all()
    packed, none = parquet.quantized(vectors, "binary")
    # sentence-transformers, util/quantization.py: (np.packbits(embeddings > 0).reshape(n, -1) - 128).astype(np.int8)
    assert none is None
    bits = np.unpackbits((packed.astype(np.int16) + 128).astype(np.uint8), axis=1)[:, : vectors.shape[1]]
    assert np.array_equal(bits.astype(bool), vectors > 0)


def test_int8_has_a_scale_of_its_own_for_each_vector(letter_model, texts, tmp_path):
    embed("--in", texts, "--model", letter_model, "--out", tmp_path / "a.parquet")
    embed("--in", texts, "--model", letter_model, "--out", tmp_path / "b.parquet", "--out-dtype", "int8")
    whole, table = vectors_of(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet")
    scale = table["embedding_scale"].to_numpy()
    assert np.abs(vectors_of(tmp_path / "b.parquet") * scale[:, None] - whole).max() <= scale.max() / 2 * 1.001
    assert (np.abs(vectors_of(tmp_path / "b.parquet")).max(axis=1) == 127).all()


def test_dims_are_cut_before_the_length_is_made_1(letter_model, texts, tmp_path):
    embed("--in", texts, "--model", letter_model, "--out", tmp_path / "a.parquet")
    embed("--in", texts, "--model", letter_model, "--out", tmp_path / "b.parquet", "--dims", "5", "--normalize")
    expected = vectors_of(tmp_path / "a.parquet")[:, :5]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(vectors_of(tmp_path / "b.parquet") - expected).max() < 1e-6


def test_windows_embed_all_of_a_long_text(letter_model, embedder, tmp_path):
    long = "abcdefghij" * 30
    (tmp_path / "t.txt").write_text(f"short\n{long}\n\n")
    tokenizer = embedder.tokenizer
    windows = list(tokenizer.encode(long, max_length=20, stride=0).windows())
    assert len(windows) == 17
    for pooling in ("mean", "max", "cls"):
        options = [
            "--pooling",
            pooling,
            "--max-length",
            "20",
            "--on-truncate",
            "window",
            "--out",
            tmp_path / "o.parquet",
        ]
        done = embed("--in", tmp_path / "t.txt", "--model", letter_model, "--force", *options)
        assert "longer than" not in done.stderr
        found = vectors_of(tmp_path / "o.parquet")
        states = encode(embedder.encoder, [window.ids for window in windows])
        flat = states.hidden_states[0].numpy()
        expected = {
            "mean": flat.mean(axis=0),
            "max": flat.max(axis=0),
            "cls": np.average(flat[states.offsets[:-1]], axis=0, weights=np.diff(states.offsets)),
        }[pooling]
        assert np.abs(found[1] - expected).max() < 1e-5
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["n_tokens"].to_pylist() == [7, 300 + 2 * 17, 2]
    assert table["truncated"].to_pylist() == [0, 0, 0]


def test_tokens_keep_every_vector_with_its_piece_and_span(letter_model, embedder, texts, tmp_path):
    embed("--in", texts, "--model", letter_model, "--pooling", "tokens", "--max-length", "20", "--keep-text")
    table = pq.read_table(tmp_path / "texts.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.list_(pa.float32(), 16))
    row = table.slice(0, 1).to_pylist()[0]
    assert row["pieces"] == ["[CLS]", "▁a", "▁c", "a", "t", "[SEP]"]
    spans = list(zip(row["starts"], row["ends"], strict=True))
    assert ["a cat"[start:end] for start, end in spans] == ["", "a", "c", "a", "t", ""]
    states = encode(embedder.encoder, [embedder.tokenizer.encode("a cat").ids]).hidden_states[0].numpy()
    assert np.abs(np.array(row["embedding"]) - states).max() < 1e-5
    assert [len(item) for item in table["embedding"].to_pylist()] == table["n_tokens"].to_pylist()
    assert table["empty"].to_pylist() == [False, True, False, False, True, False, False]
    # Quantised, each token has its scale; windows go on where the one before ended.
    options = ["--pooling", "tokens", "--max-length", "20", "--on-truncate", "window", "--out-dtype", "int8"]
    embed("--in", texts, "--model", letter_model, "--out", tmp_path / "w.parquet", *options)
    windowed = pq.read_table(tmp_path / "w.parquet")
    assert len(windowed["embedding_scale"][2]) == windowed["n_tokens"][2].as_py() == len(windowed["pieces"][2])
    assert "".join(windowed["pieces"][2].as_py()).count("[CLS]") == 2


def test_python_programs_use_the_same_class(letter_model, embedder, texts, tmp_path):
    embed("--in", texts, "--model", letter_model)
    assert np.abs(embedder.embed(TEXTS) - vectors_of(tmp_path / "texts.parquet")).max() < 1e-6
    layers = Embedder.from_pretrained(letter_model, Settings(layers=None), threads=1).embed(TEXTS[:2], TEXTS[2:4])
    assert layers.shape == (3, 2, 16)


@given(st.lists(st.text("abc xyz", max_size=70), min_size=1, max_size=12), st.integers(1, 200), st.randoms())
@settings(deadline=None, max_examples=25)
def test_a_vector_depends_on_its_text_alone(embedder, rows, batch_tokens, rng):
    import dataclasses

    alone = np.concatenate([embedder.embed([row]) for row in rows])
    order = list(range(len(rows)))
    rng.shuffle(order)
    other = Embedder.__new__(Embedder)
    other.__dict__ |= embedder.__dict__ | {"plan": dataclasses.replace(embedder.plan, batch_tokens=batch_tokens)}
    together = other.embed([rows[n] for n in order])
    assert np.abs(together - alone[order]).max() < 1e-5


def test_kept_columns_and_ids_come_as_they_were(letter_model, tmp_path):
    (tmp_path / "t.csv").write_text('key,text,n\n007,"two, lines\nof text",1\n008,,2\n')
    embed("--in", tmp_path / "t.csv", "--model", letter_model, "--id-column", "key", "--keep-columns", "n,text")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [(row["id"], row["n"], row["text"]) for row in rows] == [
        ("007", "1", "two, lines\nof text"),
        ("008", "2", ""),
    ]


def test_bf16_is_near_fp32(letter_model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("albert_cli.model.kernels.has_bfloat16", lambda: True)
    exact = embed("--in", texts, "--model", letter_model, "--out", tmp_path / "a.parquet")
    near = embed("--in", texts, "--model", letter_model, "--out", tmp_path / "b.parquet", "--precision", "bf16")
    assert "made by   pooling mean\n" in exact.stdout
    assert "made by   pooling mean, computed in bf16\n" in near.stdout
    a, b = vectors_of(tmp_path / "a.parquet"), vectors_of(tmp_path / "b.parquet")
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.999 < cosine.min() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layer 3", "layer 3 was asked for; this model has 0 to 2, or -1 to -3"),
        ("--layer 2,-1", "layers 2, -1 name the same layer twice"),
        ("--pooling pooler --layer 1", "--pooling pooler is made of the last layer; leave out --layer, or choose cls"),
        ("--dims 17", "--dims 17: the model's vectors have 1 to 16 numbers"),
        (
            "--max-length 65",
            (
                "--max-length 65: the model has positions for 64 tokens; "
                "albert embed --on-truncate window takes longer texts"
            ),
        ),
        (
            "--on-truncate error --max-length 20",
            "{texts}: line 3: the text is 18 tokens longer than --max-length 20; --on-truncate window ",
        ),
        ("--embedding-column id", "two columns of the output would be called 'id'; rename the vectors with "),
        ("--out {texts}", "{texts}: embeddings are written as .parquet, .pq, .jsonl, .csv, .npy; name such a file"),
        ("--text-column body", "{texts}: lines of text have no columns; leave out --text-column and its like"),
        ("--device cuda", "--device cuda: PyTorch {torch} finds no such device; choose cpu or auto"),
    ],
)
def test_what_does_not_fit_is_one_line(letter_model, texts, options, message):
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    names = {"texts": texts, "torch": torch.__version__}
    with pytest.raises(AlbertError) as error:
        embed("--in", texts, "--model", letter_model, *options.format(**names).split())
    assert str(error.value).startswith(message.format(**names))
    assert texts.read_text() == "".join(f"{text}\n" for text in TEXTS)
    assert not texts.with_suffix(".parquet").exists()


def test_nothing_to_read_is_reported(letter_model, tmp_path):
    out = ["--out", str(tmp_path / "o.parquet"), "--model", str(letter_model)]
    with Program("embed", "--in", "-", *out) as process:  # whose input is empty
        assert process.wait() == 1
    assert process.said() == "albert: standard input: there is no text to read\n"
    with pytest.raises(AlbertError, match=r"none\.txt: no such file or directory$"):
        embed("--in", tmp_path / "none.txt", "--model", letter_model)
    done = embed("--in", tmp_path, "--model", letter_model, code=2)
    assert "--out is needed, as --in is not one file" in re.sub(r"[│\s]+", " ", done.output)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_pooler_has_no_pooler_vectors(letter_model, texts, tmp_path):
    from safetensors.numpy import load_file, save_file

    (tmp_path / "m").mkdir()
    for file in letter_model.iterdir():
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    arrays = load_file(letter_model / "model.safetensors")
    arrays = {name: array for name, array in arrays.items() if "pooler" not in name and "sop" not in name}
    save_file(arrays, tmp_path / "m/model.safetensors", {"format": "pt"})
    embed("--in", texts, "--model", tmp_path / "m")
    with pytest.raises(EmbeddingError, match=r"--pooling pooler: the model has no pooler; choose mean, cls"):
        embed("--in", texts, "--model", tmp_path / "m", "--pooling", "pooler", "--force")
    arrays["albert.encoder.embedding_hidden_mapping_in.bias"][:] = np.nan
    save_file(arrays, tmp_path / "m/model.safetensors", {"format": "pt"})
    with pytest.raises(EmbeddingError, match=r"7 of 7 vectors are not finite \(NaN or infinite\); the weights are"):
        embed("--in", texts, "--model", tmp_path / "m", "--force")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shard 3/3", "--shard 3/3: give I/N with I from 0 to N-1"),
        ("--layer x", "--layer x: give a number, several with commas, or all"),
        ("--batch-tokens 0", "'0' is not a number of tokens (from 1 up), or auto"),
        ("--num-actors 2", "--address, --num-actors and --gpus-per-actor need --engine ray"),
        ("--merge", "--merge needs --out"),
        ("--pooling median", "pooling 'median' is not one of mean, cls, pooler, max, weighted, lasttoken, "),
        ("--pooling mean+tokens", "pooling 'tokens' is not one of mean, cls, "),
    ],
)
def test_wrong_usage_exits_2(texts, options, message):
    done = embed("--in", texts, *options.split(), code=2)
    assert message in re.sub(r"[│\s]+", " ", done.output)


def test_json_report(letter_model, texts, tmp_path):
    data = json.loads(embed("--in", texts, "--model", letter_model, "--json").stdout)
    assert data.pop("seconds") > 0
    assert data.pop("settings")["pooling"] == "mean"
    assert data.pop("settings_of_the_model") == []
    assert data == {
        "out": str(tmp_path / "texts.parquet"),
        "rows": 7,
        "rows_resumed": 0,
        "rows_truncated": 0,
        "tokens_truncated": 0,
        "rows_empty": 2,
        "tokens": 72,
        "dims": 16,
        "columns": ["embedding"],
    }


def test_nothing_heavy_is_loaded_for_help():
    import sys

    code = (
        "import sys, albert_cli.main; print([n for n in ('pyarrow', 'matplotlib', 'ray', 'numpy') if n in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"


def test_a_model_is_loaded_without_torchs_compiler():
    code = (
        "import sys; from albert_cli.model.loading import load_model\n"
        "from albert_cli.registry.builtin import built_in\n"
        "model = load_model(built_in()); print('torch._dynamo' in sys.modules, next(model.parameters()).device)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False cpu\n"


def test_the_name_says_what_is_written(letter_model, texts, tmp_path):
    options = ["--in", texts, "--model", letter_model, "--layer", "1,2", "--keep-text", "--threads", "1"]
    embed(*options, "--out", tmp_path / "v.parquet")
    rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
    embed(*options, "--out", tmp_path / "v.JSONL")
    lines = [json.loads(line) for line in (tmp_path / "v.JSONL").read_text(encoding="utf-8").splitlines()]
    embed(*options, "--out", tmp_path / "v.csv")
    with (tmp_path / "v.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(lines) == len(cells) == len(rows) == 7
    for row, line, cell in zip(rows, lines, cells, strict=True):
        assert list(row) == list(line) == list(cell)
        for name, value in row.items():
            if name.startswith("embedding"):
                for found in (line[name], json.loads(cell[name])):
                    assert np.array_equal(np.array(found, np.float32), np.array(value, np.float32))
            else:
                assert line[name] == value
                assert cell[name] == ("" if value is None else value if name == "text" else json.dumps(value))
    for dtype in ("float32", "float16", "binary"):
        single = ["--in", texts, "--model", letter_model, "--out-dtype", dtype, "--threads", "1"]
        embed(*single, "--out", tmp_path / f"{dtype}.parquet")
        embed(*single, "--out", tmp_path / f"{dtype}.npy")
        matrix = np.load(tmp_path / f"{dtype}.npy")
        assert matrix.dtype == {"float32": np.float32, "float16": np.float16, "binary": np.int8}[dtype]
        assert np.array_equal(matrix, np.array(pq.read_table(tmp_path / f"{dtype}.parquet")["embedding"].to_pylist()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("v", [], "v: embeddings are written as .parquet, .pq, .jsonl, .csv, .npy; name such a file"),
        ("v.csv.gz", [], "v.csv.gz: embeddings are written as .parquet, .pq, .jsonl, .csv, .npy; name such a file"),
        ("v.jsonl", ["--shard", "0/2"], "v-00000-of-00002.jsonl: shards are written as .parquet, and --merge makes a"),
        ("v.npy", ["--layer", "all"], "v.npy: .npy holds one vector for each text; name a .parquet, .jsonl or .csv"),
        ("v.npy", ["--pooling", "tokens"], "v.npy: .npy holds one vector for each text; name"),
        ("v.npy", ["--keep-text"], "v.npy: .npy holds the vectors alone, no ids, texts, columns or scales; leave out"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_hold_is_refused(letter_model, texts, tmp_path, name, options, message):
    with pytest.raises(AlbertError, match=re.escape(message)):
        embed("--in", texts, "--model", letter_model, "--out", tmp_path / name, *options)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("v")]


def test_shards_are_merged_into_any_kind(letter_model, texts, tmp_path):
    options = ["--in", texts, "--model", letter_model, "--threads", "1"]
    for shard in ("0/2", "1/2"):
        embed(*options, "--out", tmp_path / "s.parquet", "--shard", shard)
    for name in ("m.npy", "m.csv", "m.jsonl"):
        embed("--merge", "--in", tmp_path / "s-*.parquet", "--out", tmp_path / name)
        embed(*options, "--out", tmp_path / f"whole-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_only_parquet_says_how_it_was_made(letter_model, texts, tmp_path, monkeypatch):
    from albert_cli.embedding.resume import Parts

    options = ["--in", texts, "--model", letter_model, "--threads", "1", "--out", tmp_path / "v.npy", "--resume"]
    monkeypatch.setattr(Parts, "_remove", lambda self, **_: None)  # killed before the parts are removed
    embed(*options)
    monkeypatch.undo()
    whole = (tmp_path / "v.npy").read_bytes()
    embed(*options)
    assert (tmp_path / "v.npy").read_bytes() == whole
    assert not (tmp_path / "v.npy.parts").exists()
    with pytest.raises(AlbertError, match=r"a \.npy file does not say how it was made, so --resume cannot compare"):
        embed(*options)
    embed(*options, "--force")
    assert (tmp_path / "v.npy").read_bytes() == whole
