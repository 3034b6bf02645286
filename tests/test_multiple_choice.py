"""One of several choices: RACE, SWAG and one's own tables, learnt, measured, and the same numbers as transformers."""

import json

import kinds
import numpy as np
import pytest
import torch
import transformers
from tuning import write_csv

from albert_cli.errors import DataError
from albert_cli.tasks.layouts.choices import ChoiceTables, choices_in, place_of
from albert_cli.tasks.layouts.race import Race
from albert_cli.tasks.task import Sources
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.choice_rows import rows_of
from converters import convert

pytestmark = pytest.mark.usefixtures("undrawn")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("choices")
    kinds.write_model(root / "model")
    kinds.write_race(root / "RACE", {"train": kinds.choosing(160, 1), "dev": kinds.choosing(40, 2)})
    return root


def words(world, *more):
    settings = ("--lr", 1e-2, "--batch-size", 16, "--max-length", 24, "--dropout", 0)
    return ("race", "--model", world / "model", "--data", world, *settings, *more)


@pytest.fixture(scope="module")
def finished(world):
    from typer.testing import CliRunner

    from albert_cli.main import app

    result = CliRunner().invoke(app, ["finetune", *map(str, words(world, "--out", world / "run", "--epochs", 4))])
    assert result.exit_code == 0, result.output
    assert "160 questions of 4 choices, high 80, middle 80" in " ".join(result.output.split())
    return world / "run"


