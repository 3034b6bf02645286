"""Tags of words: read, learnt, measured as seqeval does, and the same numbers as transformers."""

import itertools
import json
import random

import kinds
import numpy as np
import pytest
import torch
import transformers

from albert_cli import tasks
from albert_cli.errors import DataError
from albert_cli.tasks.layouts.conll import Conll, read_columns
from albert_cli.tasks.task import Sources
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import score_bars, tag_files, tagging
from albert_cli.training.problems.token_classification import PROBLEM
from albert_cli.training.word_windows import windows
from converters import convert

pytestmark = pytest.mark.usefixtures("undrawn")
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("tags")
    kinds.write_model(root / "model")
    kinds.write_columns(root / "train.conll", kinds.tagged(200, 1))
    kinds.write_columns(root / "dev.conll", kinds.tagged(40, 2))
    return root


def words(world, *more):
    settings = ("--lr", 1e-2, "--batch-size", 16, "--max-length", 32, "--data", world)
    return ("ner", "--model", world / "model", *settings, *more)


@pytest.fixture(scope="module")
def finished(world):
    from typer.testing import CliRunner

    from albert_cli.main import app

    out = ("--out", world / "run", "--epochs", 4)
    result = CliRunner().invoke(app, ["finetune", *map(str, (*words(world), *out))])
    assert result.exit_code == 0, result.output
    assert "train.conll: no word has the tag I-LOC, which is kept for its kind" in result.output
    return world / "run"


def test_it_is_learnt_and_all_its_files_say_so(finished, albert):
    dev = json.loads((finished / "summary.json").read_text())["dev"]
    assert min(dev[name] for name in ("f1", "precision", "recall", "accuracy")) > 0.95
    assert (finished / "entities.png").exists()
    config = json.loads((finished / "config.json").read_text())
    assert config["architectures"] == ["AlbertForTokenClassification"]
    assert tuple(config["id2label"].values()) == LABELS
    header, *_ = (finished / "dev_predictions.csv").read_text().splitlines()
    assert header == "index,text,label,prediction,wrong_words,wrong"
    assert "| f1 |" in (finished / "report.md").read_text()
    assert "windows = 200" in (finished / "run.toml").read_text()
    found = json.loads(albert("predict", finished, "Alice Smith went to Rome.", "--json")[1])
    spans = [(item["type"], item["text"], item["start"], item["end"]) for item in found["entities"][:2]]
    assert spans[0] == ("PER", "Alice Smith", 0, 11)
    assert [item["text"] for item in found["words"]] == ["Alice", "Smith", "went", "to", "Rome", "."]
    assert albert("predict", finished, "alice saw rome")[1].splitlines()[0].split()[:3] == ["PER", "alice", "0-5"]
    assert albert("evaluate", finished, "--json")[0] == 0


def test_files_of_every_kind_are_predicted_alike(finished, albert, tmp_path, refused):
    rows = kinds.tagged(12, 4)
    tokens = [[word for word, _ in row] for row in rows]
    kinds.write_columns(tmp_path / "tagged.txt", rows, " ")
    kinds.write_columns(tmp_path / "bare.conll", [[(word,) for word, _ in row] for row in rows])
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in tokens))
    (tmp_path / "lines.txt").write_text("".join(" ".join(row) + "\n" for row in tokens))
    found = []
    for name in ("tagged.txt", "bare.conll", "lists.jsonl", "lines.txt"):
        code, out, err = albert("predict", finished, "--in", tmp_path / name, "--out", "-", "--probabilities")
        assert (code, err) == (0, "")
        found.append([json.loads(line) for line in out.splitlines()])
        assert [row["tokens"] for row in found[-1]] == tokens
        assert [row["tags"] for row in found[-1]] == [row["tags"] for row in found[0]]
    tags = [[tag for _, tag in row] for row in rows]
    assert np.mean([a == b for a, b in zip(tags, [row["tags"] for row in found[0]], strict=True)]) > 0.8
    lines = tmp_path / "lines.txt"
    assert albert("predict", finished, "--in", lines, "--out", tmp_path / "o.conll")[0] == 0
    back = read_columns(tmp_path / "o.conll")
    assert (back.words, back.tags) == (tokens, [row["tags"] for row in found[0]])
    assert albert("evaluate", finished, "--data", tmp_path / "o.conll", "--json")[1].count("1.0,") >= 3
    assert albert("predict", finished, "--in", lines, "--out", tmp_path / "o.csv", "--probabilities")[0] == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == "sentence,token,tag,probability"
    from pyarrow import parquet

    assert albert("predict", finished, "--in", lines, "--out", tmp_path / "o.parquet")[0] == 0
    assert parquet.read_table(tmp_path / "o.parquet")["tags"].to_pylist() == back.tags
    shown = albert("predict", finished, "--in", lines)[1]
    assert "entities" in shown.splitlines()[0]
    assert refused("predict", finished, "a", "b") == (
        f"{finished}: its model takes one text, not 2 texts; for many use --in FILE"
    )


