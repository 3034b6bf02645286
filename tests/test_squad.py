"""Questions: windows, spans and answers against the text, the official script's scores, a run from end to end."""

import gzip
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning import squad, tokenizer_files, write_model, write_squad
from typer.testing import CliRunner

from albert_cli import tasks
from albert_cli.errors import DataError, RunError
from albert_cli.main import app
from albert_cli.tasks.examples import Question
from albert_cli.tasks.layouts.squad import read_squad
from albert_cli.tasks.task import Sources
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import questions, session
from albert_cli.training.inference import infer
from albert_cli.training.rows import TokenRows
from albert_cli.training.run_directory import load_run
from albert_cli.training.settings import Plan
from converters import convert

pytestmark = pytest.mark.usefixtures("undrawn")


def train(given_, out):
    session.one(
        "squad", given_, out, config=None, seeds=[], compare=[], resume=False, force=False, report=lambda record: None
    )


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_files(tokenizer_files()[0])


def test_every_answer_is_found_again_from_its_tokens(tokenizer, tmp_path):
    asked = read_squad(write_squad(tmp_path / "train.json", count=30))
    cut = questions.windows(asked.items, tokenizer, 32)
    assert len(cut.tokens) > len(asked)  # texts are longer than a window
    found = set()
    for row, number in enumerate(cut.question):
        item, (first, last) = asked.items[number], cut.spans[row]
        assert len(cut.tokens[row]) <= 32
        if last:
            start, end = cut.offsets[row][first][0], cut.offsets[row][last][1]
            assert item.context[start:end] == item.answers[0][0]
            found.add(number)
    assert found == {number for number, item in enumerate(asked.items) if item.answers}


def test_windows_cover_the_whole_text(tokenizer):
    item = Question("1", "a good film?", "the story " * 40, [])
    cut = questions.windows([item], tokenizer, 24)
    covered = {int(place) for window in cut.offsets for start, end in window if end > 0 for place in range(start, end)}
    assert covered >= {place for place, letter in enumerate(item.context) if letter != " "}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), length=st.integers(80, 200))
def test_perfect_logits_give_the_wanted_answers(seed, length):
    tokenizer = Tokenizer.from_files(tokenizer_files()[0])
    items = [
        Question(
            entry["id"],
            entry["question"],
            paragraph["context"],
            [(a["text"], a["answer_start"]) for a in entry["answers"]],
        )
        for paragraph in squad(6, seed=seed)["data"][0]["paragraphs"]
        for entry in paragraph["qas"]
    ]
    cut = questions.windows(items, tokenizer, length)
    logits = []
    for row, (first, last) in enumerate(cut.spans):
        scores = np.full((len(cut.tokens[row]), 2), -5, np.float32)
        scores[first, 0] = scores[last, 1] = 5
        if last:
            scores[0] = -5
        logits.append(scores)
    given_ = questions.answers(items, cut, logits, no_answer=True)
    assert [item.text for item in given_] == [item.answers[0][0] if item.answers else "" for item in items]
    for item, answer in zip(items, given_, strict=True):
        assert answer.start == -1 or item.context[answer.start : answer.end] == answer.text
    exact, f1 = questions.scores(items, [item.text for item in given_])
    assert (set(exact), set(f1)) == ({1}, {1.0})


@pytest.mark.parametrize(
    ("wanted", "given_", "exact", "f1"),
    [
        (["The Denver Broncos"], "denver broncos!", 1, 1.0),
        (["Denver Broncos"], "Broncos", 0, 2 / 3),
        (["a", "the cat sat"], "cat", 0, 2 / 3),
        ([], "", 1, 1.0),
        ([], "something", 0, 0.0),
        (["something"], "", 0, 0.0),
        (["red", "dark red wine"], "red wine", 0, 0.8),
    ],
)
def test_scores_are_those_of_the_official_script(wanted, given_, exact, f1):
    item = Question("1", "?", " ".join(wanted), [(text, 0) for text in wanted])
    assert questions.scores([item], [given_]) == ([exact], [pytest.approx(f1)])


