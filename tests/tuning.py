"""A small world to fine-tune in: words with a meaning, their tokenizer, a tiny model, files of every layout."""

import csv
import json
import random
from pathlib import Path

from converters import convert
from converters.config import EncoderConfig
from converters.initialize import initialize
from converters.tokenizers.bpe import byte_symbols, written
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import rebuild_model

GOOD = ("good", "fine", "great", "lovely", "brilliant")
BAD = ("bad", "poor", "awful", "dull", "terrible")
NEUTRAL = ("film", "story", "the", "a", "plot", "actor", "scene", "music", "very", "long", "short", "with", "and")
WORDS = (*GOOD, *BAD, *NEUTRAL)


def tokenizer_files():
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?'"
    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "(", ")", '"', "-", ".", "–", "£", "€", "▁", ","]  # noqa: RUF001
    scored = [(piece, 0.0) for piece in pieces]
    scored += [(f"▁{word}", -3.0 - number / 100) for number, word in enumerate(WORDS)]
    scored += [(letter, -10.0 - number / 100) for number, letter in enumerate(letters)]
    vocab = "".join(f"{piece}\t{score:g}\n" for piece, score in scored).encode()
    return TokenizerFiles.of("the words", spiece=rebuild_model(vocab, "the words"), origin="spiece.model"), len(scored)


