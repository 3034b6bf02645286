"""finetune sts and pairs: vectors that learn, by the library's losses, in a directory that the library loads."""

import json
import random

import numpy as np
import pytest
import torch
from kinds import FILLERS, write_model
from tuning import BAD, GOOD, write_csv

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.pooling import pool
from albert_cli.errors import DataError, TrainingError
from albert_cli.runs.events import FineTuningPlan, silent
from albert_cli.training import problems, session
from albert_cli.training.run_directory import load_run

# Loading models through the libraries leaves warnings of theirs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("undrawn")]
FIXED = {"batch_size": 16, "max_length": 24, "epochs": 6}
RATES = {"sts": 3e-2, "pairs": 3e-3}


def run(task, out, given, report=silent, **more):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False} | more
    return session.one(task, given, out, report=report, **choices)


def text(chance, *words):
    found = [*chance.choices(FILLERS, k=chance.randint(0, 3)), *words]
    chance.shuffle(found)
    return " ".join(found)


def scored(count, seed):
    """Pairs of reviews; the score is high where both praise, or both do not."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        first, second = chance.choice((GOOD, BAD)), chance.choice((GOOD, BAD))
        score = chance.uniform(3, 5) if first == second else chance.uniform(0, 2)
        rows.append((text(chance, chance.choice(first)), text(chance, chance.choice(second)), f"{score:.2f}"))
    return rows


OPPOSITE = dict(zip(GOOD, BAD, strict=True))


def answers(count, seed):
    """Queries with a good word; to each belongs a text with its opposite."""
    chance = random.Random(seed)
    words = [chance.choice(GOOD) for _ in range(count)]
    return [(text(chance, word), text(chance, OPPOSITE[word])) for word in words]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, and tables of both kinds."""
    root = tmp_path_factory.mktemp("bi-encoder")
    write_model(root / "model")
    for name, count in (("train", 192), ("dev", 40)):
        write_csv(root / f"{name}.csv", scored(count, len(name)), ("sentence1", "sentence2", "score"))
        write_csv(root / f"pairs-{name}.csv", answers(count, len(name)), ("query", "positive"))
    return root


def given_of(world, task, **more):
    before = "" if task == "sts" else "pairs-"
    files = {name: str(world / f"{before}{name}.csv") for name in ("train", "dev")}
    return {"model": str(world / "model"), **files, **FIXED, "learning_rate": RATES[task]} | more


@pytest.fixture(scope="module")
def trained(world):
    """A run of each task, and its summary."""
    patch = pytest.MonkeyPatch()
    from matplotlib.figure import Figure

    patch.setattr(Figure, "savefig", lambda self, target, **options: target.write_bytes(b"not drawn"))
    made = {task: run(task, world / f"run-{task}", given_of(world, task)) for task in ("sts", "pairs")}
    patch.undo()
    return made


def library(directory, texts):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(directory), device="cpu").encode(texts, show_progress_bar=False)


@pytest.mark.parametrize("task", ["sts", "pairs"])
def test_the_library_loads_a_run_with_equal_vectors(world, trained, task):
    texts = ["a good film", "", "the plot was very long and the actor dull", *[pair[0] for pair in answers(5, 3)]]
    ours = Embedder.from_pretrained(str(world / f"run-{task}"), threads=1).embed(texts)
    assert np.abs(library(world / f"run-{task}", texts) - ours).max() < 1e-5
    base = Embedder.from_pretrained(str(world / "model"), threads=1).embed(texts)
    assert np.abs(ours - base).max() > 1e-2  # it has learnt


