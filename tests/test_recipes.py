"""The published recipes of every family, and the optimizer that follows from one."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from tuning import config, reviews, write_csv, write_model, write_relative, write_squad

from albert_cli import tasks
from albert_cli.errors import RunError, TrainingError
from albert_cli.model.task_heads import text_classifier
from albert_cli.runs.optimizer import UncorrectedAdamW
from albert_cli.tasks.recipes import GLUE, adapted
from albert_cli.training import optimizer, session
from albert_cli.training.run_directory import load_run
from albert_cli.training.settings import Plan, Settings, read_toml, resolve
from converters.families import presets
from converters.initialize import initialize
from converters.tokenizers.files import TokenizerFiles

pytestmark = pytest.mark.usefixtures("undrawn")


def base(preset, heads=None):
    return initialize(presets()[preset], TokenizerFiles(), seed=1, heads=heads)


def recipe(preset, task, heads=None):
    return adapted(tasks.named(task), base(preset, heads)).recipe


# learning rate, batch, epochs, share of warm-up, decay, second beta, clipping, bias correction, layer decay, length
@pytest.mark.parametrize(
    ("preset", "task", "wanted"),
    [
        ("bert-base", "mrpc", (2e-5, 32, 3, 0.1, 0.01, 0.999, 1, False, 1, 128)),
        ("bert-base", "csv", (2e-5, 32, 3, 0.1, 0.01, 0.999, 1, False, 1, 512)),
        ("bert-base", "squad", (3e-5, 12, 2, 0.1, 0.01, 0.999, 1, False, 1, 384)),
        ("bert-large", "squad", (3e-5, 24, 2, 0.1, 0.01, 0.999, 1, False, 1, 384)),
        ("bert-medium", "sst2", (1e-4, 32, 4, 0.1, 0.01, 0.999, 1, False, 1, 128)),
        ("bert-tiny", "sst2", (3e-4, 32, 4, 0.1, 0.01, 0.999, 1, False, 1, 128)),
        ("roberta-large", "wnli", (1e-5, 32, 10, 0.06, 0.1, 0.98, 0, True, 1, 512)),
        ("roberta-base", "squad", (1.5e-5, 48, 2, 0.06, 0.01, 0.98, 0, True, 1, 512)),
        ("bert-base", "swag", (2e-5, 16, 3, 0.1, 0.01, 0.999, 1, False, 1, 128)),
        ("roberta-large", "race", (1e-5, 16, 4, 0.06, 0.1, 0.98, 0, True, 1, 512)),
        ("electra-small", "mnli", (1e-4, 32, 3, 0.1, 0.01, 0.999, 1, False, 0.8, 128)),
        ("electra-base", "rte", (1e-4, 32, 10, 0.1, 0.01, 0.999, 1, False, 0.8, 128)),
        ("electra-base", "squad", (1e-4, 32, 2, 0.1, 0.01, 0.999, 1, False, 0.8, 512)),
        ("electra-large", "stsb", (5e-5, 32, 10, 0.1, 0.01, 0.999, 1, False, 0.9, 128)),
    ],
)
def test_recipes_are_the_published_ones(preset, task, wanted):
    found = recipe(preset, task)
    warmup = round(found.warmup_steps / found.steps, 3)
    assert (
        found.learning_rate, found.batch_size, found.epochs, warmup, found.weight_decay, found.beta2, found.clip,
        found.bias_correction, found.layer_decay, found.max_length,
    ) == wanted  # fmt: skip


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("rte", (2e-5, 16, 2036, 122)),
        ("mrpc", (1e-5, 16, 2296, 137)),
        ("cola", (1e-5, 16, 5336, 320)),
        ("stsb", (2e-5, 16, 3598, 214)),
        ("sst2", (1e-5, 32, 20935, 1256)),
        ("qnli", (1e-5, 32, 33112, 1986)),
        ("mnli", (1e-5, 32, 123873, 7432)),
        ("qqp", (1e-5, 32, 113272, 28318)),
    ],
)
def test_a_roberta_takes_the_steps_of_fairseqs_table(task, values):
    found = recipe("roberta-base", task)
    settings = resolve(dataclasses.replace(tasks.named(task), recipe=found), {"model": "m"})
    plan = Plan.of(settings, found, found.train_rows, 1)
    assert (settings.learning_rate, settings.batch_size, plan.steps, plan.warmup_steps) == values
    assert (settings.weight_decay, settings.beta2, settings.clip) == (0.1, 0.98, 0.0)


def test_a_spanbert_is_a_bert_without_pooler_and_heads_or_with_its_own():
    for heads in ((), ("sbo", "mlm")):
        assert recipe("bert-base-cased", "squad", heads).epochs == 4
        assert recipe("bert-base-cased", "rte", heads).epochs == 10
        assert recipe("bert-large-cased", "squad", heads).max_length == 512
        assert recipe("bert-base-cased", "cola", heads).model == "SpanBERT"
    for heads in (("pooler",), ("mlm",), ("pooler", "mlm", "nsp")):
        assert recipe("bert-base-cased", "cola", heads).model == "BERT"


@pytest.mark.parametrize("name", tasks.names())
def test_an_albert_keeps_the_recipe_of_the_task(name):
    task = tasks.named(name)
    assert adapted(task, base("tiny")) is task
    assert {item.name for item in map(tasks.named, tasks.names())} >= {*GLUE}
    for preset in ("bert-base", "roberta-base", "electra-base"):
        found = adapted(task, base(preset))
        assert (found.recipe.name, found.recipe.eval_every) == (task.recipe.name, task.recipe.eval_every)
        assert (found.regression is None) == (task.regression is None)
        assert (found.no_answer_recipe is None) == (task.no_answer_recipe is None)


def settings_of(**changes):
    return Settings(task="csv", model="", learning_rate=1e-3, batch_size=4, max_length=8, **changes)


def test_each_layer_has_the_rate_that_google_gives_it():
    """google-research/electra, written out: depth 0 for embeddings, N + 1 for layer N, L + 2 for the head."""
    shape = config(family="electra", num_hidden_layers=3, num_hidden_groups=3, embedding_size=8)
    model = text_classifier(shape, 2)
    rated = optimizer.make(model, settings_of(layer_decay=0.8))
    rated.set_rate(1e-3)
    names = {id(item): name for name, item in model.named_parameters()}
    seen = {}
    for group in rated.optimizer.param_groups:
        for item in group["params"]:
            name = names[id(item)]
            layer = re.search(r"layers\.(\d)", name)
            depth = int(layer[1]) + 1 if layer else 0 if "embeddings" in name or "projection" in name else 5
            assert group["lr"] == pytest.approx(1e-3 * 0.8 ** (5 - depth)), name
            assert group["weight_decay"] == (0 if "bias" in name or "norm" in name else 0.01), name
            seen[name] = depth
    assert seen.keys() == dict(model.named_parameters()).keys()
    assert set(seen.values()) == {0, 1, 2, 3, 5}


def test_one_rate_gives_the_groups_of_before():
    model = text_classifier(config(), 2)
    groups = optimizer.make(model, settings_of()).optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    names = {id(item): name for name, item in model.named_parameters()}
    listed = [name for name in names.values() if not re.search("norm|bias", name)]
    assert [names[id(item)] for item in groups[0]["params"]] == listed
    assert {group["fused"] for group in groups} == {True}


def test_adam_without_correction_is_googles():
    """bert optimization.py, AdamWeightDecayOptimizer, in float64."""
    random = np.random.default_rng(2)
    start, steps = random.normal(size=(5, 3)), random.normal(size=(7, 5, 3))
    parameter = torch.nn.Parameter(torch.tensor(start))
    ours = UncorrectedAdamW([{"params": [parameter], "weight_decay": 0.01}], lr=1e-2, betas=(0.9, 0.98))
    value, mean, square = start.copy(), np.zeros((5, 3)), np.zeros((5, 3))
    for gradient in steps:
        parameter.grad = torch.tensor(gradient)
        ours.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.98 * square + 0.02 * gradient**2
        value -= 1e-2 * (mean / (np.sqrt(square) + 1e-6) + 0.01 * value)
    assert np.abs(parameter.detach().numpy() - value).max() < 1e-12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    write_relative(root / "electra", "electra")
    write_model(root / "albert")
    write_csv(root / "train.csv", reviews(24))
    write_csv(root / "dev.csv", reviews(8, seed=9))
    return root


def words(world, model, out, *more):
    data = ("--train", world / "train.csv", "--dev", world / "dev.csv", "--max-length", 32)
    return ("finetune", "csv", "--model", world / model, *data, "--out", out, *more)


def test_the_recipe_is_shown_and_written_and_options_override_it(world, albert, tmp_path):
    code, out, _ = albert(*words(world, "electra", tmp_path / "run", "--epochs", 1))
    assert code == 0
    assert out.splitlines()[0].endswith("; hyper-parameters of ELECTRA")
    assert "Those that were not given are the recipe of ELECTRA." in (tmp_path / "run/report.md").read_text()
    kept = read_toml(tmp_path / "run/run.toml", of_run=True)
    names = ("learning_rate", "batch_size", "weight_decay", "layer_decay", "beta2", "bias_correction", "clip")
    assert [kept[name] for name in names] == [1e-4, 32, 0.01, 0.8, 0.999, False, 1.0]
    given = ("--weight-decay", 0.2, "--layer-decay", 1, "--beta2", 0.9, "--bias-correction", "--clip", 0, "--lr", 1e-3)
    assert albert(*words(world, "electra", tmp_path / "own", "--epochs", 1, *given))[0] == 0
    kept = read_toml(tmp_path / "own/run.toml", of_run=True)
    assert [kept[name] for name in names] == [1e-3, 32, 0.2, 1.0, 0.9, True, 0.0]
    code, out, _ = albert(*words(world, "albert", tmp_path / "albert", "--epochs", 1))
    assert code == 0
    assert "hyper-parameters" not in out + (tmp_path / "albert/report.md").read_text()


def test_a_resume_refuses_another_optimizer_and_takes_a_run_of_before(world, tmp_path):
    given = {"model": str(world / "albert"), "train": str(world / "train.csv"), "dev": str(world / "dev.csv")}
    given |= {"steps": 4, "eval_every": 2, "max_length": 32, "learning_rate": 1e-3, "batch_size": 8}
    how = {"config": None, "seeds": [], "compare": [], "force": False}

    class Stopped(BaseException):
        pass

    def report(event, seen=[]):  # noqa: B006 (counts the calls)
        seen.append(event)
        if len(seen) == 8:
            raise Stopped

    with pytest.raises(Stopped):
        session.one("csv", given, tmp_path / "run", report=report, resume=False, **how)
    toml = tmp_path / "run/run.toml"
    lines = toml.read_text().splitlines(keepends=True)
    before = [line for line in lines if line.partition(" =")[0] not in ("clip", "beta2", "bias_correction")]
    before = [line for line in before if line.partition(" =")[0] not in ("weight_decay", "layer_decay")]
    before = [line for line in before if not line.startswith("both_orders")]
    assert len(before) == len(lines) - 6
    toml.write_text("".join(before))
    with pytest.raises(RunError, match=r"cannot resume: beta2 was 0\.999, now 0\.9; restore it"):
        session.one("csv", {"beta2": 0.9}, tmp_path / "run", report=lambda event: None, resume=True, **how)
    session.one("csv", {}, tmp_path / "run", report=lambda event: None, resume=True, **how)
    session.one("csv", given, tmp_path / "whole", report=lambda event: None, resume=False, **how)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert one == other


def test_what_no_optimizer_can_have(world, refused, tmp_path):
    with pytest.raises(TrainingError) as caught:
        settings_of(weight_decay=1.0, layer_decay=0.0, beta2=1.0, clip=float("nan"))
    assert str(caught.value) == (
        "weight_decay is 1.0, not from 0 to below 1; layer_decay is 0.0, not above 0 and at most 1; "
        "beta2 is 1.0, not from 0 to below 1; clip is nan, not at least 0"
    )
    assert refused(*words(world, "albert", tmp_path / "run", "--layer-decay", 0.8)) == (
        f"--layer-decay 0.8 gives each layer a rate of its own, but in {world / 'albert'} they have their weights in "
        "common; leave it out"
    )


def test_both_orders_of_a_pair_are_trained_on(world, albert, tmp_path, refused):
    assert [name for name in GLUE if recipe("electra-base", name).both_orders] == ["MRPC", "STS-B", "QQP"]
    path = write_csv(
        tmp_path / "pairs.csv",
        [(f"film {n}", f"the {n}", "pn"[n % 2]) for n in range(6)],
        header=("text", "b", "label"),
    )
    words = ("finetune", "csv", "--model", world / "albert", "--train", path, "--dev", path, "--steps", 1)
    more = ("--text-pair-column", "b", "--out", tmp_path / "run", "--both-orders")
    code, out, _ = albert(*words, *more, "--max-length", 32)
    assert code == 0
    assert out.startswith("12 rows, 1 steps")
    examples = tasks.named("csv").layout.read_file(path, settings_of(text_pair_column="b").sources)
    both = examples.in_both_orders()
    assert [*zip(both.texts, both.pairs, both.labels, strict=True)][3::6] == [
        ("film 3", "the 3", "n"),
        ("the 3", "film 3", "n"),
    ]
    single = ("finetune", "csv", "--model", world / "albert", "--train", world / "train.csv", "--out", tmp_path / "x")
    assert refused(*single, "--both-orders", "--max-length", 32) == (
        f"{world / 'train.csv'}: has single texts, which have no other order; leave --both-orders out"
    )


def test_scores_of_a_known_range_are_divided_as_the_recipe_says(tmp_path):
    """STS-B of an ELECTRA: trained on labels from 0 to 1, and the saved model gives 0 to 5."""
    write_relative(tmp_path / "m", "electra")
    data = tmp_path / "glue/STS-B"
    data.mkdir(parents=True)
    rows = "".join(f"{n}\ta good film\tthe plot {n}\t{n % 6}\n" for n in range(12))
    for name in ("train", "dev"):
        (data / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tscore\n" + rows)
    given = {"model": str(tmp_path / "m"), "data": str(tmp_path / "glue"), "steps": 2, "max_length": 32}
    how = {"config": None, "seeds": [], "compare": [], "force": False, "resume": False, "report": lambda event: None}
    session.one("stsb", given, tmp_path / "run", **how)
    info = load_run(tmp_path / "run").info
    assert (info.scale.mean, info.scale.spread) == (0.0, 5.0)
    assert "rows = 24\n" in (tmp_path / "run/run.toml").read_text()  # both orders of 12 pairs


@pytest.mark.parametrize("impossible", [True, False])
def test_questions_without_an_answer_keep_their_name(tmp_path, impossible):
    write_relative(tmp_path / "m", "roberta")
    path = write_squad(tmp_path / "train.json", count=6, impossible=impossible)
    given = {"train": str(path), "model": str(tmp_path / "m")}
    found = session._settings("squad", given, tmp_path / "o", config=None, resume=False)
    assert (found.learning_rate, found.batch_size, found.max_length) == (1.5e-5, 48, 512)