def test_every_column_of_a_table_is_kept(finished, albert, refused, tmp_path):
    rows = [{"id": f"x{n}", "tokens": ["good", "film"], "tags": ["O", "O"], "source": "a"} for n in range(2)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = albert("predict", finished, "--in", tmp_path / "t.jsonl", "--out", "-")[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [list(row) for row in found] == [["id", "tokens", "source", "tags"]] * 2
    assert [(row["id"], row["tokens"], row["source"]) for row in found] == [
        (f"x{n}", ["good", "film"], "a") for n in range(2)
    ]
    assert albert("predict", finished, "--in", tmp_path / "t.jsonl", "--out", tmp_path / "o.csv")[0] == 0
    assert [line.split(",")[:3] for line in (tmp_path / "o.csv").read_text().splitlines()[:3]] == [
        ["id", "sentence", "token"],
        ["x0", "1", "good"],
        ["x0", "1", "film"],
    ]
    (tmp_path / "t.csv").write_text("id,body\n7,good film\n")
    out = albert("predict", finished, "--in", tmp_path / "t.csv", "--text-column", "body", "--out", "-")[1]
    assert list(json.loads(out)) == ["id", "body", "tokens", "tags"]
    code, _, err = albert("predict", finished, "--in", tmp_path / "t.csv", "--text-pair-column", "body")
    assert code == 2
    assert "--text-pair-column has no effect on a model that tags the words of texts; leave it out" in err
    assert refused("predict", finished, "a", "--top", 3) == (
        f"{finished}: --top is for answers to questions, but its model tags the words of texts; use albert predict RUN "
        "TEXT"
    )


def test_tags_that_few_sentences_lack_are_told(world, albert, tmp_path):
    options = ("--limit-train", 1, "--steps", 1, "--out", tmp_path / "run")
    code, _, err = albert("finetune", *words(world, *options))
    assert code == 0, err
    assert "train.conll: no training word has the tag " in err
    assert "; raise --limit-train to have them learnt" in err


# --- The measure


def by_hand(tags):
    """The spans of IOB2 tags that are well formed, by regular expressions: nothing of the code that is tested."""
    import re

    text = "".join(f"{tag}@{place} " for place, tag in enumerate(tags))
    return {
        (found[1], int(found[2]), int(re.findall(r"@(\d+) ", found[0])[-1]) + 1)
        for found in re.finditer(r"B-(\w+)@(\d+) (?:I-\1@\d+ )*", text)
    }


def well_formed(chance, count):
    tags = []
    for _ in range(count):
        kind = chance.choice(["", "PER", "LOC"])
        if kind and tags and tags[-1].endswith(kind) and chance.random() < 0.6:
            tags.append(f"I-{kind}")
        else:
            tags.append(f"B-{kind}" if kind else "O")
    return tags


def test_spans_and_scores_are_those_of_an_independent_count():
    chance = random.Random(4)
    true = [well_formed(chance, chance.randint(0, 12)) for _ in range(300)]
    found = [[tag if chance.random() < 0.8 else "O" for tag in tags] for tags in true]
    found = [
        [f"B{tag[1:]}" if tag[0] == "I" and not before[1:] else tag for before, tag in itertools.pairwise(["O", *tags])]
        for tags in found
    ]
    for tags in (*true, *found):
        assert {tuple(span) for span in tagging.spans(tags)} == by_hand(tags)
    scores = {score.name: score for score in tagging.scores(true, found)}
    for kind in ("PER", "LOC"):
        wanted = [{span for span in by_hand(tags) if span[0] == kind} for tags in true]
        got = [{span for span in by_hand(tags) if span[0] == kind} for tags in found]
        right = sum(len(a & b) for a, b in zip(wanted, got, strict=True))
        precision, recall = right / sum(map(len, got)), right / sum(map(len, wanted))
        assert scores[kind].precision == precision
        assert scores[kind].recall == recall
        assert scores[kind].f1 == pytest.approx(2 * precision * recall / (precision + recall))


# What seqeval 1.2.2 gives: get_entities, its ends counted in.
SEQEVAL = {
    "B-PER I-PER O B-LOC": [("PER", 0, 1), ("LOC", 3, 3)],
    "I-PER I-PER O I-LOC I-PER": [("PER", 0, 1), ("LOC", 3, 3), ("PER", 4, 4)],
    "I-PER B-PER I-PER": [("PER", 0, 0), ("PER", 1, 2)],
    "S-PER B-LOC I-LOC E-LOC O": [("PER", 0, 0), ("LOC", 1, 3)],
    "B-PER E-PER I-PER E-PER": [("PER", 0, 1), ("PER", 2, 3)],
    "E-PER E-PER S-PER I-PER": [("PER", 0, 0), ("PER", 1, 1), ("PER", 2, 2), ("PER", 3, 3)],
    "B-PER I-LOC E-LOC O O": [("PER", 0, 0), ("LOC", 1, 2)],
    "O O": [],
}


@pytest.mark.parametrize("tags", SEQEVAL)
def test_tags_of_every_scheme_are_read_as_seqeval_reads_them(tags):
    assert [(kind, start, end - 1) for kind, start, end in tagging.spans(tags.split())] == SEQEVAL[tags]


def test_every_short_sentence_is_read_as_seqeval_reads_it():
    entities = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="seqeval is not installed").get_entities
    alphabet = ["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("PER", "LOC"))]
    for count in range(5):
        for tags in itertools.product(alphabet, repeat=count):
            assert [(kind, start, end - 1) for kind, start, end in tagging.spans(tags)] == entities(list(tags))


def test_bilou_is_bioes():
    tags = ["U-PER", "O", "B-LOC", "I-LOC", "L-LOC"]
    assert tagging.spans(tags) == tagging.spans(["S-PER", "O", "B-LOC", "I-LOC", "E-LOC"])


def test_labels_in_order():
    assert tagging.in_order({"I-PER", "O", "B-LOC"}) == LABELS
    assert tagging.in_order({"VERB", "NOUN"}) == ("NOUN", "VERB")
    assert score_bars.Score("x", 0, 0, 0).f1 == 0


# --- Words as a model takes them


@pytest.mark.parametrize("family", kinds.FAMILIES)
def test_pieces_are_those_of_transformers(tmp_path, family):
    kinds.write_model(tmp_path / "m", family)
    options = {"add_prefix_space": True} if family == "roberta" else {}
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", **options)
    sentences = [["alice", "smith", "saw", "x-ray", "films", ",", "Rome"], ["the"], ["ab12?"]]
    cut = windows(sentences, Tokenizer.of_model(convert.load(tmp_path / "m")), 64)
    for row, sentence in enumerate(sentences):
        encoding = theirs(sentence, is_split_into_words=True)
        assert cut.tokens[row].tolist() == encoding["input_ids"]
        owners = encoding.word_ids()
        assert cut.places[row].tolist() == [owners.index(word) for word in range(len(sentence))]


def test_long_sentences_are_windows_in_which_each_word_is_read_once(world):
    tokenizer = Tokenizer.of_model(convert.load(world / "model"))
    chance = random.Random(7)
    sentences = [[chance.choice(["the", "abcd", "xy", "a" * 40]) for _ in range(count)] for count in (0, 1, 30, 61)]
    cut = windows(sentences, tokenizer, 12)
    assert cut.tokens.lengths.max() <= 12
    assert cut.cut == 2
    assert cut.tokens.truncated.sum() > 0
    for number, sentence in enumerate(sentences):
        read = np.concatenate([cut.words[row] for row in np.flatnonzero(cut.sentence == number)])
        assert sorted(read.tolist()) == list(range(len(sentence)))
    for row, (places, mine) in enumerate(zip(cut.places, cut.words, strict=True)):
        for place, word in zip(places, mine, strict=True):
            text = sentences[cut.sentence[row]][word]
            assert cut.tokens[row][place] == tokenizer.ids([text])[0][0]


def test_windows_show_the_most_around_a_word(world):
    tokenizer = Tokenizer.of_model(convert.load(world / "model"))
    cut = windows([["the"] * 20], tokenizer, 10)  # eight words a window, four in common
    assert [words.tolist() for words in cut.words] == [[*range(6)], [*range(6, 10)], [*range(10, 14)], [*range(14, 20)]]


def test_a_word_without_pieces_is_an_unknown_one(tmp_path):
    kinds.write_model(tmp_path / "m", "bert")
    tokenizer = Tokenizer.of_model(convert.load(tmp_path / "m"))
    cut = windows([["the", "\u200b", "film"]], tokenizer, 64)
    assert cut.places[0].tolist() == [1, 2, 3]
    assert cut.tokens[0][2] == tokenizer.unk_id


# --- The same numbers as transformers


@pytest.mark.parametrize("family", kinds.MOSTLY_SLOW)
def test_probabilities_are_those_of_transformers(tmp_path, albert, family):
    """With padding, several pieces a word, and windows over a long sentence."""
    kinds.write_model(tmp_path / "model", family)
    rows = [*kinds.tagged(16, 3), kinds.tagged(1, 8)[0] * 8]
    rows[2][0] = ("x-ray", "O")
    kinds.write_columns(tmp_path / "train.conll", rows)
    options = ("--model", tmp_path / "model", "--max-length", 24, "--steps", 2)
    code = albert("finetune", "ner", *options, "--train", tmp_path / "train.conll", "--out", tmp_path / "run")[0]
    assert code == 0
    out = albert("predict", tmp_path / "run", "--in", tmp_path / "train.conll", "--out", "-", "--probabilities")[1]
    found = [json.loads(line) for line in out.splitlines()]
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "run").eval()
    options = {"add_prefix_space": True} if family == "roberta" else {}
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "run", **options)
    short = [[word for word, _ in row] for row in rows[:16]]
    inputs = theirs(short, is_split_into_words=True, padding=True, return_tensors="pt")
    assert not inputs["attention_mask"].all()
    with torch.no_grad():
        shares = model(**inputs).logits.softmax(-1)
    for number, row in enumerate(short):
        owners = inputs.word_ids(number)
        wanted = [shares[number, owners.index(word)] for word in range(len(row))]
        assert found[number]["probabilities"] == pytest.approx([float(item.max()) for item in wanted], abs=1e-5)
        assert found[number]["tags"] == [model.config.id2label[int(item.argmax())] for item in wanted]
    long = [word for word, _ in rows[16]]
    cut = windows([long], Tokenizer.of_model(convert.load(tmp_path / "run")), 24)
    assert len(cut.tokens) > 1
    for row in range(len(cut.tokens)):
        with torch.no_grad():
            shares = model(torch.tensor(cut.tokens[row][None].astype(int))).logits.softmax(-1)[0]
        mine = [found[16]["probabilities"][word] for word in cut.words[row]]
        assert mine == pytest.approx([float(shares[place].max()) for place in cut.places[row]], abs=1e-5)