def test_bad_squad_files(tmp_path):
    path = tmp_path / "train.json"
    content = squad(3)
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 0
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 answers do not stand at their answer_start: q0: '\w+'"):
        read_squad(path)
    entries = content["data"][0]["paragraphs"][0]["qas"]
    content["data"][0]["paragraphs"][0]["qas"] = [entries[0], entries[0]]
    path.write_text(json.dumps(content), encoding="utf-8")
    for misplaced in ("refuse", "skip", "keep"):  # as finetune and evaluate, with --skip-bad, and predict read it
        with pytest.raises(DataError, match=r"1 question id of several questions: 'q0' \(2 times\); answers are wri"):
            read_squad(path, misplaced=misplaced)
    for text, message in (
        ("{}", r"not SQuAD's JSON \(data, paragraphs, context, qas\): KeyError\('data'\)"),
        ('{"data": []}', "holds no questions"),
        ("nonsense", "is not JSON"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(Exception, match=message):
            read_squad(path)
    with pytest.raises(DataError, match=re.escape("squad needs --data with a directory that holds train-v2.0.json or")):
        train({"model": str(write_model(tmp_path / "m")), "data": str(tmp_path / "m")}, tmp_path / "run")


def is_max_context(spans, number, position):
    """Google's rule (squad_utils.py, _check_is_max_context), written out; `spans`: start and length of all windows."""
    best_score, best = None, None
    for other, (start, length) in enumerate(spans):
        end = start + length - 1
        if position < start or position > end:
            continue
        score = min(position - start, end - position) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, other
    return best == number


@pytest.mark.parametrize(("words", "length"), [(3, 32), (80, 24), (80, 32), (200, 128), (400, 150)])
def test_a_token_begins_an_answer_only_where_it_has_most_context_as_in_googles_code(tokenizer, words, length):
    items = [Question(str(n), "a good film?", "the story " * (words - n), []) for n in range(3)]
    cut = questions.windows(items, tokenizer, length)
    for number, item in enumerate(items):
        rows = [row for row, owner in enumerate(cut.question) if owner == number]
        whole = [piece.start for piece in tokenizer.segmenter.pieces(item.context)]
        spans = []
        for row in rows:
            seen = [int(start) for start, end in cut.offsets[row] if end >= 0]
            spans.append((whole.index(seen[0]), len(seen)))
        for place, row in enumerate(rows):
            inside = np.flatnonzero(cut.offsets[row][:, 1] >= 0)
            wanted = [is_max_context(spans, place, spans[place][0] + at) for at in range(len(inside))]
            assert cut.central[row][inside].tolist() == wanted
            assert not np.delete(cut.central[row], inside).any()


def test_an_answer_at_the_edge_of_a_window_is_left_to_the_one_that_shows_more_around_it(tokenizer):
    item = Question("1", "a good film?", "the story " * 40, [])
    cut = questions.windows([item], tokenizer, 24)
    logits = [np.zeros((len(tokens), 2), np.float32) for tokens in cut.offsets]
    edge = np.flatnonzero(cut.offsets[0][:, 1] > 0)[-1]
    assert not cut.central[0][edge]
    logits[0][edge] = 9
    (found,) = questions.answers([item], cut, logits, no_answer=False)
    assert found.score < 18


def test_misplaced_answers_are_left_out_where_that_is_asked_and_no_matter_in_predictions(run, tmp_path, albert):
    content = squad(30, seed=8)
    entries = [paragraph["qas"][0] for paragraph in content["data"][0]["paragraphs"]]
    entries[0]["answers"][0]["answer_start"] = 0
    entries[1]["answers"][0]["answer_start"] = -4
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    code, _, err = albert("evaluate", run, "--data", path)
    assert code == 1
    assert re.search(r"2 answers do not stand at their answer_start: q0: '\w+', q1: '\w+'; .* out with --skip-bad", err)
    code, out, err = albert("evaluate", run, "--data", path, "--skip-bad", "--json")
    assert code == 0, err
    code, out, err = albert("predict", run, "--in", path, "--out", tmp_path / "answers.json")
    assert (code, out) == (0, f"{tmp_path / 'answers.json'}: 30 rows\n")
    words = ("finetune", "squad", "--train", path, "--dev", path, "--model", run.parent / "model", "--steps", 2)
    code, out, err = albert(*words, "--max-length", 64, "--out", tmp_path / "run", "--skip-bad")
    assert code == 0, err
    assert f"note: {path}: 2 questions left out: questions q0, q1 with misplaced answers\n" in err
    assert "28 questions, 10 of them without an answer, recipe of SQuAD 2.0; 28 of 28 dev rows in train, too\n" in out
    assert "misplaced answers\n" in (tmp_path / "run" / "report.md").read_text()


def test_is_impossible_decides_whether_there_is_an_answer(tmp_path):
    content = squad(6)
    entries = [paragraph["qas"][0] for paragraph in content["data"][0]["paragraphs"]]
    entries[0]["is_impossible"] = True  # with an answer
    entries[1] |= {"is_impossible": True, "answers": [{"text": "elsewhere", "answer_start": 0}]}
    del entries[3]["is_impossible"]  # as in SQuAD v1
    del entries[5]["answers"]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    asked = read_squad(path)
    assert [bool(item.answers) for item in asked.items] == [False, False, False, True, True, False]
    assert (asked.unanswerable, asked.labelled) == (4, True)
    entries[4]["answers"] = []
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        DataError, match="1 questions have no answer though is_impossible is false: q4; correct them, or"
    ):
        read_squad(path)
    asked = read_squad(path, misplaced="skip")
    assert asked.left_out == {"without an answer though is_impossible is false": ["q4"]}
    assert [item.id for item in asked.items] == ["q0", "q1", "q2", "q3", "q5"]
    assert len(read_squad(path, misplaced="keep")) == 6
    entries[4]["is_impossible"] = "false"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="is_impossible is 'false' at q4, not true or false"):
        read_squad(path, misplaced="keep")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_questions_are_read(tmp_path, monkeypatch, ending):
    plain = write_squad(tmp_path / "plain.json", count=9)
    raw = plain.read_bytes()
    packed = gzip.compress(raw) if ending == ".gz" else pa.compress(raw, "zstd", asbytes=True)
    path = tmp_path / f"dev-v2.0.json{ending}"
    path.write_bytes(packed)
    found = tasks.named("squad").read(Sources(data=tmp_path), "dev")
    assert (found.where, found.items) == (str(path), read_squad(plain).items)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(packed))))
    assert read_squad(Path("-"), misplaced="keep").items == found.items