def test_race_is_learnt_and_all_its_files_say_so(finished, world, albert):
    dev = json.loads((finished / "summary.json").read_text())["dev"]
    assert min(dev[name] for name in ("accuracy", "middle_accuracy", "high_accuracy")) > 0.95
    config = json.loads((finished / "config.json").read_text())
    assert config["architectures"] == ["AlbertForMultipleChoice"]
    header = (finished / "dev_predictions.csv").read_text().splitlines()[0]
    assert header == "id,text,question,label,prediction,probability,wrong"
    assert "| high_accuracy |" in (finished / "report.md").read_text()
    asked = ("the film", "was", "awful", "great", "dull")
    assert albert("predict", finished, *asked)[1].splitlines()[0] == "great"
    found = json.loads(albert("predict", finished, *asked, "--json")[1])
    assert (found["prediction"], found["answer"]) == (1, "great")
    assert sum(item["probability"] for item in found["probabilities"]) == pytest.approx(1, abs=1e-5)
    measured = json.loads(albert("evaluate", finished, "--data", world / "RACE", "--json")[1])
    assert measured[str(finished)]["dev"] == pytest.approx(dev, abs=1e-6)
    rows = albert("predict", finished, "--in", world / "RACE/dev/middle", "--out", "-", "--probabilities")[1]
    rows = [json.loads(row) for row in rows.splitlines()]
    assert len(rows) == 20
    assert [len(row["probabilities"]) for row in rows] == [4] * 20
    assert "great" in albert("predict", finished, "--in", world / "RACE/dev")[1]


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bits(world, albert, tmp_path):
    from albert_cli.training import loop

    class Killed(BaseException):
        pass

    whole, part = (words(world, "--steps", 6, "--eval-every", 2, "--out", tmp_path / name) for name in ("a", "b"))
    assert albert("finetune", *whole)[0] == 0
    evaluate, calls = loop._Loop.evaluate, []

    def killing(self):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        evaluate(self)

    loop._Loop.evaluate = killing
    try:
        with pytest.raises(Killed):
            albert("finetune", *part)
    finally:
        loop._Loop.evaluate = evaluate
    assert albert("finetune", *part, "--resume")[0] == 0
    for name in ("model.safetensors", "dev_predictions.csv", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("family", kinds.MOSTLY_SLOW)
def test_probabilities_are_those_of_transformers(tmp_path, albert, family):
    """With padding, texts that are cut, and different numbers of choices."""
    kinds.write_model(tmp_path / "model", family)
    rows = kinds.choosing(12, 3, choices=None)
    rows[0]["text"] = "the film was in rome with alice " * 4
    train = write_lines(tmp_path / "train.jsonl", rows)
    options = ("--model", tmp_path / "model", "--max-length", 24, "--steps", 2, "--batch-size", 4)
    code, _, err = albert("finetune", "choice", *options, "--train", train, "--out", tmp_path / "run")
    assert code == 0, err
    assert "rows are cut to 24 tokens" in err
    out = albert("predict", tmp_path / "run", "--in", train, "--out", "-", "--probabilities")[1]
    found = [json.loads(line) for line in out.splitlines()]
    model, loading = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    for row, mine in zip(rows, found, strict=True):
        seconds = [f"{row['question']} {choice}" for choice in row["choices"]]
        inputs = theirs(
            [row["text"]] * len(seconds), seconds, truncation="only_first", max_length=24, padding=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            logits = model.eval()(**{name: value[None] for name, value in inputs.items()}).logits[0]
        assert mine["probabilities"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
        assert mine["prediction"] == int(logits.argmax())


def test_a_model_fine_tuned_elsewhere(tmp_path, world, albert):
    checkpoint = convert.load(world / "model")
    settings = json.loads((world / "model/config.json").read_text())
    settings = {key: value for key, value in settings.items() if key not in ("model_type", "architectures")}
    torch.manual_seed(5)
    model = transformers.AlbertForMultipleChoice(transformers.AlbertConfig(**settings)).eval()
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m/spiece.model").write_bytes(checkpoint.tokenizer.spiece)
    code, out, err = albert("predict", tmp_path / "m", "the film", "was", "great", "dull", "--json")
    assert (code, err) == (0, "")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    inputs = tokenizer(["the film"] * 2, ["was great", "was dull"], return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        wanted = model(**{name: value[None] for name, value in inputs.items()}).logits.softmax(-1)[0].tolist()
    assert [item["probability"] for item in json.loads(out)["probabilities"]] == pytest.approx(wanted, abs=1e-5)
    data = write_lines(tmp_path / "dev.jsonl", kinds.choosing(6, 1))
    assert albert("evaluate", tmp_path / "m", "--data", data)[0] == 0


def test_pairs_are_those_of_google(world):
    """The choice in the place of a blank, or after the question; the text is cut, and of long choices the beginning."""
    tokenizer = Tokenizer.of_model(convert.load(world / "model"))
    tables = ChoiceTables("text", "question", "choices", "choice", blank=True)
    rows = [
        {"text": "the film " * 8, "question": "a _ film", "choices": ["good", "bad"], "label": "A"},
        {"text": "the", "question": "a film", "choices": ["was in rome with music " * 2, "bad"], "label": 1},
    ]
    path = write_lines(world / "pairs.jsonl", rows)
    items = tables.read_file(path, Sources()).items
    found = rows_of(items, tokenizer, 16, torch.tensor([0, 1]))
    texts = [" ".join(tokenizer.segmenter.piece(number).strip("▁") for number in found.tokens[row]) for row in range(4)]
    assert texts == [
        "[CLS] the film the film the film the film the film [SEP] a good film [SEP]",
        "[CLS] the film the film the film the film the film [SEP] a bad film [SEP]",
        "[CLS] the [SEP] music was in rome with music [SEP]",
        "[CLS] the [SEP] a film bad [SEP]",
    ]
    assert found.counts.tolist() == [2, 2]
    assert found.cut == 2
    types = found.inputs(np.array([0]), torch.device("cpu"))["token_type_ids"][0, 0]
    assert types.tolist() == [0] * 12 + [1] * 4


def test_swag_and_its_kin(world, albert, tmp_path):
    rows = [[row["text"], row["question"], *row["choices"], row["label"]] for row in kinds.choosing(24, 1)]
    header = ("sent1", "sent2", "ending0", "ending1", "ending2", "ending3", "label")
    write_csv(tmp_path / "train.csv", rows, header=header)
    write_csv(tmp_path / "val.csv", rows[:8], header=header)
    options = ("--model", world / "model", "--data", tmp_path, "--steps", 2, "--max-length", 24)
    assert albert("finetune", "swag", *options, "--freeze-encoder", "--out", tmp_path / "run")[0] == 0
    write_csv(tmp_path / "new.csv", [row[:-1] for row in rows], header=header[:-1])
    out = tmp_path / "o.csv"
    assert albert("predict", tmp_path / "run", "--in", tmp_path / "new.csv", "--out", out, "--probabilities")[0] == 0
    assert out.read_text().splitlines()[0] == "id,text,question,choices,prediction,probabilities"
    message = albert("evaluate", tmp_path / "run", "--data", tmp_path / "new.csv")[2]
    assert "has no column 'label' with the right choices; without it it can only be predicted" in message


def test_files_of_race_and_swag_are_told_apart(world, tmp_path, refused):
    header = ("sent1", "sent2", "ending0", "ending1", "label")
    write_csv(tmp_path / "train.csv", [("a", "b", "c", "d", 0)], header=header)
    model = ("--model", world / "model", "--out", tmp_path / "run")
    for option, place in (("--data", tmp_path), ("--train", tmp_path / "train.csv")):
        assert refused("finetune", "race", *model, option, place) == (
            f"{place}: looks like SWAG's (sent1, sent2, ending0, …); albert finetune swag reads it. RACE has "
            "train/middle and train/high with .txt files, or tables with article, question, options and answer"
        )
    assert refused("finetune", "swag", *model, "--data", world / "RACE") == (
        f"{world}/RACE: holds no train.csv, .tsv, .jsonl or .parquet; it looks like RACE's, which albert finetune race "
        "reads"
    )


def test_bad_rows_are_refused_at_once(tmp_path):
    tables = ChoiceTables("text", "question", "choices", "choice")
    good = {"text": "a", "choices": ["x", "y"], "label": 0}
    rows = [good, good | {"label": 2}, good | {"choices": ["x"]}, good | {"choices": "x"}, good | {"label": None}]
    path = write_lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError) as error:
        tables.read_file(path, Sources())
    assert str(error.value) == (
        f"{path}: 4 bad rows: line 2 has '2' as the right one of 2 choices (0 to 1, or A to B); line 3 has 1 choice, "
        "and two are the least; line 4 has 'x', not a list of choices; line 5 has '' as the right one of 2 choices (0 "
        "to 1, or A to B); --skip-bad leaves such rows out"
    )
    kept = tables.read_file(path, Sources(skip_bad=True))
    assert len(kept) == 1
    assert kept.left_out_note().endswith("4 rows left out: lines 2, 3, 4, 5 without sound choices and answer")
    with pytest.raises(DataError, match="has no column 'choices' with a list of choices, and no choice0, choice1, …"):
        tables.read_file(write_csv(tmp_path / "t.csv", [("a", 0)]), Sources())


def test_bad_articles_are_refused_at_once(tmp_path, refused, world):
    kinds.write_race(tmp_path / "r", {"train": kinds.choosing(4, 1)})
    first, second = tmp_path / "r/train/middle/0.txt", tmp_path / "r/train/high/2.txt"
    article = json.loads(first.read_text())
    first.write_text(json.dumps(article | {"answers": ["E", article["answers"][1]]}))
    second.write_text("{}\n")
    message = refused("finetune", *words(world, "--data", tmp_path / "r", "--out", tmp_path / "run"))
    assert message == (
        f"{tmp_path}/r/train: 2 bad questions: middle/0.txt (line 1) has 'E' as the right one of 4 choices (0 to 3, "
        "or A to D); high/2.txt (line 1) is not RACE's JSON (article, questions, options, answers): it has no "
        "'article'; --skip-bad leaves such questions out"
    )
    kept = Race().read(Sources(data=tmp_path / "r", skip_bad=True), "train")
    assert [item.group for item in kept.items] == ["middle"]
    message = refused("finetune", *words(world, "--head", "mlp:8", "--out", tmp_path / "run"))
    assert message.startswith("--head mlp is for labels of texts; RACE trains a linear head on every choice")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "middle/0.txt is empty"),
        ("[" * 10**5, "its lists or objects are nested too deep"),
        ('{"article": null}', "its 'article' is null, not a text"),
        ('{"article": "a", "questions": ["b"], "options": null}', "its 'options' is null, not a list"),
        (
            '{"article": "a", "questions": ["b"], "options": [null], "answers": ["A"]}',
            "has null, not a list of choices",
        ),
    ],
)
def test_an_article_of_another_shape_is_refused(tmp_path, content, fault):
    path = tmp_path / "train/middle/0.txt"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=f"1 bad question: middle/0.txt .*{fault}|1 bad question: {fault}"):
        Race().read(Sources(data=tmp_path), "train")