def test_the_loss_is_transformers():
    logits, targets = torch.randn(3, 6, 5), torch.randint(0, 5, (3, 8))
    targets[:, [0, 3]] = -100
    targets[:, 6:] = -100
    wanted = torch.nn.CrossEntropyLoss()(logits.flatten(0, 1), targets[:, :6].flatten())
    assert PROBLEM.units(targets) == 12
    assert float(PROBLEM.loss(logits, targets.short())) / 12 == pytest.approx(float(wanted), abs=1e-6)


def test_a_model_fine_tuned_elsewhere(tmp_path, world, albert):
    """Saved by transformers; its tags are those of its pipeline."""
    checkpoint = convert.load(world / "model")
    settings = json.loads((world / "model/config.json").read_text()) | {"id2label": dict(enumerate(LABELS))}
    settings = {key: value for key, value in settings.items() if key not in ("model_type", "architectures")}
    settings["label2id"] = {name: number for number, name in enumerate(LABELS)}
    torch.manual_seed(5)
    model = transformers.AlbertForTokenClassification(transformers.AlbertConfig(**settings)).eval()
    with torch.no_grad():
        model.classifier.weight.normal_()
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m/spiece.model").write_bytes(checkpoint.tokenizer.spiece)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    pipeline = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    text = "alice saw the film in rome"
    wanted = [(item["entity"], float(item["score"])) for item in pipeline(text)]
    code, out, err = albert("predict", tmp_path / "m", text, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["words"]
    assert [item["tag"] for item in found] == [tag for tag, _ in wanted]
    assert [item["probability"] for item in found] == pytest.approx([share for _, share in wanted], abs=1e-5)
    assert albert("evaluate", tmp_path / "m", "--data", world / "dev.conll")[0] == 0


# --- Files


def columns(tmp_path, text, **options):
    (tmp_path / "f.conll").write_text(text)
    return read_columns(tmp_path / "f.conll", **options)


def test_columns_of_every_kind(tmp_path):
    found = columns(tmp_path, "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\n. . O\n")
    assert found.words == [["EU", "rejects"], ["."]]
    assert found.tags == [["B-ORG", "O"], ["O"]]
    assert found.lines == [[3, 4], [7]]
    assert columns(
        tmp_path,
        "New York\tB-LOC\n",
    ).words == [["New York"]]
    universal = "# sent_id = 1\n# text = a\n1\tThe\tthe\tDET\n2\tend\tend\tNOUN\n"
    found = columns(tmp_path, universal, word=1, tag=3)
    assert (found.words, found.tags) == ([["The", "end"]], [["DET", "NOUN"]])
    assert columns(tmp_path, "#\tO\na\tO\n").words == [["#", "a"]]


def test_bad_lines_are_refused_at_once(tmp_path):
    with pytest.raises(DataError) as error:
        columns(tmp_path, "a O\nb\n\nc O O\nd O\n")
    assert str(error.value) == (
        f"{tmp_path}/f.conll: line 2 has 1 column, not 2; line 4 has 3 columns, not 2; --skip-bad leaves such "
        "sentences out"
    )
    kept = columns(tmp_path, "a O\nb\n\nc O O\nd O\n\ne O\n", skip_bad=True)
    assert kept.words == [["e"]]
    assert kept.left_out_note().endswith("2 rows left out: lines 2, 4 that are no words with a tag")
    with pytest.raises(DataError, match="line 1 has one column, so no tag"):
        columns(tmp_path, "a\nb\n")
    with pytest.raises(DataError, match="there are no words to read"):
        columns(tmp_path, "-DOCSTART- O\n\n")


def test_rows_of_lists(tmp_path):
    def read(*rows):
        (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Conll().read_file(tmp_path / "f.jsonl", Sources())

    found = read({"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]})
    assert (found.words, found.tags) == ([["a", "b"]], [["O", "B-X"]])
    with pytest.raises(DataError) as error:
        read(
            {"tokens": ["a"], "tags": ["O", "O"]}, {"tokens": "a", "tags": []}, {"tokens": [None], "tags": ["O"]},
            {"tokens": [], "tags": []},
        )  # fmt: skip
    assert str(error.value) == (
        f"{tmp_path}/f.jsonl: line 1 has 1 words and 2 tags; line 2 has 'a' in 'tokens', not a list; line 3 has None "
        "in 'tokens', not a text; line 4 has no words; --skip-bad leaves such rows out"
    )
    with pytest.raises(DataError, match="has no tags; it can only be predicted"):
        read({"tokens": ["a"]})


def test_numbered_tags_have_the_names_of_the_hub(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    feature = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}
    table = pa.table({"tokens": [["a", "bob"]], "ner_tags": [[0, 1]]})
    described = json.dumps({"info": {"features": {"ner_tags": feature}}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": described}), tmp_path / "f.parquet")
    assert Conll().read_file(tmp_path / "f.parquet", Sources()).tags == [["O", "B-PER"]]


def test_parts_of_speech_are_read_before_names_by_pos_and_after_them_by_ner(tmp_path):
    row = {"tokens": ["a", "b"], "ner_tags": ["O", "B-X"], "pos_tags": ["DET", "NOUN"]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    for task, wanted in (("ner", ["O", "B-X"]), ("pos", ["DET", "NOUN"])):
        assert tasks.named(task).layout.read_file(tmp_path / "x.jsonl", Sources()).tags == [wanted]


def test_kinds_of_tables_that_hold_no_tags_are_refused(world, refused, tmp_path):
    (tmp_path / "x.csv").write_text("word,tag\na,O\n")
    assert refused("finetune", *words(world), "--train", tmp_path / "x.csv", "--out", tmp_path / "run") == (
        f"{tmp_path}/x.csv: words with tags are read from CoNLL's columns (.conll, .conllu, .conll2003, .txt, …), or "
        "from .jsonl or .parquet with tokens and ner_tags; write such a file"
    )


def test_bad_tags_are_refused_with_their_lines(world, refused, tmp_path, albert):
    kinds.write_columns(tmp_path / "pos.conll", [[("the", "DET"), ("film", "NOUN")], [("a", "O"), ("the", "DET")]])
    message = refused("finetune", *words(world), "--train", tmp_path / "pos.conll", "--out", tmp_path / "run")
    assert message == (
        f"{tmp_path}/pos.conll: 2 tags not usable: 'DET' (line 3 and 1 more), 'NOUN' (line 4); ner's tags mark spans "
        "(B-PER, I-PER, …, O): for tags that stand for themselves, as parts of speech, use albert finetune pos; else "
        "correct them, or leave such sentences out with --skip-bad"
    )
    kinds.write_columns(tmp_path / "dev.conll", [[("a", "B-ORG")]])
    message = refused("finetune", *words(world), "--dev", tmp_path / "dev.conll", "--out", tmp_path / "run")
    assert message == (
        f"{tmp_path}/dev.conll: 1 tag not usable: 'B-ORG' (line 3); known: O, B-LOC, I-LOC, B-PER, I-PER; correct "
        "them, or leave such sentences out with --skip-bad"
    )
    message = refused("finetune", *words(world, "--head", "mlp:8"), "--out", tmp_path / "run")
    assert message.startswith("--head mlp is for labels of texts; ner trains a linear head on every token")
    code, _, err = albert("finetune", *words(world, "--label-column", "tag"), "--out", tmp_path / "run")
    assert code == 1
    assert "CoNLL's columns have no names: 'tag' is no number of one, as 1, or -1 for the last" in err


def test_tags_that_stand_for_themselves(world, albert, tmp_path):
    rows = [[(word, "NAME" if tag != "O" else "WORD") for word, tag in row] for row in kinds.tagged(60, 1)]
    kinds.write_columns(tmp_path / "train.conll", rows)
    options = ("--model", world / "model", "--lr", 1e-2, "--batch-size", 8, "--epochs", 3, "--max-length", 32)
    code, out, err = albert(
        "finetune", "pos", "--train", tmp_path / "train.conll", *options, "--freeze-encoder", "--json", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    assert set(json.loads(out)["dev"]) == {"loss", "accuracy", "macro_f1"}
    assert json.loads(albert("predict", tmp_path / "run", "alice saw", "--json")[1]).keys() == {"words"}


def test_a_text_is_cut_as_bert_cuts_it():
    found = tag_files.of_texts("x", ["Héllo, U.S.\u200b 中文!", ""], [1, 2], "")
    assert found.words == [["Héllo", ",", "U", ".", "S", ".", "中", "文", "!"], []]
    assert found.spans[0][0] == (0, 5)
