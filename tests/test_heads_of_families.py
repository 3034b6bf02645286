"""fill-mask, score and sop with the models of every family, against transformers: same ids, same outputs."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from albert_cli.scoring import masked_spans
from albert_cli.scoring.fill_mask import fill_masks
from albert_cli.scoring.load import load
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer

MASKED = [
    "She had the [MASK] of all possible reasons.",
    "[MASK]",
    "It was a very great [MASK] to him, [MASK]!",
    "The [MASK] [MASK] of the two ladies un[MASK]",
]
PRETRAINED = {
    "bert": transformers.BertForMaskedLM,
    "spanbert-with-heads": transformers.BertForMaskedLM,
    "generator": transformers.ElectraForMaskedLM,
    "roberta": transformers.RobertaForMaskedLM,
}


def ok(done):
    code, out, err = done
    assert code == 0, err
    return out


def tokenizer_of(path):
    """transformers' own; where it makes RoBERTa's mask of vocab.json, the blank before it is no part of it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    if "<mask>" in tokenizer.get_vocab():
        mask = transformers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, mask_token=mask)
    return tokenizer


# --- fill-mask


@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
@pytest.mark.parametrize("name", PRETRAINED)
def test_masks_are_filled_as_by_the_pipeline_of_transformers(relatives, albert, name, batch_tokens):
    """Several masks, texts of several lengths in one padded batch, or each alone."""
    model = relatives[name]
    theirs = PRETRAINED[name].from_pretrained(model).eval()
    pipeline = transformers.pipeline("fill-mask", model=theirs, tokenizer=tokenizer_of(model), device="cpu")
    texts = [text.replace("[MASK]", pipeline.tokenizer.mask_token) for text in MASKED]
    options = ("--top", 9, "--json", "--batch-tokens", batch_tokens)
    found = json.loads(ok(albert("fill-mask", *texts, "--model", model, *options)))
    assert [record["text"] for record in found] == texts
    for text, record in zip(texts, found, strict=True):
        wanted = pipeline(text, top_k=9)
        wanted = wanted if isinstance(wanted[0], list) else [wanted]
        assert len(record["masks"]) == len(wanted)
        for ours, others in zip(record["masks"], wanted, strict=True):
            assert [one["id"] for one in ours] == [one["token"] for one in others]
            assert max(abs(one["probability"] - other["score"]) for one, other in zip(ours, others, strict=True)) < 1e-5


@pytest.mark.parametrize("name", [*PRETRAINED, "albert"])
def test_every_spelling_of_the_mask_is_the_mask(relatives, google_model, albert, tmp_path, name):
    """Also both in one text, in files, and of the library; the text itself is shown as it was written."""
    model = {**relatives, "albert": google_model}[name]
    texts = ["you are a beautiful {}.", "{} is it", "g{} {}\n", "({}) {}{}"]
    own, other = sorted(
        ("[MASK]", "<mask>"), key=Tokenizer.from_pretrained(model).segmenter.special_tokens["mask"].__ne__
    )
    spelt = {
        "own": [text.replace("{}", own) for text in texts],
        "other": [text.replace("{}", other) for text in texts],
        "both": [text.replace("{}", own, 1).replace("{}", other) for text in texts],
    }
    found = {
        how: json.loads(ok(albert("fill-mask", *given, "--model", model, "--json"))) for how, given in spelt.items()
    }
    for how, records in found.items():
        assert [record["text"] for record in records] == spelt[how]
        for record, wanted in zip(records, found["own"], strict=True):
            for mask, same in zip(record["masks"], wanted["masks"], strict=True):
                assert [(one["id"], one["probability"]) for one in mask] == [
                    (one["id"], one["probability"]) for one in same
                ]
                for one, as_own in zip(mask, same, strict=True):
                    assert one["filled"].replace(other, own) == as_own["filled"]
                    # The masks that stay are spelt as they were.
                    assert one["filled"].count(other) <= record["text"].count(other)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in spelt["both"]))
    assert (
        json.loads(ok(albert("fill-mask", "--in", tmp_path / "t.jsonl", "--model", model, "--json"))) == found["both"]
    )
    heads = load(str(model), "mlm")
    made = fill_masks(heads.model, heads.tokenizer, spelt["other"])
    assert [[one._asdict() for one in mask] for masks in made for mask in masks] == [
        mask for record in found["other"] for mask in record["masks"]
    ]


