"""Few rows, or none: labels of one's own, a frozen encoder with a mean, weighed labels, several learning rates."""

import json

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from tuning import BAD, GOOD, reviews, write_csv, write_model, write_relative
from typer.testing import CliRunner

from albert_cli.declared import load_toml
from albert_cli.main import app
from albert_cli.training.problems import named
from albert_cli.training.run_directory import load_run
from albert_cli.training.weighing import NO_LABEL, Weighing, named_weights, weighing_of
from converters import convert

pytestmark = pytest.mark.usefixtures("undrawn")
CLASSES = named("classification")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, reviews of which few are bad, and pairs of which one may follow from the other."""
    root = tmp_path_factory.mktemp("few")
    write_model(root / "model")
    rows = reviews(96)
    few = [row for number, row in enumerate(rows) if row[1] == "pos" or number % 6 == 1]
    write_csv(root / "full.csv", reviews(128))
    write_csv(root / "train.csv", few)
    write_csv(root / "dev.csv", [*reviews(20, seed=9), (few[0][0].upper() + " ", few[0][1])])
    pairs = [  # what is good follows from anything: that is soon learnt
        (text, f"{word} film", "entailment" if word in GOOD else "contradiction")
        for number, (text, _) in enumerate(reviews(48, seed=3))
        for word in (GOOD[number % 5], BAD[number % 5])
    ]
    write_csv(root / "nli.csv", pairs, ("premise", "hypothesis", "label"))
    return root


def finetune(world, out, *more, train="train.csv", dev="dev.csv"):
    data = ("--train", world / train, *(("--dev", world / dev) if dev else ()))
    settings = ("--batch-size", 8, "--max-length", 32, "--eval-every", 20, "--epochs", 6)
    words = ("finetune", "csv", "--model", world / "model", *data, "--out", out, *settings, *more)
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def entailment(world):
    columns = ("--text-column", "premise", "--text-pair-column", "hypothesis")
    finetune(world, world / "nli", *columns, "--lr", "1e-2", train="nli.csv", dev=None)
    return world / "nli"


@pytest.fixture(scope="module")
def trained(world):
    """A model whose encoder tells good from bad."""
    finetune(world, world / "trained", "--lr", "1e-2", "--epochs", 8, train="full.csv")
    return world / "trained"


@pytest.fixture(scope="module")
def pooled(world, trained):
    how = ("--freeze-encoder", "--pooling", "mean", "--lr", "5e-2", "--model", trained)
    assert "; 1 of 21 dev rows in train, too\n" in finetune(world, world / "pooled", *how).stdout
    return world / "pooled"


# Labels that nothing was trained on


def test_labels_are_those_of_the_zero_shot_pipeline_of_transformers(entailment, world, albert):
    texts = [text for text, _ in reviews(12, seed=21)]
    for template in ("{} film", "a {} story"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(entailment)
        theirs = transformers.pipeline("zero-shot-classification", str(entailment), tokenizer=tokenizer, device="cpu")
        for text in texts[:4]:
            wanted = theirs(text, ["great", "awful", "long"], hypothesis_template=template)
            words = ("predict", entailment, text, "--labels", "great,awful,long", "--template", template, "--json")
            code, out, err = albert(*words)
            assert code == 0, err
            found = json.loads(out)
            assert err == f"albert: zero-shot: {entailment} judges whether a text entails {template!r}\n"
            assert (found["prediction"], found["method"], found["template"]) == (
                wanted["labels"][0], "entailment", template,
            )  # fmt: skip
            probabilities = [found["probabilities"][label] for label in wanted["labels"]]
            assert probabilities == pytest.approx(wanted["scores"], abs=1e-5)


def test_a_file_is_labelled_by_entailment(entailment, world, albert, tmp_path):
    rows = reviews(8, seed=22)
    write_csv(tmp_path / "texts.csv", rows, ("text", "was"))
    words = ("predict", entailment, "--in", tmp_path / "texts.csv", "--labels", "great,awful", "--template", "{} film")
    code, _, err = albert(*words, "--out", tmp_path / "out.jsonl", "--probabilities")
    assert code == 0, err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["text"], row["was"]) for row in found] == rows
    assert list(found[0]) == ["text", "was", "prediction", "probability_great", "probability_awful"]
    for row in found:
        assert row["prediction"] == max(("great", "awful"), key=lambda label: row[f"probability_{label}"])
    alone = json.loads(albert("predict", entailment, rows[3][0], *words[4:], "--json")[1])["probabilities"]
    assert found[3]["probability_great"] == pytest.approx(alone["great"], abs=1e-5)
    assert all(row["probability_great"] + row["probability_awful"] == pytest.approx(1, abs=2e-6) for row in found)


def test_without_entailment_the_nearest_vector_decides(world, pooled, albert):
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.embedding.settings import Settings

    text, labels = "a lovely story", ["good film", "dull plot"]
    hypotheses = [f"This text is about {label}." for label in labels]
    for model in (world / "model", pooled, "built-in"):
        code, out, err = albert("predict", model, text, "--labels", ",".join(labels), "--json")
        assert code == 0, err
        found = json.loads(out)
        assert (
            "was not trained on entailment (MNLI), so a text's label is that whose 'This text is about {}.' has" in err
        )
        vectors = Embedder.from_pretrained(str(model), Settings(normalize=True)).embed([text, *hypotheses])
        wanted = dict(zip(labels, (vectors[1:] @ vectors[0]).tolist(), strict=True))
        assert found["method"] == "vectors"
        assert found["cosines"] == pytest.approx(wanted, abs=1e-5)
        assert found["prediction"] == max(wanted, key=wanted.get)
    code, out, _ = albert("predict", "built-in", "The cat sat.", "--labels", "animal,car", "--template", "{}")
    assert (code, out.splitlines()[0]) == (0, "animal")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["animal", "car"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a text", "--labels", "one"), "'one'; name two different labels or more, as a,b"),
        (("a text", "--labels", "a,,b"), "'a,,b'; name two different labels or more, as a,b"),
        (("a text", "--labels", "a,a"), "'a,a'; name two different labels or more, as a,b"),
        (("a text", "--labels", "a,b", "--template", "x"), "'x'; write {} once, where the label stands"),
        (("a", "b", "--labels", "a,b"), "--labels are for one text, not 2; for many use --in FILE"),
        (("a", "--template", "{}"), "--template has no effect without --labels; leave it out"),
        (("a", "--labels", "a,b", "--top", "2"), "--top has no effect with --labels; leave it out"),
    ],
)
def test_labels_that_are_none_are_refused(albert, words, message):
    code, out, err = albert("predict", "built-in", *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(message)


# The head on a mean


def test_a_head_on_the_mean_is_what_pytorch_computes(pooled):
    loaded = load_run(pooled)
    ids = torch.tensor([[2, 15, 20, 16, 3], [2, 20, 3, 0, 0]])
    mask = (ids != 0).long()
    bare = transformers.AlbertModel.from_pretrained(pooled, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = bare(ids, attention_mask=mask).last_hidden_state
        means = torch.stack([states[0].mean(0), states[1, :2].mean(0) * 2 / 3 + states[1, 2] / 3])
        wanted = nn.functional.linear(means, *(loaded.model.mlp.output.state_dict()[n] for n in ("weight", "bias")))
        assert torch.allclose(loaded.model(ids, mask), wanted, atol=1e-5)
        assert torch.allclose(loaded.model(ids[:1]), wanted[:1], atol=1e-5)


def test_the_encoder_stays_frozen_and_every_command_reads_the_head(trained, pooled, albert):
    before, after = convert.load(trained).tensors, convert.load(pooled).tensors
    same = [name for name in after if name in before]
    assert len(same) == len(after)
    assert all((before[name].read() == after[name].read()).all() for name in same)
    code, out, err = albert("evaluate", pooled, "--json")
    assert code == 0, err
    summary = json.loads((pooled / "summary.json").read_text())["dev"]
    found = json.loads(out)[str(pooled)]["dev"]
    assert (found["accuracy"], found["loss"]) == pytest.approx((summary["accuracy"], summary["loss"]), abs=1e-5)
    assert albert("predict", pooled, "a great film")[0] == 0


@pytest.mark.parametrize("target", ["hf", "model.npz", "tf --to tf", "torch --to torch"])
def test_a_format_without_a_place_for_the_head_is_named(pooled, refused, tmp_path, target):
    name, *more = target.split()
    called = more[-1] if more else {"hf": "safetensors"}.get(name, "npz")
    assert refused("convert", pooled, tmp_path / name, *more) == (
        f"{pooled}: its head reads the mean of the hidden states, for which {called} has no place; --to onnx keeps it, "
        "--to sentence-transformers writes the encoder with its mean"
    )
    assert not list(tmp_path.iterdir())


def test_the_encoder_goes_with_its_mean(pooled, albert, tmp_path):
    code, out, err = albert("convert", pooled, tmp_path / "st", "--to", "sentence-transformers")
    assert code == 0, err
    assert "mean pooling, which the run's head read" in " ".join(out.split())


def test_onnx_keeps_the_head(pooled, albert, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, out, err = albert("convert", pooled, tmp_path / "onnx", "--to", "onnx")
    assert code == 0, err
    assert "on the mean of the hidden states" in " ".join(out.split())
    session = onnxruntime.InferenceSession(tmp_path / "onnx/model.onnx")
    ids = np.array([[2, 15, 20, 16, 3], [2, 20, 3, 0, 0]])
    mask = (ids != 0).astype(np.int64)
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids})
    with torch.no_grad():
        wanted = load_run(pooled).model(torch.from_numpy(ids), torch.from_numpy(mask))
    assert np.abs(logits - wanted.numpy()).max() < 1e-4


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_relatives_have_a_head_on_the_mean_too(world, tmp_path, kind, albert):
    write_relative(tmp_path / "model", kind)
    words = ("finetune", "csv", "--model", tmp_path / "model", "--train", world / "train.csv", "--steps", 2)
    how = ("--pooling", "mean", "--head", "mlp:6", "--batch-size", 8, "--max-length", 32)
    assert albert(*words, *how, "--out", tmp_path / "run")[0] == 0
    loaded = load_run(tmp_path / "run")
    assert (len(loaded.model.mlp.hidden), loaded.info.pooling, loaded.model.encoder.pooler) == (1, "mean", None)


def test_a_mean_is_for_labels_of_texts(world, tmp_path, refused):
    (tmp_path / "train.jsonl").write_text('{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}\n' * 3)
    words = ("finetune", "ner", "--train", tmp_path / "train.jsonl", "--model", world / "model", "--pooling", "mean")
    assert refused(*words, "--out", tmp_path / "run") == (
        "--pooling is for labels of texts; ner trains a linear head on every token; leave --pooling out"
    )


# Weights of labels


def test_weights_and_smoothing_are_those_of_pytorch():
    chance = torch.Generator().manual_seed(1)
    for smoothing in (0.0, 0.1):
        logits = torch.randn(12, 3, generator=chance, requires_grad=True)
        targets = torch.randint(0, 3, (12,), generator=chance)
        weighing = Weighing((0.5, 1.0, 4.0), smoothing)
        loss = CLASSES.loss(logits, targets, None, weighing) / CLASSES.units(targets, weighing)
        wanted = nn.CrossEntropyLoss(torch.tensor([0.5, 1.0, 4.0]), label_smoothing=smoothing)(logits, targets)
        assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)
        ours, theirs = (torch.autograd.grad(item, logits, retain_graph=True)[0] for item in (loss, wanted))
        assert torch.allclose(ours, theirs, atol=1e-7)
    tags = torch.tensor([[0, NO_LABEL, 2], [1, 1, NO_LABEL]])
    tokens = torch.randn(2, 3, 3, generator=chance)
    problem = named("token_classification")
    loss = problem.loss(tokens, tags, None, weighing) / problem.units(tags, weighing)
    wanted = nn.CrossEntropyLoss(torch.tensor([0.5, 1.0, 4.0]), label_smoothing=0.1)(
        tokens.flatten(0, 1), tags.flatten()
    )
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [1] * 2 + [2] * 3
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = weighing_of("balanced", None, ["a", "b", "c"], [7, 2, 3], "csv")
    assert found.weights == pytest.approx(wanted)
    assert weighing_of("balanced", None, ["a", "b", "c"], [4, 0, 4], "csv").weights == (1.0, 1.0, 1.0)
    assert named_weights("a,b=2, c = .5") == {"a,b": 2.0, "c": 0.5}
    assert [named_weights(text) for text in ("a", "a=0", "a=1,a=2", "a=nan", "a=1,b", "=1", "")] == [None] * 7


def test_weights_are_shown_kept_and_change_what_is_learnt(world, tmp_path):
    out = finetune(world, tmp_path / "run", "--lr", "1e-2", "--class-weights", "balanced").stdout
    plan = next(line for line in out.splitlines() if "of warm-up" in line)
    assert "; labels: neg 16, pos 48; weights: neg 2, pos 0.6667; 1 of 21 dev rows in train, too" in plan
    said = load_toml(tmp_path / "run/run.toml")
    assert said["settings"]["class_weights"] == "balanced"
    assert said["data"]["train"]["label_weights"] == pytest.approx({"neg": 2, "pos": 2 / 3})
    assert said["data"]["dev"]["in_train"] == 1
    finetune(world, tmp_path / "plain", "--lr", "1e-2")
    finetune(world, tmp_path / "smooth", "--lr", "1e-2", "--label-smoothing", "0.2")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "plain", "smooth")]
    assert len(set(weights)) == 3
    finetune(world, tmp_path / "same", "--lr", "1e-2", "--class-weights", "neg=1")
    assert (tmp_path / "same/model.safetensors").read_bytes() == weights[1]


def test_weights_that_fit_no_label_are_refused(world, tmp_path, albert, refused):
    words = ("finetune", "csv", "--train", world / "train.csv", "--model", world / "model", "--out", tmp_path / "run")
    assert refused(*words, "--class-weights", "bad=2") == "--class-weights names 'bad'; the labels are neg, pos"
    assert refused(*words, "--class-weights", "neg") == (
        "class_weights is 'neg', not 'balanced' or weights above 0 by label, as a=1,b=3"
    )
    write_csv(tmp_path / "numbers.csv", [(text, str(number % 5)) for number, (text, _) in enumerate(reviews(20))])
    numbers = ("finetune", "csv", "--train", tmp_path / "numbers.csv", "--regression", "--model", world / "model")
    assert refused(*numbers, "--out", tmp_path / "run", "--label-smoothing", "0.1") == (
        "--label-smoothing: for one label of several a row, or a word, which csv has not; leave it out"
    )
    assert not (tmp_path / "run").exists()


# Several learning rates


def test_rates_are_swept_with_every_seed_and_the_best_is_marked(world, tmp_path):
    words = ("--lr", "1e-5,2e-2", "--seeds", "1,2", "--epochs", "2")
    result = finetune(world, tmp_path / "runs", *words)
    names = ["lr-0.02-seed-1", "lr-0.02-seed-2", "lr-1e-05-seed-1", "lr-1e-05-seed-2"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()) == names
    summary = json.loads((tmp_path / "runs/summary.json").read_text())
    assert (summary["seeds"], summary["selection_metric"]) == ([1, 2], "accuracy")
    means = {one["learning_rate"]: one["metrics"] for one in summary["sweep"]}
    best = max(means, key=lambda rate: (means[rate]["accuracy"]["mean"], -means[rate]["loss"]["mean"]))
    assert summary["best_learning_rate"] == best
    for one, rate in zip(summary["sweep"], ("1e-05", "0.02"), strict=True):
        runs = [json.loads((tmp_path / f"runs/lr-{rate}-seed-{seed}/summary.json").read_text()) for seed in (1, 2)]
        values = [run["dev"]["accuracy"] for run in runs]
        assert one["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
        assert one["metrics"]["accuracy"]["spread"] == pytest.approx(np.std(values, ddof=1))
    *_, header, low, high, last = result.stdout.splitlines()
    assert header.split() == ["lr", "loss", "accuracy", "macro_f1"]
    assert (low.split()[0], high.split()[0]) == ("1e-05", "0.02")
    assert [line.split()[-1] == "best" for line in (low, high)] == [best == 1e-5, best == 0.02]
    assert low.count("±") == high.count("±") == 3
    assert last.startswith(f"best: lr {best:g}, by accuracy; 4 runs in {tmp_path / 'runs'}")
    report = (tmp_path / "runs/report.md").read_text()
    assert "| [lr 1e-05-seed-1](lr-1e-05-seed-1/report.md) |" in report
    alone = finetune(world, tmp_path / "alone", "--lr", "2e-2", "--seed", "2", "--epochs", "2")
    assert "±" not in alone.stdout
    model = "model.safetensors"
    assert (tmp_path / "alone" / model).read_bytes() == (tmp_path / "runs/lr-0.02-seed-2" / model).read_bytes()
    again = finetune(world, tmp_path / "runs", *words, "--resume", "--json")
    assert json.loads(again.stdout)["sweep"] == summary["sweep"]


def test_rates_of_a_frozen_encoder_share_its_features(world, tmp_path):
    words = ("--freeze-encoder", "--pooling", "mean", "--lr", "1e-3,1e-1", "--epochs", "1")
    result = finetune(world, tmp_path / "runs", *words, "--json")
    found = json.loads(result.stdout)
    assert [one["learning_rate"] for one in found["sweep"]] == [1e-3, 1e-1]
    assert found["seeds"] == [42]
    assert not list((tmp_path / "runs").glob("**/features-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("csv", "--lr", "1e-3,1e-3"), "Invalid value for '--lr': 1e-3,1e-3 names one rate twice"),
        (("csv", "--lr", "1e-3,x"), "Invalid value for '--lr': 'x' is not a valid float."),
        (("csv", "--lr", "1e-3,0"), "Invalid value for '--lr': 0.0 is not above 0"),
        (("glue", "--lr", "1e-3,1e-4"), "Invalid value: --lr takes one rate on glue, which is several tasks"),
        (
            ("csv", "--lr", "1e-3,1e-4", "--compare", "x"),
            "Invalid value: --compare has no effect with several rates of --lr; leave it out",
        ),
    ],
)
def test_rates_that_are_none_are_refused(albert, words, message):
    code, out, err = albert("finetune", *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"Error: {message}"
