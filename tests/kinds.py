"""A small world for every family: words with their tokenizer, a tiny model, and rows that the words decide."""

import json
import random
from pathlib import Path

import pytest
import tuning

from converters import convert
from converters.config import EncoderConfig
from converters.families import families
from converters.initialize import initialize
from converters.tokenizers.bpe import byte_symbols, written
from converters.tokenizers.files import TokenizerFiles

FAMILIES = ("albert", "bert", "roberta", "electra")
# Quickly only RoBERTa, whose words and pairs are the exceptions.
MOSTLY_SLOW = [name if name == "roberta" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
NAMES, SURNAME = ("alice", "bob", "carol"), "smith"
PLACES = ("paris", "rome")
FILLERS = ("the", "a", "film", "saw", "in", "went", "to", "was", "with")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?'-_"


def words():
    return [*NAMES, SURNAME, *PLACES, *FILLERS, *tuning.GOOD, *tuning.BAD, "music"]


def tokenizer_files(family):
    """The words, and the letters of others, as the family's kind of vocabulary; and its size."""
    table = families()[family].tokenizer
    if family == "albert":
        return tuning_files()
    if family == "roberta":
        symbols, merges = list(byte_symbols().values()), []
        for word in (f"Ġ{word}" for word in words()):
            merges += [(word[:end], word[end]) for end in range(1, len(word))]
        merges = list(dict.fromkeys(merges))
        pieces = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *symbols, *map("".join, merges), "<mask>"])
        vocab_json, merged = written({piece: number for number, piece in enumerate(pieces)}, merges)
        return TokenizerFiles.of("test", vocab_json=vocab_json, merges=merged, table=table), len(pieces)
    tokens = [*SPECIAL, *words(), *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokens = list(dict.fromkeys(tokens))
    files = TokenizerFiles.of(
        "test", wordpiece="\n".join(tokens).encode() + b"\n", settings={"do_lower_case": True}, table=table
    )
    return files, len(tokens)


def tuning_files():
    from converters.tokenizers.sentencepiece_model import rebuild_model

    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁"]
    scored = [(piece, 0.0) for piece in pieces]
    scored += [(f"▁{word}", -3.0 - number / 100) for number, word in enumerate(words())]
    scored += [(letter, -10.0 - number / 100) for number, letter in enumerate(LETTERS)]
    vocab = "".join(f"{piece}\t{score:g}\n" for piece, score in scored).encode()
    return TokenizerFiles.of("test", spiece=rebuild_model(vocab, "test"), origin="spiece.model"), len(scored)


def write_model(path: Path, family="albert", **changes) -> Path:
    """A model that learns in seconds: without dropout, of one layer."""
    files, size = tokenizer_files(family)
    table = families()[family].config
    layers = changes.get("num_hidden_layers", 1)
    sizes = {
        "vocab_size": size,
        "embedding_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_hidden_groups": layers if "num_hidden_groups" in table.derived else 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "initializer_range": 0.2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "family": family,
    }
    if table.positions_follow_pad:
        extra = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        sizes |= {"position_offset": 2, "type_vocab_size": 1, "extra": extra}
    config = EncoderConfig(**sizes | dict(table.defaults) | changes)
    convert.save(initialize(config, files, seed=1), path)
    return path


def several(count, seed):
    """Texts, and which of three words are in each."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        text, labels = chance.choices(FILLERS, k=chance.randint(1, 6)), []
        for word in ("alice", "music", "rome"):
            if chance.random() < 0.4:
                text.insert(chance.randrange(len(text) + 1), word)
                labels.append(word)
        rows.append((" ".join(text), labels))
    return rows


def tagged(count, seed):
    """Sentences of words with their tags: persons of one or two words, and places."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        row = []
        for _ in range(chance.randint(2, 7)):
            drawn = chance.random()
            if drawn < 0.2:
                row += [(chance.choice(NAMES), "B-PER"), *([(SURNAME, "I-PER")] if drawn < 0.1 else [])]
            else:
                row.append((chance.choice(PLACES), "B-LOC") if drawn < 0.35 else (chance.choice(FILLERS), "O"))
        rows.append(row)
    return rows


def write_columns(path, rows, separator="\t"):
    """CoNLL's columns."""
    sentences = ["\n".join(separator.join(word) for word in row) for row in rows]
    path.write_text("-DOCSTART- -X- O\n\n" + "\n\n".join(sentences) + "\n", encoding="utf-8")
    return path


def choosing(count, seed, choices=4):
    """Questions of which the one choice that praises is right, as rows of a table; `choices` None: two to four."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        listed = chance.sample(tuning.BAD, (choices or chance.randint(2, 4)) - 1)
        place = chance.randint(0, len(listed))
        listed.insert(place, chance.choice(tuning.GOOD))
        text, question = (" ".join(chance.choices(FILLERS, k=chance.randint(1, 5))) for _ in range(2))
        rows.append({"text": text, "question": question, "choices": listed, "label": place})
    return rows


def write_race(folder, rows):
    """RACE's layout: an article of two questions a file, those of odd number in high."""
    for split, part in rows.items():
        for number in range(0, len(part), 2):
            two = part[number : number + 2]
            path = folder / split / ("middle", "high")[number // 2 % 2] / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            article = {
                "article": two[0]["text"],
                "questions": [row["question"] for row in two],
                "options": [row["choices"] for row in two],
                "answers": ["ABCD"[row["label"]] for row in two],
                "id": path.name,
            }
            path.write_text(json.dumps(article) + "\n")
    return folder