@pytest.mark.parametrize("name", [*PRETRAINED, "albert"])
def test_a_mask_of_another_spelling_has_its_own_span_and_the_models_piece(relatives, google_model, albert, name):
    model = {**relatives, "albert": google_model}[name]
    tokenizer = Tokenizer.from_pretrained(model)
    own = tokenizer.segmenter.special_tokens["mask"]
    text = "a <mask>, [MASK]"
    assert tokenizer.mask_spans(text) == [(2, 8), (10, 16)]
    encoding = tokenizer.encode(text, special_in_text=True)
    places = [place for place, number in enumerate(encoding.ids) if number == tokenizer.mask_id]
    assert [encoding.offsets[place] for place in places] == [(2, 8), (10, 16)]
    assert [encoding.pieces[place] for place in places] == [own, own]
    both = text.replace("<mask>", own).replace("[MASK]", own)
    assert encoding.ids == tokenizer.encode(both, special_in_text=True).ids
    shown = [
        ok(albert("tokenize", given, "--model", model, "--special-in-text", "--format", "ids"))
        for given in (text, both)
    ]
    assert shown[0] == shown[1]
    # Without being asked for, both are plain text, as in Google's code.
    assert tokenizer.mask_id not in tokenizer.encode(text).ids


def test_a_piece_of_the_vocabulary_that_looks_like_a_mask_stays_that_piece(relatives, albert, tmp_path):
    shutil.copytree(relatives["bert"], tmp_path / "m")
    words = (tmp_path / "m/vocab.txt").read_text(encoding="utf-8").split("\n")
    place = words.index("[unused0]") if "[unused0]" in words else 1
    words[place] = "<mask>"
    (tmp_path / "m/vocab.txt").write_text("\n".join(words), encoding="utf-8")
    for file in ("tokenizer.json",):
        (tmp_path / "m" / file).unlink(missing_ok=True)
    tokenizer = Tokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.masks == ("[MASK]",)
    assert tokenizer.mask_spans("<mask> [MASK]") == [(7, 13)]


# --- score

FOX = "the quick brown fox jumps over the lazy dog"
DUCK = "the quick brown duck jumps over the lazy dog"
TEXTS = [DUCK, "She", "It was a very great pleasure to him, 1234!", FOX]


@pytest.fixture(scope="module")
def unsure(relatives, tmp_path_factory):
    """The small discriminator with a bias at which some tokens of these texts are replaced and some are not."""
    from safetensors.numpy import load_file, save_file

    target = shutil.copytree(relatives["discriminator"], tmp_path_factory.mktemp("unsure") / "m")
    stored = load_file(target / "model.safetensors")
    stored["discriminator_predictions.dense_prediction.bias"] += np.float32(0.4)
    save_file(stored, target / "model.safetensors", {"format": "pt"})
    return target


def detected(model, texts):
    """transformers' probabilities for each token but the special ones, each text alone."""
    theirs = transformers.ElectraForPreTraining.from_pretrained(model).eval()
    tokenizer = tokenizer_of(model)
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            yield inputs.input_ids[0, 1:-1].tolist(), theirs(**inputs).logits[0, 1:-1].sigmoid().numpy()


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
@pytest.mark.parametrize("which", ["discriminator", "unsure"])
def test_a_discriminator_says_what_was_replaced(relatives, unsure, albert, which, batch_tokens):
    model = {**relatives, "unsure": unsure}[which]
    options = ("--model", model, "--json", "--batch-tokens", batch_tokens)
    found = json.loads(ok(albert("score", *TEXTS, *options)))
    assert [record["text"] for record in found] == TEXTS
    marked = 0
    for record, (ids, wanted) in zip(found, detected(model, TEXTS), strict=True):
        tokens = record["token_scores"]
        assert [token["id"] for token in tokens] == ids
        assert np.abs(wanted - [token["probability"] for token in tokens]).max() < 1e-5
        assert [token["replaced"] for token in tokens] == (wanted > 0.5).tolist()
        assert (record["tokens"], record["replaced"]) == (len(ids), int((wanted > 0.5).sum()))
        assert record["mean_probability"] == pytest.approx(float(wanted.mean()), abs=1e-5)
        words = [record["text"][token["start"] : token["end"]].lower() for token in tokens]
        assert words == [token["piece"].removeprefix("##") for token in tokens]
        marked += record["replaced"]
    assert 0 < marked < sum(record["tokens"] for record in found)
    totals = json.loads(ok(albert("score", *TEXTS, *options, "--totals")))
    assert totals == [{key: value for key, value in record.items() if key != "token_scores"} for record in found]


