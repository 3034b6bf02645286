"""SQuAD 2.0 of every family: thresholds and scores of the official script, Google's n-best lists, models of others."""

import collections
import json
import math
import random
import re
import shutil
import string

import numpy as np
import pytest
import torch
import transformers
from tuning import RELATIVES, squad, write_model, write_relative, write_squad

from albert_cli.tasks.examples import Question
from albert_cli.tasks.layouts.squad import read_squad
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import no_answer, questions, session
from albert_cli.training.inference import infer
from albert_cli.training.rows import TokenRows
from albert_cli.training.run_directory import load_run, read_info

pytestmark = pytest.mark.usefixtures("undrawn")


# The official script, written out once more


def words_of(text):
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact_of(gold, given):
    return int(words_of(gold) == words_of(given))


def f1_of(gold, given):
    gold, given = words_of(gold), words_of(given)
    same = sum((collections.Counter(gold) & collections.Counter(given)).values())
    if not gold or not given:
        return int(gold == given)
    return 0 if same == 0 else 2 * (same / len(given)) * (same / len(gold)) / (same / len(given) + same / len(gold))


def official(golds, given, odds, threshold):
    """What evaluate-v2.0.py prints of predictions that always answer, their odds and a threshold, as shares."""
    raw = {
        "exact": {key: max(exact_of(gold, given[key]) for gold in golds[key] or [""]) for key in golds},
        "f1": {key: max(f1_of(gold, given[key]) for gold in golds[key] or [""]) for key in golds},
    }
    has = {key: bool(golds[key]) for key in golds}
    report = {}
    for name, scores in raw.items():
        applied = {key: float(not has[key]) if odds[key] > threshold else scores[key] for key in golds}
        report[name] = sum(applied.values()) / len(golds)
        for label, kind in (("HasAns", True), ("NoAns", False)):
            chosen = [applied[key] for key in golds if has[key] == kind]
            if chosen:
                report |= {f"{label}_{name}": sum(chosen) / len(chosen), f"{label}_total": len(chosen)}
        current = best = sum(not one for one in has.values())
        best_at = 0.0
        for key in sorted(odds, key=lambda key: odds[key]):
            current += scores[key] if has[key] else -1 if given[key] else 0
            if current > best:
                best, best_at = current, odds[key]
        report |= {f"best_{name}": best / len(golds), f"best_{name}_thresh": best_at}
    return report


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_one_of_the_official_script(seed):
    """Ties, answers that are none, and questions of one kind alone among them."""
    draw = random.Random(seed)
    golds = {str(n): [] if draw.random() < (seed % 5) / 4 else ["the good film"] for n in range(30)}
    given = {key: draw.choice(["good film", "film", "bad", ""]) for key in golds}
    odds = {key: math.inf if not given[key] else draw.choice([-2.5, -1.0, 0.0, draw.uniform(-3, 3)]) for key in golds}
    items = [Question(key, "?", "the good film", [(text, 0) for text in golds[key]]) for key in golds]
    wanted = official(golds, given, odds, 0.0)
    exact, f1 = questions.scores(items, list(given.values()))
    answerable = [bool(item.answers) for item in items]
    for name, scores in (("exact", exact), ("f1", f1)):
        found = no_answer.best_threshold(list(odds.values()), scores, answerable)
        assert found.score == pytest.approx(wanted[f"best_{name}"])
        assert found.threshold == wanted[f"best_{name}_thresh"]


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better_than_the_one_that_a_run_keeps(seed):
    """Ties, odds that are close, questions without a span, and golds that normalise to nothing among them."""
    draw = random.Random(seed)
    count = draw.choice([1, 3, 12])
    odds = [draw.choice([math.inf, -2.5, 1.0, 1.0004, draw.uniform(-3, 3)]) for _ in range(count)]
    scores = [draw.choice([0.0, 0.3, 1.0]) * (seed % 4 > 0) for _ in range(count)]  # else to answer nothing is best
    empty = [float(draw.random() < 0.4) for _ in range(count)]
    scores = [one if odd < math.inf else none for odd, one, none in zip(odds, scores, empty, strict=True)]

    def at(threshold):
        each = zip(odds, scores, empty, strict=True)
        return sum(none if odd > threshold else one for odd, one, none in each)

    kept = no_answer.kept_threshold(odds, scores, empty)
    assert math.isfinite(kept)
    assert at(kept) == pytest.approx(max(at(value) for value in [-1e9, *odds]))