@pytest.mark.parametrize("task", ["sts", "pairs"])
def test_the_card_of_a_run_is_that_of_a_model_of_sentences(world, trained, task):
    from huggingface_hub import ModelCard

    card = ModelCard.load(world / f"run-{task}" / "README.md")
    found = card.data.to_dict()
    assert (found["library_name"], found["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    values = {item.metric_name: item.metric_value for item in card.data.eval_results}
    dev = trained[task]["dev"]
    assert values == pytest.approx({name: value for name, value in dev.items() if name != "loss"}, abs=1e-6)
    assert "| pooling | `mean` |" in card.text
    assert 'model = SentenceTransformer(".")' in card.text


def test_cosines_that_follow_scores_are_learnt(world, trained, albert):
    def spearman(model):
        code, out, err = albert("evaluate", "--sts", world / "dev.csv", "--model", model, "--json", "--threads", 1)
        assert code == 0, err
        return json.loads(out)["spearman"]

    found = spearman(world / "run-sts")
    assert found == pytest.approx(trained["sts"]["dev"]["spearman"], abs=1e-3)
    assert found > 0.65 > spearman(world / "model") + 0.2
    code, out, err = albert("evaluate", world / "run-sts", "--json", "--threads", 1)
    assert code == 0, err
    measured = json.loads(out)[str(world / "run-sts")]["dev"]
    assert measured == pytest.approx(trained["sts"]["dev"], abs=1e-4)


def test_a_text_is_found_by_its_query_once_learnt(world, trained, albert):
    def mrr(model):
        words = ("evaluate", "--retrieval", world / "pairs-dev.csv", "--model", model, "--json", "--threads", 1)
        code, out, err = albert(*words)
        assert code == 0, err
        return json.loads(out)["mrr"]

    found = mrr(world / "run-pairs")
    assert found == pytest.approx(trained["pairs"]["dev"]["mrr"], abs=1e-3)
    assert found > mrr(world / "model") + 0.05


def test_what_a_run_says(world, trained, albert):
    code, out, err = albert("predict", world / "run-sts", "a good film", "a great film", "--json", "--threads", 1)
    assert code == 0, err
    a, b = Embedder.from_pretrained(str(world / "run-sts"), threads=1).embed(["a good film", "a great film"])
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert json.loads(out)["prediction"] == pytest.approx(cosine, abs=1e-5)
    code, out, err = albert("predict", world / "run-sts", "--in", world / "dev.csv", "--json", "--threads", 1)
    assert (code, len(json.loads(out))) == (0, 40)
    rows = (world / "run-sts/dev_predictions.csv").read_text().splitlines()
    assert rows[0] == "index,text,pair,label,prediction,rank_error"
    rows = (world / "run-pairs/dev_predictions.csv").read_text().splitlines()
    assert rows[0] == "index,text,pair,prediction,rank,nearest,exact"
    assert "| 0 |" in (world / "run-pairs/report.md").read_text()


def test_a_model_of_pairs_takes_no_single_text(world, trained, refused):
    asked = refused("predict", world / "run-sts", "a good film")
    assert asked == f"{world / 'run-sts'}: its model compares two texts; give it a second one"


@pytest.mark.parametrize("task", ["sts", "pairs"])
def test_a_resumed_run_ends_with_the_same_bits(world, trained, tmp_path, task):
    seen = []

    def report(event):
        seen.append(event)
        if len(seen) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task, tmp_path / "cut", given_of(world, task), report=report)
    run(task, tmp_path / "cut", {}, resume=True)
    for name in ("model.safetensors", "summary.json", "dev_predictions.csv", "modules.json", "1_Pooling/config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (world / f"run-{task}" / name).read_bytes(), name


def test_regression_of_the_cosine(world, tmp_path):
    seen = []
    summary = run(
        "sts",
        tmp_path / "run",
        given_of(world, "sts", loss="cosine", grad_accum=2, learning_rate=1e-2),
        report=seen.append,
    )
    assert summary["dev"]["spearman"] > 0.65
    plan = next(event for event in seen if isinstance(event, FineTuningPlan))
    assert "; loss cosine; " in plan.taken
    loaded = load_run(tmp_path / "run")
    scores = [float(row[2]) for row in scored(192, 5)]
    assert loaded.info.scores == (min(scores), max(scores)) == loaded.problem.scores
    assert summary["dev"]["loss"] < 0.1  # of scores brought to 0 and 1


def test_bf16_trains_too(world, tmp_path):
    summary = run("sts", tmp_path / "run", given_of(world, "sts", precision="bf16"))
    assert summary["dev"]["spearman"] > 0.6


@pytest.mark.parametrize(("pooling", "seed"), [("cls", 0), ("max+mean", 1), ("lasttoken", 2)])
def test_poolings_are_trained_as_they_are_computed(world, tmp_path, pooling, seed):
    """The dev loss of training, by a padded batch, is that of vectors of albert embed."""
    out = tmp_path / "run"
    summary = run("sts", out, given_of(world, "sts", pooling=pooling, steps=2, epochs=None, loss="cosine", seed=seed))
    embedder = Embedder.from_pretrained(str(out), threads=1)
    assert embedder.settings.pooling == pooling
    rows = scored(40, 3)
    a, b = (embedder.embed([row[place] for row in rows]) for place in (0, 1))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    low, high = load_run(out).info.scores
    wanted = (np.array([float(row[2]) for row in rows]) - low) / (high - low)
    assert summary["dev"]["loss"] == pytest.approx(float(np.mean((cosines - wanted) ** 2)), abs=1e-5)


def test_pooling_can_be_trained_through():
    random_states = torch.randn(7, 4, requires_grad=True)
    from albert_cli.embedding.pooling import pooled

    for how in ("mean", "cls", "max", "weighted", "lasttoken", "mean_sqrt_len_tokens"):
        found = pooled(random_states, np.array([0, 3, 7]), how)
        assert torch.equal(found, pool(random_states, np.array([0, 3, 7]), how))
        (gradient,) = torch.autograd.grad(found.square().sum(), random_states)
        assert gradient.abs().sum() > 0


# --- Losses


def test_losses_are_those_of_the_library():
    from sentence_transformers.sentence_transformer import losses

    torch.manual_seed(1)
    vectors, scores = torch.randn(12, 2, 8), torch.randint(0, 4, (12,)).float()
    sides = [vectors[:, 0], vectors[:, 1]]
    problem = problems.named("scored_pairs")
    model = torch.nn.Identity()
    theirs = losses.CoSENTLoss(model, scale=7.0).compute_loss_from_embeddings(sides, scores)
    settings = {"batch_size": 12, "loss": "cosent", "scale": 7.0}
    info = problems.RunInfo("sts", "scored_pairs", (), 16, settings=settings, scores=(0.0, 3.0))
    assert float(problem.tuned(info).loss(vectors, scores)) / 12 == pytest.approx(float(theirs), rel=1e-5)
    theirs = losses.CosineSimilarityLoss(model).compute_loss_from_embeddings(sides, scores / 3)
    info = problems.RunInfo("sts", "scored_pairs", (), 16, settings=settings | {"loss": "cosine"}, scores=(0.0, 3.0))
    assert float(problem.tuned(info).loss(vectors, scores)) / 12 == pytest.approx(float(theirs), rel=1e-5)
    vectors, numbers = torch.randn(6, 4, 8), torch.arange(24).view(6, 4)
    theirs = losses.MultipleNegativesRankingLoss(model, scale=20.0).compute_loss_from_embeddings(
        list(vectors.unbind(1)), None
    )
    info = problems.RunInfo("pairs", "positive_pairs", (), 16, settings={"batch_size": 6})
    problem = problems.named("positive_pairs").tuned(info)
    assert float(problem.loss(vectors, numbers)) / 6 == pytest.approx(float(theirs), rel=1e-5)


def test_what_belongs_to_a_query_is_no_negative():
    """The same text twice, another text of the same query, the query itself, and no text at all."""
    info = problems.RunInfo("pairs", "positive_pairs", (), 16, settings={"batch_size": 3})
    problem = problems.named("positive_pairs").tuned(info)
    torch.manual_seed(0)
    vectors = torch.randn(3, 2, 8)
    alone = sum(float(problem.loss(vectors[[row]], torch.tensor([[0, 1]]))) for row in range(3))
    assert alone == 0
    for numbers in ([[0, 1], [2, 1], [3, 1]], [[0, 1], [0, 2], [0, 3]], [[0, 1], [1, 0], [1, 0]]):
        assert float(problem.loss(vectors, torch.tensor(numbers))) == pytest.approx(0, abs=1e-6)
    wide = torch.cat([vectors, torch.randn(3, 1, 8)], 1)
    numbers = torch.tensor([[0, 1], [2, 3], [4, 5]])
    padded = torch.nn.functional.pad(numbers, (0, 1), value=-1)
    assert float(problem.loss(wide, padded)) == pytest.approx(float(problem.loss(vectors, numbers)), rel=1e-6)


def test_negatives_of_one_s_own(world, tmp_path):
    rows = [
        (query, own, f"[{json.dumps(own + ' film')}]" if n % 3 else "") for n, (query, own) in enumerate(answers(24, 1))
    ]
    train = write_csv(tmp_path / "n.csv", rows, ("q", "p", "n"))
    columns = {"text_column": "q", "text_pair_column": "p", "label_column": "n"}
    seen = []
    given = given_of(world, "pairs", train=str(train), dev=str(train), steps=3, epochs=None) | columns
    summary = run("pairs", tmp_path / "run", given, report=seen.append)
    plan = next(event for event in seen if isinstance(event, FineTuningPlan))
    said = f"{len({row[0] for row in rows})} queries with 24 texts and 16 negatives; scale 20"
    assert plan.taken == f"{said}; 24 of 24 dev rows in train, too"
    assert 0 < summary["dev"]["mrr"] <= 1


# --- Models to start from


def test_a_sentence_transformers_model_keeps_its_files(world, albert, tmp_path):
    words = ("--to", "sentence-transformers", "--pooling", "max", "--normalize", "--max-length", 16)
    assert albert("convert", world / "model", tmp_path / "st", *words)[0] == 0
    run("sts", tmp_path / "run", given_of(world, "sts", model=str(tmp_path / "st"), steps=2, epochs=None))
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "st" / name).read_bytes()
    loaded = load_run(tmp_path / "run")
    assert (loaded.info.settings["pooling"], loaded.info.max_length) == ("max", 16)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"grad_accum": 2}, "--loss cosent compares the pairs of a batch with one another: its parts would train"),
        ({"head": "mlp:4"}, "vectors have no head; leave --head out"),
        ({"freeze_encoder": True}, "--freeze-encoder would leave nothing to train"),
        ({"both_orders": True}, "--both-orders trains nothing else: a cosine has no order; leave it out"),
        ({"pooling": "pooler"}, "--pooling pooler: a Sentence-Transformers directory has but cls, max, mean"),
    ],
)
def test_what_vectors_have_no_use_for_is_refused(world, tmp_path, more, fault):
    with pytest.raises(TrainingError, match="") as refused:
        run("sts", tmp_path / "run", given_of(world, "sts", **more))
    assert fault in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "header", "rows", "fault"),
    [
        (
            "sts",
            ("sentence1", "sentence2", "score"),
            [("a", "b", "1"), ("c", "d", "1")],
            "every pair has the score 1, so",
        ),
        ("sts", ("sentence1", "sentence2", "score"), [("a", "b", "x"), ("c", "d", "1")], "line 2 has 'x'"),
        ("sts", ("text", "sentence2", "score"), [("a", "b", "1")], "no column 'sentence1'"),
        ("pairs", ("query", "positive"), [("a", ""), ("c", "d")], "line 2 has no text to the query"),
        ("pairs", ("query", "positive"), [("a", "b"), ("c", "b")], "a ranking needs two at least"),
        ("pairs", ("query", "answer"), [("a", "b")], "--text-pair-column names what holds them"),
    ],
)
def test_tables_that_cannot_be_learnt(world, tmp_path, task, header, rows, fault):
    table = write_csv(tmp_path / "x.csv", rows, header)
    with pytest.raises(DataError) as refused:
        run(task, tmp_path / "run", given_of(world, task, train=str(table)))
    assert fault in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["csv", "--loss", "cosine"], "--loss has no effect on csv; leave it out"),
        (["pairs", "--loss", "cosine"], "--loss has no effect on pairs; leave it out"),
        (["sts", "--loss", "cosine", "--scale", "3"], "--scale has no effect with --loss cosine; leave it out"),
        (["sts", "--pooling", "tokens"], "pooling 'tokens' is not one of mean, cls"),
    ],
)
def test_options_of_other_tasks(albert, words, message):
    code, out, err = albert("finetune", *words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_head_reads_no_other_pooling_than_the_mean(world, tmp_path, refused):
    words = ("--model", world / "model", "--train", world / "dev.csv", "--out", tmp_path / "run", "--pooling", "cls")
    names = ("--text-column", "sentence1", "--label-column", "score")
    assert refused("finetune", "csv", *words, *names) == (
        "--pooling cls makes vectors (sts, pairs); a head has none but mean"
    )


def test_a_setting_of_another_task_in_a_file(world, tmp_path, refused):
    (tmp_path / "s.toml").write_text('loss = "cosine"\n')
    words = ("--model", world / "model", "--train", world / "dev.csv", "--out", tmp_path / "run")
    found = refused("finetune", "csv", *words, "--config", tmp_path / "s.toml")
    assert found == "loss is cosine, which csv does not heed; leave it out"