def test_a_discriminator_in_tables_files_and_a_picture(unsure, albert, refused, tmp_path):
    from matplotlib.image import imread

    model = ("--model", unsure)
    [(_, wanted), (_, one)] = detected(unsure, [DUCK, "She"])
    lines = ok(albert("score", DUCK, "She", *model)).splitlines()
    assert lines[0] == DUCK
    assert lines[1].split() == ["P(replaced)", "piece", "text"]
    rows = [line.removeprefix("replaced").split() for line in lines[2 : 2 + len(wanted)]]
    assert [row[0] for row in rows] == [f"{share:.4f}" for share in wanted]
    marks = [line.startswith("replaced") for line in lines[2 : 2 + len(wanted)]]
    assert marks == (wanted > 0.5).tolist()
    mean = f"{wanted.astype(float).mean():.4f}"
    assert lines[2 + len(wanted)] == f"{sum(marks)} of {len(wanted)} tokens replaced, mean probability {mean}"
    everything = np.concatenate([wanted, one]).astype(float)
    assert lines[-1] == (
        f"2 texts: {(everything > 0.5).sum()} of {len(everything)} tokens replaced, mean probability "
        f"{everything.mean():.4f}"
    )
    lines = ok(albert("score", DUCK, "She", *model, "--totals")).splitlines()
    assert lines[0].split() == ["row", "tokens", "replaced", "mean", "P", "text"]
    assert lines[1].split(maxsplit=4) == ["1", str(len(wanted)), str(sum(marks)), mean, DUCK]

    (tmp_path / "t.txt").write_text(f"{DUCK}\n\n")
    code, out, err = albert("score", "--in", tmp_path / "t.txt", *model, "--out", tmp_path / "s.csv")
    assert (code, out, err) == (
        0, f"{tmp_path / 's.csv'}: {len(wanted)} rows\n", "albert: 1 of 2 texts are empty\n",
    )  # fmt: skip
    header, *rows = (tmp_path / "s.csv").read_text().splitlines()
    assert header == "row,token,id,piece,start,end,probability,replaced,text"
    assert [row.split(",")[7] for row in rows] == [str(mark) for mark in marks]

    ok(albert("score", DUCK, "She", *model, "--plot", tmp_path / "p.png"))
    picture = imread(tmp_path / "p.png")[..., :3].reshape(-1, 3)
    replaced, usual = (np.array([int(code[n : n + 2], 16) for n in (0, 2, 4)]) / 255 for code in ("D55E00", "56B4E9"))
    for colour in (replaced, usual):
        assert (np.abs(picture - colour).max(1) < 0.01).sum() > 1000
    assert refused("score", "", *model) == "the text is empty; there is nothing to score"
    error = ("--on-truncate", "error")
    assert refused("score", "she " * 60, *model, *error).startswith("the text has 62 tokens; the model takes at most ")
    code, out, err = albert("score", "she " * 60, *model, "--json")
    [record] = json.loads(out)
    assert (code, record["tokens"] + record["truncated"]) == (0, 60)
    assert f"{record['truncated']} tokens were left out; --on-truncate error refuses such texts" in err
    [(ids, shares)] = detected(unsure, ["she " * record["tokens"]])
    assert [token["id"] for token in record["token_scores"]] == ids
    assert np.abs(shares - [token["probability"] for token in record["token_scores"]]).max() < 1e-5


@pytest.mark.parametrize("option", [("--mask", "piece"), ("--odd", "2")])
def test_a_discriminator_masks_nothing(relatives, albert, option):
    code, out, err = albert("score", FOX, "--model", relatives["discriminator"], *option)
    assert (code, out) == (2, "")
    why = "with an ELECTRA's discriminator, which masks nothing and marks what is above 0.5"
    assert f"{option[0]} has no effect {why}; leave it out" in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("name", PRETRAINED)