def test_where_to_answer_nothing_is_best_the_kept_threshold_answers_nothing():
    """The official script's threshold of such answers is 0, at which one of them is given."""
    odds, scores, answerable = [-1.25, 2.0], [0.0, 0.0], [False, True]
    assert no_answer.best_threshold(odds, scores, answerable) == no_answer.Best(0.5, 0.0)
    assert no_answer.kept_threshold(odds, scores, [1.0, 0.0]) == pytest.approx(-1.251)


# Google's n-best list, written out once more


def nbest(context, windows, *, nothing):
    """run_squad.py, write_predictions; `windows`: (scores, offsets, central) of each."""
    spans, null = [], None
    for scores, offsets, central in windows:
        if null is None or scores[0].sum() < null[0]:
            null = (float(scores[0].sum()), "", float(scores[0, 0]), float(scores[0, 1]))
        inside = [n for n, (start, end) in enumerate(offsets) if end > start >= 0]
        starts = sorted((n for n in inside if central[n]), key=lambda n: -scores[n, 0])[:20]
        ends = sorted(inside, key=lambda n: -scores[n, 1])[:20]
        for first in starts:
            for last in ends:
                if first <= last < first + 30:
                    text = context[offsets[first][0] : offsets[last][1]]
                    spans.append((float(scores[first, 0] + scores[last, 1]), text, scores[first, 0], scores[last, 1]))
    if nothing:
        spans.append(null)
    spans.sort(key=lambda span: -span[0])
    seen, chosen = set(), []
    for span in spans:
        if len(chosen) == 20:
            break
        if span[1] not in seen:
            seen.add(span[1])
            chosen.append(span)
    if nothing and "" not in seen:
        chosen.append(null)
    shares = np.exp(np.array([span[0] for span in chosen]) - chosen[0][0])
    return [(text, share) for (_, text, *_), share in zip(chosen, shares / shares.sum(), strict=True)]


@pytest.mark.parametrize("nothing", [True, False])
def test_candidates_are_googles_n_best_list(tmp_path, nothing):
    tokenizer = Tokenizer.from_pretrained(write_model(tmp_path / "m"))
    chance = np.random.default_rng(4)
    items = [Question(str(n), "a good film?", f"{'the story a film ' * (6 * n + 2)}good.", []) for n in range(3)]
    cut = questions.windows(items, tokenizer, 32)
    logits = [chance.normal(scale=3, size=(len(offsets), 2)).astype(np.float32) for offsets in cut.offsets]
    found = questions.answers(items, cut, logits, no_answer=nothing, top=20)
    plain = questions.answers(items, cut, logits, no_answer=nothing)
    for number, (item, answer) in enumerate(zip(items, found, strict=True)):
        rows = [row for row, owner in enumerate(cut.question) if owner == number]
        windows = [(logits[row], cut.offsets[row], cut.central[row]) for row in rows]
        wanted = nbest(item.context, windows, nothing=nothing)
        assert [one.text for one in answer.candidates] == [text for text, _ in wanted]
        assert [one.probability for one in answer.candidates] == pytest.approx([share for _, share in wanted])
        assert (answer.text, answer.score) == (plain[number].text, plain[number].score)
        for one in answer.candidates:
            assert item.context[max(0, one.start) : max(0, one.end)] == one.text
        short = questions.answers(items, cut, logits, no_answer=nothing, top=3)[number]
        none = [one for one in answer.candidates[3:] if not one.text]
        assert short.candidates == (*answer.candidates[:3], *none)


