"""albert fill-mask, sop and score: against transformers and the reference graph, and as a user meets them."""

import gzip
import json
import math
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from albert_cli.model.loading import load_model
from albert_cli.scoring import batches
from albert_cli.scoring.fill_mask import fill_masks
from albert_cli.scoring.pseudo_likelihood import score_texts
from albert_cli.scoring.sentence_pairs import sentence_order
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.tokenizers.template import CLS_A_SEP_B_SEP

TEXTS = [
    "The [MASK] sat on the mat.",
    "[MASK] is a long sentence about [MASK], which un[MASK]ly goes on for quite some words, so it is padded elsewhere",
    "one [MASK]",
    "[MASK]",
]
SENTENCES = [
    "He drank a cup of gravel, in 1992, café.",
    "Who wrote it?",
    "a",
    "A rather longer sentence, which has [MASK] as plain text and goes on for some more words (to be padded).",
]
PAIRS = [
    ("She opened the door.", "Then she went in."),
    ("a", "b"),
    ("A first segment of some length, longer than the others by far, that is", "short."),
]


@pytest.fixture(scope="module")
def heads(letter_model):
    return load_model(letter_model), Tokenizer.from_pretrained(letter_model)


@pytest.fixture(scope="module", params=["letters", "google"])
def model(request):
    """A Hugging Face directory with all heads: small and of random letters, or the sample data's with real pieces."""
    return request.getfixturevalue("letter_model" if request.param == "letters" else "google_model")


def changed(model, target, **arrays):
    """A copy of a model with other tensors."""
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    stored = load_file(target / "model.safetensors")
    for name, value in arrays.items():
        name = name.replace("__", ".")  # noqa: PLW2901
        stored[name] = np.broadcast_to(np.asarray(value, np.float32), stored[name].shape).copy()
    save_file(stored, target / "model.safetensors", {"format": "pt"})
    return target


@pytest.fixture
def without_sop(letter_model, tmp_path):
    """As the models of the Hub are: saved by transformers as a masked language model."""
    transformers.AlbertForMaskedLM.from_pretrained(letter_model).save_pretrained(tmp_path / "mlm")
    (tmp_path / "mlm/spiece.model").write_bytes((letter_model / "spiece.model").read_bytes())
    return tmp_path / "mlm"


@pytest.fixture
def without_heads(letter_model, tmp_path):
    transformers.AlbertModel.from_pretrained(letter_model).save_pretrained(tmp_path / "bare")
    (tmp_path / "bare/spiece.model").write_bytes((letter_model / "spiece.model").read_bytes())
    return tmp_path / "bare"


def ok(done):
    code, out, err = done
    assert code == 0, err
    return out


# --- Against others


def test_filled_masks_equal_transformers(model, albert):
    theirs = transformers.AlbertForMaskedLM.from_pretrained(model).eval()
    tokenizer = Tokenizer.from_pretrained(model)
    texts = TEXTS if len(tokenizer) > 1000 else [text[:40] for text in TEXTS]
    found = json.loads(ok(albert("fill-mask", *texts, "--model", model, "--top", 50, "--json")))
    assert [record["text"] for record in found] == texts
    for record in found:
        ids = torch.tensor([tokenizer.encode(record["text"], special_in_text=True).ids])
        with torch.no_grad():
            expected = theirs(ids).logits[0][ids[0] == tokenizer.mask_id].softmax(-1)
        assert len(record["masks"]) == len(expected) == record["text"].count("[MASK]")
        for mask, wanted in zip(record["masks"], expected, strict=True):
            assert [one["rank"] for one in mask] == list(range(1, 51))
            given = [one["id"] for one in mask]
            assert [one["piece"] for one in mask] == [tokenizer.segmenter.piece(number) for number in given]
            assert max(abs(one["probability"] - float(wanted[one["id"]])) for one in mask) < 1e-6
            assert wanted[given[-1]] > wanted.sort().values[-51] - 1e-7