def test_a_development_set_of_one_group_has_its_metric_alone(world, tmp_path, albert):
    dev = world / "RACE/dev/middle"
    code, _, said = albert("finetune", *words(world, "--dev", dev, "--out", tmp_path / "run", "--steps", 1))
    assert code == 0, said
    assert set(json.loads((tmp_path / "run/summary.json").read_text())["dev"]) == {
        "loss", "accuracy", "middle_accuracy",
    }  # fmt: skip
    assert "high_accuracy" not in (tmp_path / "run/report.md").read_text()


def test_too_few_texts(finished, refused):
    message = refused("predict", finished, "a text", "a question")
    assert message == f"{finished}: its model takes a text, a question and two choices or more, not 2 texts"
    for choices in (("", "b"), ("a", " ")):
        assert refused("predict", finished, "a text", "", *choices) == (
            f"{finished}: its model takes a text, a question and two choices or more, and a choice is empty; "
            '"" can only stand in the second place, for no question'
        )


def test_every_column_of_a_table_is_kept(finished, albert, refused, tmp_path):
    row = {"id": "x", "article": "good", "question": "a", "options": ["the", "film"], "label": 7, "source": "s"}
    path = write_lines(tmp_path / "t.jsonl", [row])
    code, out, err = albert("predict", finished, "--in", path, "--out", "-")
    assert code == 0, err
    found = json.loads(out)
    assert list(found) == ["id", "text", "question", "choices", "label", "source", "prediction"]
    assert (found["id"], found["label"], found["source"]) == ("x", "7", "s")
    write_lines(path, [row | {"text": "t"}])
    assert refused("predict", finished, "--in", path) == (
        f"{path}: has a further column 'text'; rename it, for what is read is called that"
    )


@pytest.mark.parametrize(
    ("cell", "place"),
    [("0", 0), ("3", 3), ("A", 0), ("D", 3), (" B ", 1), ("4", None), ("E", None), ("-1", None), ("9" * 5000, None)],
)
def test_places_of_choices(cell, place):
    assert place_of(cell, 4)[0] == place


def test_lists_of_choices():
    assert choices_in('["a", "b"]') == (("a", "b"), "")
    assert choices_in("[" * 10**5)[1].endswith("…, not a list of choices")
    assert choices_in('["a", "\\ud800x"]')[0] == ("a", "\ufffdx")
    assert choices_in('["a", ""]')[1] == "has an empty choice, or one that is no text"