# Runs


def train(given, out):
    how = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False}
    return session.one("squad", given, out, report=lambda event: None, **how)


@pytest.fixture(scope="module", params=["albert", *RELATIVES])
def run(request, tmp_path_factory):
    """A short run of every family, its family, and the questions it developed with."""
    root = tmp_path_factory.mktemp(request.param)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if request.param == "albert":
        write_model(root / "model", **still)
    else:
        write_relative(root / "model", request.param, **still)
    write_squad(root / "train-v2.0.json", count=30)
    write_squad(root / "dev-v2.0.json", count=18, seed=8)
    given = {"model": str(root / "model"), "data": str(root), "steps": 16, "batch_size": 8, "max_length": 48}
    train(given | {"learning_rate": 1e-2, "warmup": 0}, root / "run")
    return root / "run", request.param, root / "dev-v2.0.json"


def test_a_run_is_the_familys_class_in_transformers_over_the_same_windows(run):
    out, kind, dev = run
    theirs, report = transformers.AutoModelForQuestionAnswering.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    family = "Bert" if kind == "spanbert" else kind.capitalize()
    assert type(theirs).__name__ == f"{family}ForQuestionAnswering"
    loaded, tokenizer = load_run(out), transformers.AutoTokenizer.from_pretrained(out)
    items = read_squad(dev).items[:4]
    cut = questions.windows(items, loaded.tokenizer, 30)
    assert len(cut.question) > len(items)
    wanted = []
    for item in items:
        asked = len(loaded.tokenizer.segmenter.pieces(item.question))
        stride = (30 - asked - loaded.tokenizer.template.added(pair=True)) // 2
        made = tokenizer(
            item.question, item.context, truncation="only_second", max_length=30, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        wanted += [
            (
                ids,
                [place if side == 1 else (-1, -1) for place, side in zip(places, made.sequence_ids(row), strict=True)],
            )
            for row, (ids, places) in enumerate(zip(made["input_ids"], made["offset_mapping"], strict=True))
        ]
    assert [cut.tokens[row].tolist() for row in range(len(cut.tokens))] == [ids for ids, _ in wanted]
    if kind != "albert":  # SentencePiece's spans in transformers have the blank before a word
        assert [places.tolist() for places in cut.offsets] == [[list(place) for place in one] for _, one in wanted]
    ours = infer(loaded.model, TokenRows(cut.tokens), device=torch.device("cpu"))
    batch = {name: torch.from_numpy(array) for name, array in cut.tokens.padded().items()}
    with torch.no_grad():
        output = theirs.eval()(**{key: value for key, value in batch.items() if key in tokenizer.model_input_names})
    for row, logits in ours.items():
        oracle = torch.stack([output.start_logits[row], output.end_logits[row]], dim=-1)[: len(logits)]
        assert np.abs(logits - oracle.numpy()).max() <= 1e-5


def test_figures_are_those_of_the_official_script_and_the_threshold_is_used(run, albert, tmp_path):
    out, _, dev = run
    loaded, items = load_run(out), read_squad(dev).items
    threshold = loaded.info.no_answer_threshold
    assert f"no_answer_threshold = {threshold}\n" in (out / "run.toml").read_text()
    cut = questions.windows(items, loaded.tokenizer, 48)
    outputs = infer(loaded.model, TokenRows(cut.tokens), device=torch.device("cpu"))
    best = questions.best_spans(items, cut, [outputs[row] for row in range(len(cut.tokens))])
    golds = {item.id: [text for text, _ in item.answers] for item in items}
    given = {item.id: answer.text for item, answer in zip(items, best, strict=True)}
    odds = {item.id: answer.null_score - answer.score for item, answer in zip(items, best, strict=True)}
    wanted = official(golds, given, odds, threshold)
    code, said, err = albert("evaluate", out, "--json")
    assert (code, err) == (0, "")
    found = json.loads(said)[str(out)]["dev"]
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, abs=1e-5)
    assert found.keys() == {"loss", *wanted}
    assert found["HasAns_total"] + found["NoAns_total"] == len(items)
    assert found["f1"] == pytest.approx(found["best_f1"], abs=1e-6)
    assert threshold == round(threshold, 3)
    if found["best_f1_thresh"]:
        assert 5e-5 < threshold - found["best_f1_thresh"] < 1.2e-3  # a little higher, whatever rounding does
    else:  # to answer nothing is best
        assert 5e-5 < min(odds.values()) - threshold < 1.2e-3
    summary = json.loads((out / "summary.json").read_text())
    assert summary["dev"] == pytest.approx(found, abs=1e-5)
    report = (out / "report.md").read_text()
    assert f"| NoAns_total | {found['NoAns_total']} |" in report
    assert "HasAns_f1" in albert("evaluate", out)[1]
    assert albert("predict", out, "--in", dev, "--out", tmp_path / "a.json")[0] == 0
    answers = json.loads((tmp_path / "a.json").read_text())
    assert answers == {key: "" if odds[key] > threshold else given[key] for key in golds}