@pytest.mark.parametrize("mask", ["word-l2r", "piece"])
def test_scores_equal_transformers(model, albert, mask):
    """Each token masked by hand in turn, with what follows in its word or alone, one text at a time, unpadded."""
    theirs = transformers.AlbertForMaskedLM.from_pretrained(model).eval()
    tokenizer = Tokenizer.from_pretrained(model)
    texts = SENTENCES if len(tokenizer) > 1000 else [text[:45] for text in SENTENCES]
    chosen = [] if mask == "word-l2r" else ["--mask", mask]
    found = json.loads(ok(albert("score", *texts, "--model", model, "--json", *chosen)))
    assert {record["mask"] for record in found} == {mask}
    for record, text in zip(found, texts, strict=True):
        encoding = tokenizer.encode(text)
        ids = torch.tensor(encoding.ids)
        inner = torch.arange(1, len(ids) - 1)
        masked = ids.repeat(len(inner), 1)
        for row, place in enumerate(inner.tolist()):
            masked[row, place] = tokenizer.mask_id
            while mask == "word-l2r" and encoding.pieces[place + 1][0].isalnum():
                place += 1  # noqa: PLW2901
                masked[row, place] = tokenizer.mask_id
        with torch.no_grad():
            logs = theirs(masked).logits[torch.arange(len(inner)), inner].log_softmax(-1)
        own = logs[torch.arange(len(inner)), ids[1:-1]]
        tokens = record["token_scores"]
        assert [token["id"] for token in tokens] == encoding.ids[1:-1]
        assert [token["piece"] for token in tokens] == encoding.pieces[1:-1]
        assert [(token["start"], token["end"]) for token in tokens] == encoding.offsets[1:-1]
        assert np.abs(own.numpy() - [token["log_probability"] for token in tokens]).max() < 2e-5
        assert np.abs(logs.max(-1).values.numpy() - [t["choice_log_probability"] for t in tokens]).max() < 2e-5
        for token, row, log in zip(tokens, logs, own, strict=True):
            assert (row > log + 1e-5).sum() < token["rank"] <= (row > log - 1e-5).sum() + 1
            assert row[token["choice_id"]] > row.max() - 1e-5
            assert token["choice"] == tokenizer.segmenter.piece(token["choice_id"])
        assert record["tokens"] == len(tokens)
        assert record["log_likelihood"] == pytest.approx(float(own.double().sum()), abs=1e-3)
        assert record["per_token"] == pytest.approx(float(own.double().mean()), abs=1e-4)
        assert record["pseudo_perplexity"] == pytest.approx(math.exp(-float(own.double().mean())), rel=1e-4)
        odd = [place for place, token in enumerate(tokens) if token["odd"]]
        lowest = min(token["log_probability"] for token in tokens)
        assert len(odd) == 1
        assert tokens[odd[0]]["log_probability"] == lowest


def test_order_equals_transformers(model, albert, tmp_path):
    theirs = transformers.AlbertForPreTraining.from_pretrained(model).eval()
    tokenizer = Tokenizer.from_pretrained(model)
    limit = theirs.config.max_position_embeddings
    (tmp_path / "pairs.tsv").write_text("text\tpair\n" + "".join(f"{a}\t{b}\n" for a, b in PAIRS))
    found = json.loads(ok(albert("sop", "--in", tmp_path / "pairs.tsv", "--model", model, "--json")))
    for record, (first, second) in zip(found, PAIRS, strict=True):
        encoding = tokenizer.encode(first, second, max_length=limit)
        with torch.no_grad():
            logits = theirs(
                torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.token_type_ids])
            ).sop_logits
        assert record["in_order"] == pytest.approx(float(logits.softmax(-1)[0, 0]), abs=1e-5)
        assert (record["first"], record["second"]) == (first, second)
        assert (record["n_tokens"], record["truncated"]) == (len(encoding), encoding.truncated)
    alone = json.loads(ok(albert("sop", *PAIRS[0], "--model", model, "--json")))
    assert alone[0]["in_order"] == pytest.approx(found[0]["in_order"], abs=1e-6)


class GivenIds:
    """A tokenizer whose texts are rows of ids that were made elsewhere."""

    mask_id = 4
    template = CLS_A_SEP_B_SEP.map({"cls": 2, "sep": 3}.__getitem__)

    def __init__(self, batch):
        self.batch = batch

    def encode_batch(self, texts, pairs=None, *, max_length=None):
        return self.batch


def test_the_reference_graph(shared_data):
    """Google's own code on the same weights; its ids are random, so they cannot come from texts."""
    folder = shared_data / "checkpoints/tf1-google"
    expected, model = np.load(folder / "expected.npz"), load_model(folder)
    rows = 3  # the last one has no second segment
    lengths = expected["input_mask"][:rows].sum(1)
    ids, kinds = (
        np.concatenate([row[:length] for row, length in zip(expected[name][:rows], lengths, strict=True)])
        for name in ("input_ids", "token_type_ids")
    )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    batch = TokenBatch(ids.astype(np.int32), kinds.astype(np.uint8), starts, np.zeros(rows, np.int32), pad_id=0)
    order = sentence_order(model, GivenIds(batch), ["a"] * rows, ["b"] * rows, batch_tokens=1000)
    error = np.abs(np.log(order.in_order) - expected["sop_log_probs"][:rows, 0]).max()
    assert error < 5e-5
    for row in range(2):
        for number in range(2):
            place = int(expected["masked_lm_positions"][row, number])
            # The graph's input is not masked there, so the token is put in its own stead.
            queries = batches.Queries(np.array([row]), np.array([starts[row] + place]), np.array([1]))
            same = int(expected["input_ids"][row, place])
            [(_, logits)] = batches.logits_of(model, batch, queries, same, None, None)
            log_probs = logits.log_softmax(-1)[0].numpy()
            assert np.abs(log_probs - expected["mlm_log_probs"][row, number]).max() < 5e-5


# --- What is promised