def config(**changes):
    _, size = tokenizer_files()
    values = {
        "vocab_size": size,
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    return EncoderConfig(**(values | changes))


def write_model(path: Path, seed: int = 1, **changes) -> Path:
    files, _ = tokenizer_files()
    convert.save(initialize(config(**changes), files, seed=seed), path)
    return path


def sentence(good: bool, chance: random.Random) -> str:
    words = chance.choices(NEUTRAL, k=chance.randint(1, 9))
    words.insert(chance.randrange(len(words) + 1), chance.choice(GOOD if good else BAD))
    return " ".join(words)


def reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    return [(sentence(number % 2 == 0, chance), "pos" if number % 2 == 0 else "neg") for number in range(count)]


def write_csv(path: Path, rows, header=("text", "label")) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_glue(root: Path, rows: int = 24, test_rows: int = 6) -> Path:
    """Every task of GLUE in the official layout, labels that the words decide."""
    chance = random.Random(5)

    def write(name, header, lines):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join("\t".join(map(str, line)) for line in ([header] if header else []) + lines)
        path.write_text(text + "\n", encoding="utf-8")

    def texts(number):
        return sentence(number % 2 == 0, chance), sentence(number % 3 == 0, chance)

    for split in ("train", "dev"):
        write(f"CoLA/{split}.tsv", None, [["gj04", n % 2, "", texts(n)[0]] for n in range(rows)])
        write(f"SST-2/{split}.tsv", ["sentence", "label"], [[texts(n)[0] + " ", n % 2] for n in range(rows)])
        header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        write(f"MRPC/{split}.tsv", header, [[n % 2, n, n, *texts(n)] for n in range(rows)])
        header = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
        stsb = [[n, "g", "f", "y", "o", "s", "s", *texts(n), f"{n % 6:.3f}"] for n in range(rows)]
        write(f"STS-B/{split}.tsv", [*header, "score"], stsb)
        header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
        write(f"QQP/{split}.tsv", header, [[n, n, n, *texts(n), n % 2] for n in range(rows)])
        for task, names in (("QNLI", ("question", "sentence")), ("RTE", ("sentence1", "sentence2"))):
            lines = [[n, *texts(n), ("entailment", "not_entailment")[n % 2]] for n in range(rows)]
            write(f"{task}/{split}.tsv", ["index", *names, "label"], lines)
        write(
            f"WNLI/{split}.tsv",
            ["index", "sentence1", "sentence2", "label"],
            [[n, *texts(n), n % 2] for n in range(rows)],
        )
    header = ["index", "promptID", "pairID", "genre", "b1", "b2", "p1", "p2", "sentence1", "sentence2"]
    labels = ("contradiction", "entailment", "neutral")
    for name, ends in (
        ("train", ["label1"]),
        ("dev_matched", ["label1", "label2"]),
        ("dev_mismatched", ["label1", "label2"]),
    ):
        lines = [[n, *"0123456", *texts(n), *[labels[n % 3] for _ in ends], labels[n % 3]] for n in range(rows)]
        write(f"MNLI/{name}.tsv", [*header, *ends, "gold_label"], lines)
    for name in ("test_matched", "test_mismatched"):
        write(f"MNLI/{name}.tsv", header, [[n, *"0123456", *texts(n)] for n in range(test_rows)])
    write("CoLA/test.tsv", ["index", "sentence"], [[n, texts(n)[0]] for n in range(test_rows)])
    write("SST-2/test.tsv", ["index", "sentence"], [[n, texts(n)[0]] for n in range(test_rows)])
    header = ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    write("MRPC/test.tsv", header, [[n, n, n, *texts(n)] for n in range(test_rows)])
    header = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
    write("STS-B/test.tsv", header, [[n, "g", "f", "y", "o", "s", "s", *texts(n)] for n in range(test_rows)])
    write("QQP/test.tsv", ["id", "question1", "question2"], [[n, *texts(n)] for n in range(test_rows)])
    write("QNLI/test.tsv", ["index", "question", "sentence"], [[n, *texts(n)] for n in range(test_rows)])
    for task in ("RTE", "WNLI", "AX"):
        name = "AX/AX.tsv" if task == "AX" else f"{task}/test.tsv"
        write(name, ["index", "sentence1", "sentence2"], [[n, *texts(n)] for n in range(test_rows)])
    return root


def squad(count: int = 12, *, impossible: bool = True, seed: int = 3) -> dict:
    """Questions that ask for the good word of a text; every third has no answer."""
    chance = random.Random(seed)
    paragraphs = []
    for number in range(count):
        none = impossible and number % 3 == 2
        context = " ".join(chance.choices(NEUTRAL, k=20)).capitalize() + "."
        answers = []
        if not none:
            word = chance.choice(GOOD)
            context = f"{context} {word} {' '.join(chance.choices(NEUTRAL, k=5))}."
            answers = [{"text": word, "answer_start": context.index(f" {word} ") + 1}]
        entry = {"id": f"q{number}", "question": "a good film?", "answers": answers, "is_impossible": none}
        paragraphs.append({"context": context, "qas": [entry]})
    return {"version": "v2.0", "data": [{"title": "films", "paragraphs": paragraphs}]}


def write_squad(path: Path, **options) -> Path:
    path.write_text(json.dumps(squad(**options)), encoding="utf-8")
    return path


RELATIVES = ("bert", "roberta", "electra", "spanbert")


def pieces_of(kind: str) -> TokenizerFiles:
    """The words as a vocabulary of ALBERT's relatives; SpanBERT's is cased."""
    if kind == "roberta":
        symbols, merges = list(byte_symbols().values()), []
        for word in (f"Ġ{word}" for word in WORDS):
            merges += [(word[:end], word[end]) for end in range(1, len(word))]
        merges = list(dict.fromkeys(merges))
        pieces = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *symbols, *map("".join, merges), "<mask>"])
        vocab_json, merged = written({piece: number for number, piece in enumerate(pieces)}, merges)
        return TokenizerFiles.of("the words", vocab_json=vocab_json, merges=merged)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?.,'"
    capitals = [word.capitalize() for word in WORDS] if kind == "spanbert" else []
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *capitals, *letters, *(f"##{c}" for c in letters)]
    lines = "".join(f"{piece}\n" for piece in dict.fromkeys(listed))
    return TokenizerFiles.of("the words", wordpiece=lines.encode(), settings={"do_lower_case": kind != "spanbert"})


def write_relative(path: Path, kind: str, seed: int = 1, **changes) -> Path:
    """A tiny model of another family; a SpanBERT is a BERT without a pooler."""
    family = "bert" if kind == "spanbert" else kind
    files = pieces_of(kind)
    values = {
        "family": family,
        "vocab_size": len((files.wordpiece or b"").splitlines() or json.loads(files.vocab_json or b"")),
        "embedding_size": 8 if family == "electra" else 16,
        "num_hidden_groups": 2,
        "max_position_embeddings": 64,
        "classifier_dropout_prob": None,
    }
    if family == "roberta":
        values |= {"max_position_embeddings": 66, "position_offset": 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
        values |= {"extra": {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}}
    heads = {"bert": ("pooler", "mlm", "nsp"), "roberta": ("mlm",), "electra": ("rtd",), "spanbert": ()}[kind]
    settings = config(**(values | {"hidden_act": "gelu"} | changes))
    convert.save(initialize(settings, files, seed=seed, heads=heads), path)
    return path