@pytest.mark.parametrize("run", ["albert"], indirect=True)
def test_another_threshold_gives_other_answers(run, albert, tmp_path):
    out, _, dev = run
    for value, empty in ((-1e6, True), (1e6, False)):
        other = shutil.copytree(out, tmp_path / str(empty))
        text = re.sub(r"no_answer_threshold = .*", f"no_answer_threshold = {value}", (other / "run.toml").read_text())
        (other / "run.toml").write_text(text)
        assert albert("predict", other, "--in", dev, "--out", other / "a.json")[0] == 0
        assert {not answer for answer in json.loads((other / "a.json").read_text()).values()} == {empty}
        found = json.loads(albert("answer", other, "a good film?", "the good film", "--json")[1])
        assert (found["answer"] == "", found["no_answer_threshold"]) == (empty, value)
        for given, none in ((1e6, False), (-1e6, True)):
            words = ("a good film?", "the good film", "--json", "--no-answer-threshold", given)
            assert (json.loads(albert("answer", other, *words)[1])["answer"] == "") == none
    (other / "run.toml").write_text(text.replace("no_answer = true", "no_answer = false"))
    said = albert("answer", other, "a?", "b", "--no-answer-threshold", 1)[2]
    assert "its model was trained to answer every question; leave --no-answer-threshold out" in said
    (other / "run.toml").write_text(re.sub("_threshold = .*", "_threshold = nan", text))
    assert "no_answer_threshold is nan; restore it" in albert("predict", other, "--in", dev)[2]
    (other / "run.toml").write_text(re.sub(r"no_answer_threshold = .*\n", "", text))  # of an earlier version
    assert read_info(other).no_answer_threshold == 0.0