def test_of_equal_scores_the_lower_id_comes_first(letter_model, albert, tmp_path):
    """Where the head's output is its bias alone, ties are exact."""
    size = json.loads((letter_model / "config.json").read_text())["vocab_size"]
    bias = np.zeros(size)
    bias[[30, 12, 50]] = 2
    bias[[9, 61]] = 1
    model = changed(
        letter_model, tmp_path / "m",
        predictions__LayerNorm__weight=0, predictions__LayerNorm__bias=0, predictions__bias=bias,
    )  # fmt: skip
    [record] = json.loads(ok(albert("fill-mask", "a [MASK] b", "--model", model, "--top", 8, "--json")))
    assert [one["id"] for one in record["masks"][0]] == [12, 30, 50, 9, 61, 0, 1, 2]
    share = math.exp(2) / (3 * math.exp(2) + 2 * math.e + size - 5)
    assert [one["probability"] for one in record["masks"][0]][:3] == pytest.approx([share] * 3, rel=1e-5)
    [record] = json.loads(ok(albert("fill-mask", "a [MASK]", "--model", model, "--top", 100000, "--json")))
    rest = [number for number in range(size) if number not in (12, 30, 50, 9, 61)]
    assert [one["id"] for one in record["masks"][0]] == [12, 30, 50, 9, 61, *rest]
    text = "▁".join(Tokenizer.from_pretrained(model).segmenter.piece(n)[1:] for n in (30, 9, 12, 6))
    [record] = json.loads(ok(albert("score", text, "--model", model, "--odd", 2, "--json")))
    # The five better ones, then 0 to 5, stand before id 6.
    assert [(t["id"], t["rank"]) for t in record["token_scores"]] == [(30, 2), (9, 4), (12, 1), (6, 12)]
    assert {t["choice_id"] for t in record["token_scores"]} == {12}
    assert [t["odd"] for t in record["token_scores"]] == [False, True, False, True]


@pytest.mark.parametrize("batch_tokens", [1, 37, 100_000])
def test_results_do_not_depend_on_the_batch(heads, batch_tokens, monkeypatch):
    model, tokenizer = heads
    if batch_tokens == 37:
        monkeypatch.setattr(batches, "_LOGITS", 3 * model.config.vocab_size)
    texts = [f"{'word ' * (n % 7)}[MASK]{' [MASK] x' * (n % 3)}" for n in range(30)]
    done = []
    together = fill_masks(
        model, tokenizer, texts, batch_tokens=batch_tokens, top=3, tick=lambda n, total: done.append((n, total))
    )
    assert sum(n for n, _ in done) == 30
    assert {total for _, total in done} == {30}
    for text, masks in zip(texts, together, strict=True):
        [alone] = fill_masks(model, tokenizer, [text], top=3)
        assert [[one.id for one in mask] for mask in masks] == [[one.id for one in mask] for mask in alone]
        ours = [one.probability for mask in masks for one in mask]
        assert ours == pytest.approx([one.probability for mask in alone for one in mask], abs=1e-6)
    scores = score_texts(model, tokenizer, texts, batch_tokens=batch_tokens)
    order = sentence_order(model, tokenizer, texts, texts[::-1], batch_tokens=batch_tokens)
    for number, (text, found) in enumerate(zip(texts, scores, strict=True)):
        [alone] = score_texts(model, tokenizer, [text])
        assert found.ids == alone.ids == tokenizer.encode(text, special_tokens=False).ids
        assert np.abs(found.log_probabilities - alone.log_probabilities).max() < 1e-5
        assert np.array_equal(found.choices, alone.choices)
        [pair] = sentence_order(model, tokenizer, [text], [texts[-1 - number]]).in_order
        assert order.in_order[number] == pytest.approx(pair, abs=1e-6)


@given(
    parts=st.lists(st.sampled_from(["[MASK]", " ", "a", "z", "9", ",", ".", "bcd"]), min_size=1, max_size=9),
    candidate=st.integers(5, 85),
)
def test_a_filled_text_has_the_pieces_that_the_model_saw(parts, candidate, heads):
    """Encoded again, the filled text gives the same ids with the piece in the mask's place."""
    model, tokenizer = heads
    text = "a" + "".join(parts) + "[MASK]"
    piece = tokenizer.segmenter.piece(candidate)
    ids = tokenizer.encode(text, special_in_text=["[MASK]"]).ids
    size = model.config.vocab_size
    [masks] = fill_masks(model, tokenizer, [text], top=size)
    places = [place for place, number in enumerate(ids) if number == tokenizer.mask_id]
    assert len(places) == len(masks) == text.count("[MASK]")
    for place, mask in zip(places, masks, strict=True):
        assert sum(one.probability for one in mask) == pytest.approx(1, abs=1e-5)
        [filled] = [one.filled for one in mask if one.id == candidate]
        if piece == "▁":  # a lone space joins what follows
            continue
        assert tokenizer.encode(filled, special_in_text=["[MASK]"]).ids == [*ids[:place], candidate, *ids[place + 1 :]]


