"""A `tokenizer.json` that is taken as it is: what ends the process elsewhere is one line here."""

import base64
import copy
import json
import subprocess
import sys

import corruptions
import pytest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "b"]
BASE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: number for number, word in enumerate(WORDS)},
    },
}
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


def precompiled(table):
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


HOSTILE = {
    "a table that leads out of itself": (
        {"normalizer": precompiled(b"\4\0\0\0\0\0\0\0a\0")},
        "its table of characters: its trie leads out of the table",
    ),
    "a table cut short": (
        {"normalizer": precompiled(b"\xff\xff\xff\x7f")},
        "its table of characters: its trie has 2147483647 bytes, the whole table 4",
    ),
    "no table": ({"normalizer": precompiled(b"")}, "its table of characters: it is empty"),
    "texts that double 34 times": (
        {"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 34}},
        "its replacements make texts more than 1000 times as long",
    ),
    "pieces of no length": (
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "it cuts texts into pieces of no length",
    ),
    "a pattern without end": (
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a"}},
        "Onig: Regex search error: <any>",
    ),
    "an unknown piece that is none": (
        {"model": BASE["model"] | {"unk_token": "nothing"}},
        "WordPiece error: Missing [UNK] token from the vocabulary",
    ),
    "a merge of no pieces": (
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a c"]}},
        "Token `c` out of vocabulary<any>",
    ),
    "lists too many": ({"added_tokens": [[]] * 2_100_000}, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pipeline_is_refused_in_one_line(tmp_path, refused, name):
    change, said = HOSTILE[name]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(copy.deepcopy(BASE) | change))
    message = refused("tokenize", "aaa zzz " + "a" * 40 + "b", "--model", path)
    wanted = f"$file: not a tokenizer.json that the tokenizers library reads ({said})"
    if said is None:
        wanted = "$file: is not a usable JSON config: it holds more than 4194304 values, which no model's does"
    assert corruptions.agrees(message, wanted, path, path)


def test_nothing_of_a_panic_is_printed(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(BASE | HOSTILE["a pattern without end"][0]))
    arguments = [sys.executable, "-m", "albert_cli", "tokenize", "a" * 40 + "b", "--model", path]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"albert: {path}: not a tokenizer.json that the tokenizers library reads (Onig: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"padding": {"strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "[PAD]"}},
        {"truncation": {"max_length": 4, "stride": 10, "strategy": "LongestFirst", "direction": "Right"}},
    ],
    ids=["padding", "truncation"],
)  # fmt: skip
def test_its_own_padding_and_truncation_do_not_count(tmp_path, albert, change):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(BASE | change))
    code, out, err = albert("tokenize", "aa b", "--model", path, "--format", "ids")
    assert (code, out, err) == (0, "2 5 6 7 3\n", "")