def test_other_models_score_masked_tokens(relatives, albert, name):
    """Each token masked alone, against transformers, and the rest of its word with it."""
    theirs = PRETRAINED[name].from_pretrained(relatives[name]).eval()
    tokenizer = tokenizer_of(relatives[name])
    options = ("--model", relatives[name], "--json", "--mask", "piece")
    for text, record in zip(TEXTS, json.loads(ok(albert("score", *TEXTS, *options))), strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids[0]
        inner = torch.arange(1, len(ids) - 1)
        masked = ids.repeat(len(inner), 1)
        masked[torch.arange(len(inner)), inner] = tokenizer.mask_token_id
        with torch.inference_mode():
            logs = theirs(masked).logits[torch.arange(len(inner)), inner].log_softmax(-1)
        assert [token["id"] for token in record["token_scores"]] == ids[1:-1].tolist()
        ours = torch.tensor([token["log_probability"] for token in record["token_scores"]])
        assert (logs[torch.arange(len(inner)), ids[1:-1]] - ours).abs().max() < 1e-5


# --- sop

PAIRS = [
    ("She had the best of all possible reasons.", "It was a very great pleasure to him."),
    ("She", "It"),
    ("The second of the two ladies " * 4, "I am not at all sure " * 5),
]


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
@pytest.mark.parametrize("name", ["bert", "albert"])
def test_pairs_are_judged_as_by_transformers(relatives, google_model, albert, tmp_path, name, batch_tokens):
    """Padded, cut and alone; and the question is said."""
    model = relatives["bert"] if name == "bert" else google_model
    kind = transformers.BertForNextSentencePrediction if name == "bert" else transformers.AlbertForPreTraining
    theirs = kind.from_pretrained(model).eval()
    limit = theirs.config.max_position_embeddings
    pairs = PAIRS if name == "bert" else [(a, b) for a, b in PAIRS]
    (tmp_path / "p.tsv").write_text("text\tpair\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    options = ("--model", model, "--batch-tokens", batch_tokens)
    found = json.loads(ok(albert("sop", "--in", tmp_path / "p.tsv", *options, "--json")))
    tokenizer = Tokenizer.from_pretrained(model)
    answer, question = ("is_next", "next sentence") if name == "bert" else ("in_order", "sentence order")
    for record, pair in zip(found, pairs, strict=True):
        encoding = tokenizer.encode(*pair, max_length=limit)
        if name == "bert":
            cut = tokenizer_of(model)(*pair, truncation="longest_first", max_length=limit)
            assert len(cut["input_ids"]) == len(encoding.ids)
            if not encoding.truncated:
                assert (cut["input_ids"], cut["token_type_ids"]) == (encoding.ids, encoding.token_type_ids)
        with torch.inference_mode():
            logits = theirs(torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.token_type_ids]))
        wanted = (logits.logits if name == "bert" else logits.sop_logits).softmax(-1)[0, 0]
        assert record[answer] == pytest.approx(float(wanted), abs=1e-5)
        assert (record["question"], record["n_tokens"]) == (question, len(encoding.ids))
        assert record["truncated"] == encoding.truncated
    assert any(record["truncated"] for record in found) == (name == "bert")
    assert ok(albert("sop", "--in", tmp_path / "p.tsv", *options)).startswith(f"{question}: ")


# --- fill-mask --span