def test_only_the_mask_is_special_in_a_text(heads):
    model, tokenizer = heads
    text = "a [SEP] [MASK]"
    [[mask]] = fill_masks(model, tokenizer, [text], top=1)
    assert tokenizer.sep_id not in tokenizer.encode(text, special_tokens=False, special_in_text=["[MASK]"]).ids
    assert mask[0].filled.startswith("a [SEP]")
    assert score_texts(model, tokenizer, ["[MASK]"])[0].pieces != ["[MASK]"]


def test_targets_are_compared(letter_model, heads, albert):
    done = ok(albert("fill-mask", "a [MASK], x[MASK]", "--targets", "b, c,B", "--model", letter_model, "--json"))
    [record] = json.loads(done)
    assert [sorted(one["piece"] for one in mask) for mask in record["masks"]] == [["▁b", "▁c"], ["b", "c"]]
    [everything] = fill_masks(*heads, ["a [MASK], x[MASK]"], top=1000)
    for mask, whole in zip(record["masks"], everything, strict=True):
        by_id = {one.id: one for one in whole}
        assert [one["rank"] for one in mask] == sorted(one["rank"] for one in mask)
        for one in mask:
            assert one["rank"] == by_id[one["id"]].rank
            assert one["probability"] == pytest.approx(by_id[one["id"]].probability, abs=1e-7)
            assert one["filled"] == by_id[one["id"]].filled


def test_word_pieces_keep_the_spacing_of_the_text(tmp_path, albert):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "我", "你", "好", "play", "##ing", ".", "("]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    config = {"vocab_size": 12, "embedding_size": 4, "hidden_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 2, "intermediate_size": 8}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    ok(
        albert(
            "init", tmp_path / "m", "--model-config", tmp_path / "config.json", "--tokenizer", tmp_path / "vocab.txt"
        )
    )
    arguments = ["--model", tmp_path / "m", "--top", 12, "--json"]
    [record] = json.loads(ok(albert("fill-mask", "你[MASK]play [MASK]", *arguments)))
    first, second = ({one["piece"]: one["filled"] for one in mask} for mask in record["masks"])
    assert first["好"] == "你好play [MASK]"
    assert second["##ing"] == "你[MASK]playing"
    assert second["[UNK]"] == "你[MASK]play [UNK]"
    assert (second["."], second["("]) == ("你[MASK]play.", "你[MASK]play (")
    assert "play" in ok(albert("fill-mask", "你[MASK]", "--targets", "play,好", "--model", tmp_path / "m"))


# --- As a user meets them


def test_the_tables(letter_model, albert):
    out = ok(albert("fill-mask", "a [MASK] b [MASK].", "--model", letter_model, "--top", 2))
    lines = out.splitlines()
    assert lines[0] == "a [MASK] b [MASK].  (mask 1 of 2)"
    assert lines[1].split() == ["rank", "probability", "id", "piece", "filled", "in"]
    assert lines[2].split()[0] == "1"
    assert lines[4:6] == ["", "a [MASK] b [MASK].  (mask 2 of 2)"]
    assert "\x1b" not in out
    assert ok(albert("fill-mask", "a [MASK]", "--model", letter_model)).count("\n") == 1 + 1 + 5

    asked, *lines = ok(albert("sop", "one", "two", "--model", letter_model)).splitlines()
    assert asked == "sentence order: are the segments in order, or were they swapped?"
    assert [line.split("  ")[0] for line in lines] == ["in order", "swapped"]
    assert sum(float(line.split()[-1]) for line in lines) == pytest.approx(1, abs=2e-4)

    out = ok(albert("score", "ab c", "z", "--model", letter_model))
    lines = out.splitlines()
    assert lines[0] == "ab c"
    assert lines[1].split() == ["log", "p", "rank", "piece", "text", "first", "choice", "log", "p"]
    assert [line.removeprefix("odd").split()[2:4] for line in lines[2:5]] == [["▁a", "a"], ["b", "b"], ["▁c", "c"]]
    assert sum(line.startswith("odd") for line in lines[2:5]) == 1
    assert lines[5].startswith("log-likelihood -")
    assert " of 3 tokens, " in lines[5]
    assert lines[-1].startswith("2 texts: log-likelihood -")
    assert " of 4 tokens, " in lines[-1]
    assert "\x1b" not in out

    lines = ok(albert("score", "ab c", "z", "--model", letter_model, "--totals")).splitlines()
    assert lines[0].split() == ["row", "tokens", "log-likelihood", "per", "token", "pseudo-perplexity", "text"]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "3"], ["2", "1"]]