@pytest.mark.parametrize(
    ("impossible", "values"),
    [(True, ("SQuAD 2.0", 3e-5, 48, 8144, 814, 512)), (False, ("SQuAD 1.1", 5e-5, 48, 3649, 365, 384))],
)
def test_the_recipe_is_that_of_the_data(tmp_path, impossible, values):
    path = write_squad(tmp_path / "train.json", count=9, impossible=impossible)
    task = tasks.named("squad")
    recipe = task.recipe_for(read_squad(path))
    given_ = {"train": str(path), "model": str(write_model(tmp_path / "m"))}
    wanted = session._settings("squad", given_, tmp_path / "o", config=None, resume=False)
    plan = Plan.of(wanted, recipe, 150_000, 12_000, examples=recipe.train_rows)
    found = (recipe.name, wanted.learning_rate, wanted.batch_size, plan.steps, plan.warmup_steps, wanted.max_length)
    assert found == values


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("squad")
    write_model(root / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    write_squad(root / "train-v2.0.json", count=150)
    write_squad(root / "dev-v2.0.json", count=30, seed=8)
    given_ = {"model": str(root / "model"), "data": str(root), "epochs": 12, "batch_size": 16, "max_length": 64}
    train(given_ | {"learning_rate": 1e-2, "eval_every": 60}, root / "run")
    return root / "run"


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_head_that_reads_no_tokens_is_refused(run, tmp_path, refused):
    words = ("finetune", "squad", "--data", run.parent, "--model", run.parent / "model", "--out", tmp_path / "run")
    message = "--head mlp is for labels of texts; squad trains a linear head on every token; leave --head out"
    assert refused(*words, "--max-length", 64, "--head", "mlp:8") == message
    assert not (tmp_path / "run").exists()


def test_options_without_effect_on_questions_are_refused(run, tmp_path, albert, refused):
    options = ("--probabilities", "--delimiter", ";", "--input-format", "csv", "--text-column", "x")
    code, _, err = albert("predict", run, "--in", run.parent / "dev-v2.0.json", *options)
    assert code == 2
    for option in options[0], options[1], options[3], options[5]:
        assert option in err
    assert "have no effect on a model that answers questions; leave them out" in err
    words = ("finetune", "squad", "--data", run.parent, "--model", run.parent / "model", "--out", tmp_path / "run")
    assert re.fullmatch(
        r"question '\w+' has \d tokens, and --max-length 5 has room for 2 of question and text; train with a longer "
        "--max-length",
        refused(*words, "--max-length", 5),
    )


def test_a_run_of_an_older_version_is_read_under_its_former_name(run, tmp_path):
    assert 'kind = "question_answering"' in (run / "run.toml").read_text()
    old = shutil.copytree(run, tmp_path / "old")
    text = (run / "run.toml").read_text().replace('kind = "question_answering"', 'kind = "answers"')
    (old / "run.toml").write_text(text)
    found = [json.loads(invoke("evaluate", path, "--json").stdout)[str(path)] for path in (run, old)]
    assert found[0] == found[1]
    assert load_run(old).info.problem == "question_answering"


def test_a_run_learns_to_point_at_the_good_word(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dev"]["exact"] >= 0.8
    asked = read_squad(run.parent / "dev-v2.0.json").items
    rows = [line.split(",") for line in (run / "dev_predictions.csv").read_text().splitlines()[1:]]
    right = {row[0] for row in rows if row[4] == "1"}
    with_answer = next(item for item in asked if item.id in right and item.answers)
    found = json.loads(invoke("answer", run, with_answer.question, with_answer.context, "--json").stdout)
    assert found["answer"] == with_answer.answers[0][0] == with_answer.context[found["start"] : found["end"]]
    without = next(item for item in asked if item.id in right and not item.answers)
    path = run.parent / "text.txt"
    path.write_text(without.context, encoding="utf-8")
    assert invoke("answer", run, without.question, f"@{path}").stdout == "(no answer in the text)\n"
    assert "its model answers questions; use albert answer" in str(invoke("predict", run, "text").exception)


def test_transformers_loads_it_and_gives_the_same_logits(run):
    theirs, report = transformers.AlbertForQuestionAnswering.from_pretrained(run, output_loading_info=True)
    assert not any(report.values())
    loaded = load_run(run)
    cut = questions.windows(read_squad(run.parent / "dev-v2.0.json").items, loaded.tokenizer, 64)
    ours = infer(loaded.model, TokenRows(cut.tokens), device=torch.device("cpu"))
    batch = {name: torch.from_numpy(array) for name, array in cut.tokens.padded().items()}
    with torch.no_grad():
        output = theirs.eval()(**batch)
    for row, logits in ours.items():
        wanted = torch.stack([output.start_logits[row], output.end_logits[row]], dim=-1)[: len(logits)]
        assert np.abs(logits - wanted.numpy()).max() <= 1e-5


def test_it_becomes_googles_v1_head_and_comes_back(run, tmp_path):
    convert.convert(run, tmp_path / "tf", target_as="tf")
    from converters.tensorflow.bundle import read_bundle

    assert {"cls/squad/output_weights", "cls/squad/output_bias"} <= set(
        read_bundle(tmp_path / "tf" / "model.ckpt-best")
    )
    convert.convert(tmp_path / "tf", tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_predictions_are_squads_json_and_evaluation_agrees(run, tmp_path):
    source = run.parent / "dev-v2.0.json"
    done = invoke("predict", run, "--in", source, "--out", tmp_path / "answers.json")
    assert done.exit_code == 0, done.exception
    given_ = json.loads((tmp_path / "answers.json").read_text())
    asked = read_squad(source)
    exact, _ = questions.scores(asked.items, [given_[item.id] for item in asked.items])
    measured = json.loads(invoke("evaluate", run, "--data", source, "--json").stdout)[str(run)][source.name]
    assert measured["exact"] == pytest.approx(np.mean(exact))
    rows = (run / "dev_predictions.csv").read_text().splitlines()
    assert rows[0] == "id,question,answers,prediction,exact,f1"
    assert [float(row.rsplit(",", 1)[1]) for row in rows[1:]] == sorted(
        float(row.rsplit(",", 1)[1]) for row in rows[1:]
    )
    with pytest.raises(RunError, match=r"predictions are written as \.json"):
        raise invoke("predict", run, "--in", source, "--out", tmp_path / "answers.csv").exception