SPANS = [
    "She had [MASK] [MASK] [MASK] all possible reasons.",
    "[MASK] [MASK] of the <mask><mask> ladies [MASK]",
    "It [MASK].",
]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def normalised(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weight + bias


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def boundary_logits(tensors, left, right, place):
    """SpanBERT's head in numpy, float64, of the tensors as the file has them (arXiv 1907.10529, section 3.2)."""
    names = ("position_embeddings.weight", "bias")
    positions, bias = (tensors[f"cls.pair_target_predictions.{name}"] for name in names)
    x = np.concatenate([left, right, positions[place]])
    for number in (1, 2):
        dense, norm = (
            f"cls.pair_target_predictions.mlp_layer_norm.{part}{number}" for part in ("linear", "layer_norm")
        )
        x = gelu(tensors[f"{dense}.weight"] @ x + tensors[f"{dense}.bias"])
        x = normalised(x, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"])
    return tensors["bert.embeddings.word_embeddings.weight"] @ x + bias


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_spans_are_filled_from_their_borders(relatives, albert, batch_tokens):
    from safetensors.numpy import load_file

    model = relatives["spanbert-with-heads"]
    tensors = {name: array.astype(np.float64) for name, array in load_file(model / "model.safetensors").items()}
    theirs = transformers.BertForMaskedLM.from_pretrained(model).eval()
    tokenizer, size = Tokenizer.from_pretrained(model), theirs.config.vocab_size
    options = ("--top", size, "--json", "--batch-tokens", batch_tokens)
    found = json.loads(ok(albert("fill-mask", "--span", *SPANS, "--model", model, *options)))
    assert [[len(span["places"]) for span in record["spans"]] for record in found] == [[3], [2, 2, 1], [1]]
    for text, record in zip(SPANS, found, strict=True):
        encoding = tokenizer.encode(text, special_in_text=("[MASK]",))
        with torch.inference_mode():
            made = theirs(torch.tensor([encoding.ids]), output_hidden_states=True)
        hidden, logits = made.hidden_states[-1][0].double().numpy(), made.logits[0].double().numpy()
        places = [place for place, number in enumerate(encoding.ids) if number == tokenizer.mask_id]
        words = []
        for span in record["spans"]:
            own, places = places[: len(span["places"])], places[len(span["places"]) :]
            assert own == list(range(own[0], own[0] + len(own)))
            left, right = own[0] - 1, own[-1] + 1
            assert (span["before"], span["after"]) == (encoding.pieces[left], encoding.pieces[right])
            assert (span["start"], span["end"]) == (encoding.offsets[own[0]][0], encoding.offsets[own[-1]][1])
            for place, heads in enumerate(span["places"]):
                sbo = softmax(boundary_logits(tensors, hidden[left], hidden[right], place))
                mlm = softmax(logits[own[place]])
                wanted = {"both": sbo * mlm / (sbo * mlm).sum(), "sbo": sbo, "mlm": mlm}
                assert list(heads) == list(wanted)
                for name, shares in wanted.items():
                    ours = heads[name]
                    assert [one["rank"] for one in ours] == list(range(1, size + 1))
                    assert np.abs([one["probability"] - shares[one["id"]] for one in ours]).max() < 1e-5
                    assert ours[0]["id"] == shares.argmax()
                words.append(heads["both"][0]["piece"])
        assert not places
        assert "[MASK]" not in record["filled"]
        assert "<mask>" not in record["filled"]
        for word in words:
            assert word.removeprefix("##") in record["filled"]


def test_spans_have_the_logits_of_spanberts_own_code(shared_data, relatives, monkeypatch):
    """Of its ids, which no text has here: the masks stand within words."""
    expected = np.load(shared_data / "relatives/spanbert.expected.npz", allow_pickle=False)
    heads = load(str(relatives["spanbert-with-heads"]), "sbo")
    rows = [row[mask == 1] for row, mask in zip(expected["input_ids"], expected["attention_mask"], strict=True)]
    texts = ["[MASK]" * (last - first + 1) for first, last in expected["span_start_end"]]
    batch = TokenBatch.of_rows(rows, pad_id=0)
    in_text = [heads.tokenizer.mask_spans(text) for text in texts]
    monkeypatch.setattr(masked_spans, "encode_masked", lambda *arguments: (batch, in_text))
    found = masked_spans.fill_spans(heads.model, heads.tokenizer, texts, top=1000)
    for row, (one, (first, _)) in enumerate(zip(found, expected["span_start_end"], strict=True)):
        [span] = one.spans
        assert (span.start, span.end) == (0, len(one.text))
        for place, words in enumerate(span.places):
            sbo, mlm = expected["sbo_logits"][row, 0, place], expected["mlm_logits"][row, first + place]
            for name, logits in (("sbo", sbo), ("mlm", mlm)):
                shares = softmax(logits.astype(np.float64))
                assert max(abs(word.probability - shares[word.id]) for word in words[name]) < 1e-5


def test_spans_in_tables_and_files(relatives, albert, tmp_path):
    model = ("--model", relatives["spanbert-with-heads"], "--top", 2)
    lines = ok(albert("fill-mask", "--span", SPANS[1], *model)).splitlines()
    assert lines[:3] == [SPANS[1], "", "span 1 of 3 between '[CLS]' and 'of': word 1 of 2"]
    assert lines[3].split() == [
        "rank",
        "both",
        "piece",
        *["borders", "(SBO)", "piece", "masked", "word", "(MLM)", "piece"],
    ]
    assert [line.split()[0] for line in lines[4:6]] == ["1", "2"]
    assert [line for line in lines if line.startswith("span 3")] == [lines[-6]]
    assert lines[-6].endswith("and '[SEP]': word 1 of 1")
    assert lines[-1].startswith("filled in: ")
    assert ok(albert("fill-mask", "--span", SPANS[2], *model)).splitlines()[2] == (
        "the span between '##t' and '.': word 1 of 1"
    )
    out = ok(albert("fill-mask", "--span", *SPANS, *model, "--out", tmp_path / "s.csv"))
    assert out == f"{tmp_path / 's.csv'}: {9 * 3 * 2} rows\n"
    assert (tmp_path / "s.csv").read_text().splitlines()[0] == "row,text,span,place,head,rank,id,piece,probability"


def test_spans_that_cannot_be_filled_are_refused(relatives, albert, refused):
    model = relatives["spanbert-with-heads"]
    known = len(load(str(model), "sbo").model.sbo.positions.weight)
    assert refused("fill-mask", "--span", "a" + " [MASK]" * (known + 1), "--model", model) == (
        f"the text has a span of {known + 1} masks; the span-boundary head knows {known} places; shorten the span, or "
        "leave out --span"
    )
    assert refused("fill-mask", "--span", "a", "--model", model).startswith("the text has no [MASK]; ")
    for name in ("spanbert", "bert", "roberta", "generator"):
        assert refused("fill-mask", "--span", "a [MASK]", "--model", relatives[name]) == (
            f"{relatives[name]}: has no span-boundary head (SBO), so its weights would be random; take "
            "spanbert_large_with_head.tar.gz (SpanBERT), or leave out --span for the masked-word head"
        )
    code, _, err = albert("fill-mask", "--span", "a [MASK]", "--targets", "b", "--model", model)
    assert code == 2
    assert "--targets has no effect with --span" in err


# --- all of them


def test_the_readme_says_which_model_takes_which_command(relatives, google_model, albert):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- commands and models")[2].partition("<!-- end -->")[0].strip().splitlines()[1:]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    said = {row[0].replace("`", ""): dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    models = {
        "ALBERT": google_model,
        "BERT": relatives["bert"],
        "SpanBERT": relatives["spanbert-with-heads"],
        "ELECTRA": relatives["discriminator"],
        "RoBERTa": relatives["roberta"],
    }
    arguments = {"fill-mask": ["a [MASK]"], "fill-mask --span": ["a [MASK]"], "score": ["a"], "sop": ["a", "b"]}
    for command, texts in arguments.items():
        cases = [(title, models[title], cell) for title, cell in said[command].items()]
        for title, model, cell in [*cases, ("generator", relatives["generator"], said[command]["ELECTRA"])]:
            code, out, _ = albert(*command.split(), *texts, "--model", model)
            assert (code == 0) == (cell != "no" and (cell != "generator" or title == "generator")), (command, title)
            if command == "sop" and code == 0:
                assert out.startswith(f"{cell}: ")
            if command == "score":
                assert ("P(replaced)" in out) == (title == "ELECTRA")


def test_damaged_heads_are_refused(relatives, refused, tmp_path):
    from safetensors.numpy import load_file, save_file

    for name, tensor, command in (
        ("discriminator", "discriminator_predictions.dense_prediction.bias", ["score", "a"]),
        ("spanbert-with-heads", "cls.pair_target_predictions.bias", ["fill-mask", "--span", "[MASK]"]),
    ):
        model = shutil.copytree(relatives[name], tmp_path / name)
        stored = load_file(model / "model.safetensors")
        stored[tensor][:1] = np.nan
        save_file(stored, model / "model.safetensors", {"format": "pt"})
        assert refused(*command, "--model", model) == (
            "the model's scores are not finite (NaN or infinite); its weights are damaged"
        )