def test_a_terminal_shows_the_odd_token_in_colour(letter_model, albert, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = ok(albert("score", "ab c", "--model", letter_model))
    [odd] = [line for line in shown.splitlines() if "odd" in line]
    assert "\x1b[1" in odd


def test_files_of_every_kind_and_standard_input(letter_model, albert, tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text("a [MASK]\n[MASK] b c\n")
    (tmp_path / "t.jsonl").write_text('{"body": "a [MASK]"}\n{"body": "[MASK] b c"}\n')
    options = ["--model", letter_model, "--json"]
    expected = json.loads(ok(albert("fill-mask", "a [MASK]", "[MASK] b c", *options)))
    assert json.loads(ok(albert("fill-mask", "--in", tmp_path / "t.txt", *options))) == expected
    named = ["--in", tmp_path / "t.jsonl", "--text-column", "body"]
    assert json.loads(ok(albert("fill-mask", *named, *options))) == expected
    with (tmp_path / "t.txt").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert json.loads(ok(albert("fill-mask", "--in", "-", *options))) == expected

    (tmp_path / "p.tsv").write_text("one\ttwo\na\tb\n" + "c d\te\n")
    named = ["--text-column", "one", "--text-pair-column", "two"]
    orders = json.loads(ok(albert("sop", "--in", tmp_path / "p.tsv", *named, *options)))
    assert [(row["first"], row["second"]) for row in orders] == [("a", "b"), ("c d", "e")]
    with (tmp_path / "p.tsv").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert json.loads(ok(albert("sop", "--in", "-", *named, *options))) == orders
    asked, *lines = ok(albert("sop", "--in", tmp_path / "p.tsv", *named, "--model", letter_model)).splitlines()
    assert asked == "sentence order: are the segments in order, or were they swapped?"
    assert lines[0].split() == ["row", "in", "order", "first", "second"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert lines[2].split()[2:] == ["c", "d", "e"]


def test_tables_are_written_to_files(letter_model, albert, refused, tmp_path):
    model = ["--model", letter_model]
    out = ok(albert("fill-mask", "a [MASK], [MASK]", *model, "--top", 3, "--out", tmp_path / "f.csv"))
    assert out == f"{tmp_path / 'f.csv'}: 6 rows\n"
    assert (tmp_path / "f.csv").read_text().splitlines()[0] == "row,text,mask,rank,id,piece,probability,filled"
    done = ok(albert("score", "ab", "c d", *model, "--out", tmp_path / "s.parquet", "--json"))
    assert json.loads(done) == {"out": str(tmp_path / "s.parquet"), "rows": 4}
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [(row["row"], row["token"], row["text"]) for row in rows] == [
        (0, 0, "a"), (0, 1, "b"), (1, 0, "c"), (1, 1, "d"),
    ]  # fmt: skip
    ok(albert("score", "ab", "", *model, "--totals", "--out", tmp_path / "s.tsv"))
    lines = [line.split("\t") for line in (tmp_path / "s.tsv").read_text().splitlines()]
    assert lines[0] == ["row", "text", "tokens", "truncated", "log_likelihood", "per_token", "pseudo_perplexity"]
    assert lines[2] == ["1", "", "0", "0", "0.0", "", ""]
    ok(albert("sop", "a", "b", *model, "--out", tmp_path / "o.jsonl"))
    assert json.loads((tmp_path / "o.jsonl").read_text())["truncated"] == 0
    assert refused("sop", "a", "b", *model, "--out", tmp_path / "o.jsonl") == (
        f"{tmp_path / 'o.jsonl'}: exists already; --force replaces it"
    )
    ok(albert("sop", "a", "c", *model, "--out", tmp_path / "o.jsonl", "--force"))
    assert json.loads((tmp_path / "o.jsonl").read_text())["second"] == "c"
    expected = f"{tmp_path / 'o.xls'}: a table is written as .csv, .tsv, .jsonl, .parquet; name such a file"
    assert refused("score", "a", *model, "--out", tmp_path / "o.xls") == expected
    expected = f"{tmp_path / 't.tsv'}: row 1 holds a tab or line break, which TSV has no way to write; name a .csv, "
    assert refused("sop", "a\tb", "c", *model, "--out", tmp_path / "t.tsv").startswith(expected)


def test_the_picture(letter_model, albert, refused, tmp_path):
    from matplotlib.image import imread

    for name in ("a.svg", "b.svg", "p.png"):
        ok(albert("score", "a b $5 c", "z", "--model", letter_model, "--plot", tmp_path / name))
    assert (tmp_path / "a.svg").read_bytes().count(b"<svg") == 1
    picture = imread(tmp_path / "p.png")[..., :3].reshape(-1, 3)
    odd, usual = (np.array([int(code[n : n + 2], 16) for n in (0, 2, 4)]) / 255 for code in ("D55E00", "56B4E9"))
    for colour in (odd, usual):
        assert (np.abs(picture - colour).max(1) < 0.01).sum() > 1000
    model = ["--model", letter_model]
    assert refused("score", "a", *model, "--plot", tmp_path / "p.png") == (
        f"{tmp_path / 'p.png'}: exists already; --force replaces it"
    )
    expected = f"{tmp_path / 'p.bmp'}: a picture is a .png, .svg or .pdf file"
    assert refused("score", "a", *model, "--plot", tmp_path / "p.bmp") == expected
    assert refused("score", *["a"] * 13, *model, "--plot", tmp_path / "q.png") == (
        f"{tmp_path / 'q.png'}: 13 texts of up to 1 tokens are too many for one picture (12 texts, 200 tokens)"
    )


def test_a_model_without_the_head_is_refused(without_sop, without_heads, refused):
    message = (
        f"{without_sop}: has no sentence-order head (SOP), so its weights would be random; models on the Hugging "
        "Face Hub leave it out; convert Google's checkpoint, which has it: albert convert albert_base_v2/ hf/, then "
        "--model hf/"
    )
    assert refused("sop", "a", "b", "--model", without_sop) == message
    for command in (["fill-mask", "a [MASK]"], ["score", "a"]):
        assert refused(*command, "--model", without_heads) == (
            f"{without_heads}: has no masked-word head (MLM), so its weights would be random; take a model "
            "that has it, such as Google's checkpoints or albert-base-v2"
        )


def test_the_masked_word_head_needs_no_other(without_sop, letter_model, albert):
    arguments = ["fill-mask", "a [MASK] b", "--json", "--model"]
    assert ok(albert(*arguments, without_sop)) == ok(albert(*arguments, letter_model))


def test_texts_that_cannot_be_judged_are_all_named(letter_model, refused, tmp_path):
    model = ["--model", letter_model]
    assert refused("fill-mask", "no mask", *model) == (
        "the text has no [MASK]; write [MASK] where a word is to be found"
    )
    assert refused("fill-mask", "a [MASK]", "b [mask]", "", *model) == (
        "text 2 has no [MASK]; text 3 has no [MASK]; write [MASK] where a word is to be found"
    )
    path = tmp_path / "t.txt"
    path.write_text("[MASK]\n" + "x\n" * 9)
    assert refused("fill-mask", "--in", path, *model) == (
        f"{path}: line 2 has no [MASK]; {path}: line 3 has no [MASK]; {path}: line 4 has no [MASK]; "
        f"{path}: line 5 has no [MASK]; {path}: line 6 has no [MASK], and 4 more; write [MASK] where a word is to be "
        "found"
    )
    limit = (
        "the model takes at most 64, [CLS] and [SEP] counted; shorten or split the text, or --on-truncate warn leaves "
        "the rest out"
    )
    error = (*model, "--on-truncate", "error")
    assert refused("score", "x" * 63, *error) == f"the text has 65 tokens; {limit}"
    assert refused("fill-mask", "[MASK]", "x" * 62 + "[MASK]", *error) == f"text 2 has 65 tokens; {limit}"
    assert refused("fill-mask", "[MASK]", "[MASK]" + "x" * 61 + "[MASK]", *model) == (
        "text 2 has 65 tokens, and [MASK] 2 of 2 stands beyond the 64 that the model takes; shorten or split the text"
    )
    assert refused("score", "", *model) == "the text is empty; there is nothing to score"
    assert refused("score", "", " ", *model) == "every text is empty; there is nothing to score"
    assert refused("sop", "a", " ", *model) == "the pair: the second segment is empty; both must hold text"
    path = tmp_path / "p.csv"
    path.write_text("text,pair\na,b\n,b\n,\n")
    assert refused("sop", "--in", path, *model) == (
        f"{path}: line 3: the first segment is empty; {path}: line 4: the first segment is empty; "
        f"{path}: line 4: the second segment is empty; both must hold text"
    )


def test_targets_that_are_no_single_piece_are_refused(letter_model, refused):
    options = ["--model", letter_model, "--targets"]
    end = "; a mask stands for one piece of the vocabulary"
    assert refused("fill-mask", "a [MASK]", *options, "b,cat") == f"'cat' is 3 pieces (▁c a t){end}"
    assert refused("fill-mask", "a[MASK]", *options, "cat,é,中") == (
        f"'cat' is 3 pieces in the middle of a word (c a t); the vocabulary does not know '中'{end}"
    )


def test_files_that_cannot_be_read_are_refused(letter_model, refused, tmp_path):
    model = ["--model", letter_model]
    missing, latin, empty, pairs = (tmp_path / name for name in ("no.txt", "latin.txt", "empty.txt", "p.tsv"))
    latin.write_bytes(b"a [MASK]\ncaf\xe9 [MASK]\n")
    empty.write_bytes(b"")
    pairs.write_text("a\tb\nc\td\n")
    assert refused("fill-mask", "--in", missing, *model) == f"{missing}: no such file or directory"
    assert refused("score", "--in", latin, *model) == (
        f"{latin}: line 2 is not UTF-8: byte 0xe9 at offset 12; convert it to UTF-8, or pass --errors replace"
    )
    assert refused("score", "--in", empty, *model) == f"{empty}: there is no text to read"
    assert refused("sop", "--in", pairs, *model) == (
        f"{pairs}: the header has no column 'text', 'pair'; it has 'a', 'b'. --text-column names the one with the "
        "texts, --text-pair-column names the one with the second texts"
    )
    assert refused("sop", "--in", latin, *model) == (
        f"{latin}: lines of text hold no pairs; give a table with a column for each of the two texts"
    )
    absent = tmp_path / "none.npz"
    assert refused("score", "a", "--model", absent) == f"{absent}: no such file, directory or checkpoint"


def test_replaced_bytes_are_scored(letter_model, albert, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    out = ok(albert("score", "--in", tmp_path / "latin.txt", "--errors", "replace", "--model", letter_model, "--json"))
    assert json.loads(out)[0]["text"] == "caf\ufffd"


def test_a_pair_that_is_too_long_is_cut_and_reported_or_refused(letter_model, albert, refused, tmp_path):
    pair = ["x" * 50, "y" * 20]
    code, out, err = albert("sop", *pair, "--model", letter_model, "--json")
    assert code == 0
    [record] = json.loads(out)
    assert (record["n_tokens"], record["truncated"]) == (64, 9)
    assert err == (
        "albert: 1 of 1 pairs are longer than the 64 tokens the model takes: 9 tokens were left out, of the longer "
        "text first (column truncated); --on-truncate error refuses such pairs\n"
    )
    [cut] = json.loads(ok(albert("sop", "x" * 41, pair[1], "--model", letter_model, "--json")))
    assert cut["in_order"] == pytest.approx(record["in_order"], abs=1e-6)
    assert refused("sop", *pair, "--model", letter_model, "--on-truncate", "error") == (
        "the pair has 73 tokens; the model takes at most 64; shorten the segments, or --on-truncate warn leaves the "
        "rest out"
    )


@pytest.mark.parametrize("how", [(), ("--mask", "piece"), ("--totals",)])
def test_a_text_that_is_too_long_is_scored_as_its_beginning(letter_model, albert, how):
    texts, options = ["ab", "xy z" * 25], ("--model", letter_model, "--json", *how)
    code, out, err = albert("score", *texts, *options)
    assert code == 0
    assert err == (
        "albert: 1 of 2 texts are longer than the 64 tokens the model takes: 13 tokens were left out; --on-truncate "
        "error refuses such texts\n"
    )
    records = json.loads(out)
    assert [(record["tokens"], record["truncated"]) for record in records] == [(2, 0), (62, 13)]
    [whole] = json.loads(ok(albert("score", cut_to(letter_model, texts[1], 62), *options)))
    assert records[1]["log_likelihood"] == pytest.approx(whole["log_likelihood"], abs=1e-4)
    for long, short in zip(records[1].get("token_scores", []), whole.get("token_scores", []), strict=True):
        assert [long[name] for name in ("id", "piece", "start", "end")] == [
            short[name] for name in ("id", "piece", "start", "end")
        ]


def cut_to(model, text, count):
    """The beginning of a text that has so many tokens."""
    return text[: Tokenizer.from_pretrained(model).encode(text, special_tokens=False).offsets[count - 1][1]]


def test_a_text_that_is_too_long_is_filled_in_where_its_mask_is_kept(letter_model, albert):
    model = ("--model", letter_model, "--json")
    code, out, err = albert("fill-mask", "[MASK]" + "x" * 62, *model)
    assert code == 0
    assert err == (
        "albert: 1 of 1 texts are longer than the 64 tokens the model takes: 1 tokens were left out; --on-truncate "
        "error refuses such texts\n"
    )
    [[long]], [[short]] = (
        (record["masks"] for record in json.loads(out)),
        (record["masks"] for record in json.loads(ok(albert("fill-mask", "[MASK]" + "x" * 61, *model)))),
    )
    assert [word["id"] for word in long] == [word["id"] for word in short]
    assert [word["probability"] for word in long] == pytest.approx([word["probability"] for word in short], abs=1e-6)
    assert long[0]["filled"] == short[0]["filled"] + "x"


def test_empty_rows_of_a_file_are_kept_and_counted(letter_model, albert, tmp_path):
    (tmp_path / "t.txt").write_text("ab\n\nc\n")
    code, out, err = albert("score", "--in", tmp_path / "t.txt", "--model", letter_model, "--json")
    assert (code, err) == (0, "albert: 1 of 3 texts are empty\n")
    found = json.loads(out)
    assert [record["tokens"] for record in found] == [2, 0, 1]
    assert found[1]["token_scores"] == []
    assert found[1]["log_likelihood"] == 0
    assert found[1]["per_token"] is None


def test_damaged_weights_and_a_larger_vocabulary_are_refused(letter_model, refused, tmp_path):
    broken = changed(letter_model, tmp_path / "nan", albert__pooler__bias=np.nan, predictions__bias=np.nan)
    message = "the model's scores are not finite (NaN or infinite); its weights are damaged"
    for command in (["fill-mask", "[MASK]"], ["score", "a"], ["sop", "a", "b"]):
        assert refused(*command, "--model", broken) == message
    config = json.loads((letter_model / "config.json").read_text())
    pieces = config["vocab_size"]
    stored = load_file(letter_model / "model.safetensors")
    small = changed(letter_model, tmp_path / "small")
    for name in ("albert.embeddings.word_embeddings.weight", "predictions.bias"):
        stored[name] = stored[name][:-1].copy()
    save_file(stored, small / "model.safetensors", {"format": "pt"})
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": pieces - 1}))
    assert refused("score", "a", "--model", small) == (
        f"{small}: the tokenizer has {pieces} pieces, the model only {pieces - 1}"
    )


def test_ids_without_a_piece_are_no_candidates(letter_model, albert, tmp_path):
    """A vocabulary filled up to a round number: the extra ids take part in the softmax, but stand for nothing."""
    config = json.loads((letter_model / "config.json").read_text())
    stored = load_file(letter_model / "model.safetensors")
    padded = changed(letter_model, tmp_path / "padded")
    for name in ("albert.embeddings.word_embeddings.weight", "predictions.bias"):
        extra = np.full((4, *stored[name].shape[1:]), 9, np.float32)
        stored[name] = np.concatenate([stored[name], extra])
    save_file(stored, padded / "model.safetensors", {"format": "pt"})
    (padded / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 4}))
    arguments = ["fill-mask", "a [MASK]", "--top", 1000, "--json", "--model"]
    [[ours]], [[plain]] = ([r["masks"] for r in json.loads(ok(albert(*arguments, m)))] for m in (padded, letter_model))
    assert [one["id"] for one in ours] == [one["id"] for one in plain]
    assert sum(one["probability"] for one in ours) < 1
    [record] = json.loads(ok(albert("score", "ab", "--json", "--model", padded)))
    assert max(token["choice_id"] for token in record["token_scores"]) < config["vocab_size"]


def test_a_sure_head_overflows_nothing(letter_model, albert, tmp_path):
    weights = {"sop_classifier__classifier__weight": 0, "sop_classifier__classifier__bias": [-2000, 2000]}
    sure = changed(letter_model, tmp_path / "sure", **weights)
    assert json.loads(ok(albert("sop", "a", "b", "--json", "--model", sure)))[0]["in_order"] == 0
    unlikely = changed(letter_model, tmp_path / "unlikely", predictions__bias=np.r_[[3e4], np.zeros(85)])
    [record] = json.loads(ok(albert("score", "ab", "--json", "--model", unlikely)), parse_constant=pytest.fail)
    assert record["pseudo_perplexity"] is None
    assert record["per_token"] < -20000
    assert ok(albert("score", "ab", "--model", unlikely)).endswith("pseudo-perplexity inf\n")


def test_memory_that_runs_out_is_reported_in_one_line(letter_model, refused, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TokenBatch, "padded", full)
    for command in (["fill-mask", "[MASK]"], ["score", "a"], ["sop", "a", "b"]):
        message = "out of memory; lower --batch-tokens, or compute on --device cpu"
        assert refused(*command, "--model", letter_model) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fill-mask"], "give texts, or --in FILE"),
        (["fill-mask", "[MASK]", "--in", "x.txt"], "give texts, or --in FILE"),
        (["fill-mask", "[MASK]", "--targets", "a", "--top", "2"], "does not go with --top"),
        (["fill-mask", "[MASK]", "--targets", " , "], "--targets takes comma-separated words"),
        (["sop", "one"], "give two segments, or --in FILE"),
        (["sop", "one", "two", "three"], "give two segments, or --in FILE"),
        (["score"], "give texts, or --in FILE"),
    ],
)
def test_wrong_usage(arguments, message, albert):
    code, out, err = albert(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", " ").split())


def test_a_file_to_score_is_read_in_parts(letter_model, albert, tmp_path):
    texts = [f"{'abcde'[number % 5]} {'abcde'[number % 3]}" for number in range(1100)]
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress("".join(f'{{"text": "{text}"}}\n' for text in texts).encode()))
    options = ["--model", letter_model, "--json"]
    scored = json.loads(ok(albert("score", "--in", tmp_path / "t.txt", *options)))
    assert [one["text"] for one in scored] == texts
    same = {text: one["log_likelihood"] for text, one in zip(texts, scored, strict=True)}
    assert [one["log_likelihood"] for one in scored] == pytest.approx([same[text] for text in texts], abs=1e-5)
    assert json.loads(ok(albert("score", "--in", tmp_path / "t.jsonl.gz", *options))) == scored
    piped = subprocess.run(
        [sys.executable, "-m", "albert_cli", "score", "--in", "-", *map(str, options)],
        input=(tmp_path / "t.txt").read_bytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(piped.stdout) == scored


def test_texts_to_score_are_refused_before_any_is_scored(letter_model, albert, tmp_path):
    lines = ["a b"] * 1100
    lines[4] = lines[1050] = "a " * 600
    (tmp_path / "t.txt").write_text("".join(f"{line}\n" for line in lines))
    status, output, error = albert(
        "score", "--in", tmp_path / "t.txt", "--model", letter_model, "--on-truncate", "error"
    )
    assert (status, output) == (1, "")
    assert f"{tmp_path / 't.txt'}: line 5 has " in error
    assert "t.txt: line 1051 has " in error
    (tmp_path / "t.txt").write_bytes(b"a b\n" * 1050 + b"\xff\n")
    status, output, error = albert("score", "--in", tmp_path / "t.txt", "--model", letter_model)
    assert (status, output) == (1, "")
    assert "line 1051" in error