def test_the_likeliest_answers(run, albert, tmp_path, refused):
    out, _, dev = run
    item = read_squad(dev).items[0]
    code, said, err = albert("answer", out, item.question, item.context, "--top", 3, "--json")
    assert (code, err) == (0, "")
    found = json.loads(said)
    assert len(found["candidates"]) in (3, 4)  # "no answer" is always one of them
    assert [one["text"] for one in found["candidates"]].count("") == 1
    shares = [one["probability"] for one in found["candidates"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    for one in found["candidates"]:
        assert item.context[max(0, one["start"]) : max(0, one["end"])] == one["text"]
    lines = albert("answer", out, item.question, item.context, "--top", 3)[1].splitlines()
    assert lines[0] == found["answer"] or lines[0] == "(no answer in the text)"
    assert lines[1].split() == ["candidate", "probability"]
    assert [line.split()[-1] for line in lines[2:] if "─" not in line] == [f"{share:.4f}" for share in shares]
    assert albert("predict", out, "--in", dev, "--out", tmp_path / "n.json", "--top", 20)[0] == 0
    listed = json.loads((tmp_path / "n.json").read_text())
    assert {len(one) for one in listed.values()} <= {20, 21}
    assert {sum(not each["text"] for each in one) for one in listed.values()} == {1}
    assert [one["probability"] for one in listed[item.id][:3]] == pytest.approx(shares[:3], abs=1e-6)
    assert {"text", "probability", "start_logit", "end_logit"} <= listed[item.id][0].keys()
    for words in (("", "a text"), ("a question?", " ")):
        code, said, err = albert("answer", out, *words)
        assert (code, said, err.count("\n")) == (2, "", 1)
        assert "is empty; " in err
    (tmp_path / "q.csv").write_text("question,context\na,b\n")
    assert "questions are read from SQuAD's .json: data" in albert("predict", out, "--in", tmp_path / "q.csv")[2]
    code, said, _ = albert("predict", out, "--in", dev, "--top", 2)
    assert code == 0
    assert re.search(r"0\.\d{4}; ", said)


@pytest.mark.parametrize("run", ["bert"], indirect=True)
def test_only_answers_have_others_beside_them(run, tmp_path, refused):
    from tuning import reviews, write_csv

    out = run[0]
    how = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False}
    given = {"model": str(out.parent / "model"), "train": str(write_csv(tmp_path / "t.csv", reviews(12))), "steps": 1}
    session.one("csv", given | {"max_length": 32}, tmp_path / "run", report=lambda event: None, **how)
    assert refused("predict", tmp_path / "run", "--in", tmp_path / "t.csv", "--top", 2) == (
        f"{tmp_path / 'run'}: --top is for answers to questions, but its model labels texts; use albert predict RUN "
        "TEXT"
    )


def test_a_question_answering_model_of_others_answers_after_a_conversion(albert, tmp_path):
    """mrm8488/spanbert-finetuned-squadv2: a cased BertForQuestionAnswering with a pooler, and no file of ours."""
    write_relative(tmp_path / "base", "spanbert")
    torch.manual_seed(11)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "base")
    network = transformers.BertForQuestionAnswering(config).eval()
    with torch.no_grad():
        network.qa_outputs.weight.normal_(std=2.0)
    source = tmp_path / "squadv2"
    network.save_pretrained(source)
    shutil.copy(tmp_path / "base/vocab.txt", source)
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    weights = transformers.BertModel(config).pooler.state_dict()  # never trained, and stored
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    tensors |= {f"bert.pooler.{name}": tensor for name, tensor in weights.items()}
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    assert albert("convert", source, tmp_path / "tf", "--to", "npz")[0] == 0
    assert albert("convert", tmp_path / "tf", tmp_path / "run")[0] == 0
    tokenizer = transformers.BertTokenizer.from_pretrained(source)
    for paragraph in squad(8, seed=5)["data"][0]["paragraphs"]:
        context, question = paragraph["context"], "Good Film?"
        inputs = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
        places = inputs.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            output = network(**inputs)
        start, end = output.start_logits[0].numpy(), output.end_logits[0].numpy()
        inside = [n for n, side in enumerate(inputs.sequence_ids(0)) if side == 1]
        score, first, last = max(
            (start[a] + end[b], a, b)
            for a in sorted(inside, key=lambda n: -start[n])[:20]
            for b in sorted(inside, key=lambda n: -end[n])[:20]
            if a <= b < a + 30
        )
        for run in (source, tmp_path / "run"):
            found = json.loads(albert("answer", run, question, context, "--json", "--top", 1)[1])
            assert found["score"] == pytest.approx(float(score), abs=1e-4)
            assert found["no_answer_score"] == pytest.approx(float(start[0] + end[0]), abs=1e-4)
            none = start[0] + end[0] > score
            assert (found["start"], found["end"]) == ((-1, -1) if none else (places[first][0], places[last][1]))
            assert found["answer"] == ("" if none else context[places[first][0] : places[last][1]])
