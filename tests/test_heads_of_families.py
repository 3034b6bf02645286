"""fill-mask, score and sop with the models of every family, against transformers: same ids, same outputs."""

import json
import shutil

import pytest
import transformers

from albert_cli.scoring.fill_mask import fill_masks
from albert_cli.scoring.load import load
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
