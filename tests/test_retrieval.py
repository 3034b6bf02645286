"""albert evaluate --retrieval: where a query's texts stand among all texts of a file, by cosine."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.ranks import figures, ranks_of, recall
from albert_cli.embedding.settings import Settings

ROWS = [
    {"query": "a cat", "positive": "a cat.", "negatives": ["the dog", "who?"]},
    {"query": "a cat", "positive": "cats", "negatives": []},
    {"query": "what is 42", "positive": "42!", "negatives": ["7", "it is 9"]},
    {"query": "bb", "positive": "b", "negatives": ["a cat"]},
]
QUERIES = {"a cat": ["a cat.", "cats"], "what is 42": ["42!"], "bb": ["b"]}
TEXTS = ["a cat.", "cats", "42!", "b", "the dog", "who?", "7", "it is 9", "a cat"]


@pytest.fixture
def table(tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return tmp_path / "q.jsonl"


@pytest.fixture
def evaluated(albert, letter_model):
    def run(table, *arguments, model=letter_model):
        words = ("evaluate", "--retrieval", table, "--model", model, "--json", "--threads", 1, *arguments)
        code, out, err = albert(*words)
        assert code == 0, err
        return json.loads(out)

    return run


def expected(model, **settings):
    """The figures by another way: every query's texts sorted, and scikit-learn's nDCG."""
    embedder = Embedder.from_pretrained(str(model), Settings(**settings))
    queries, texts = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (
        embedder.embed(list(QUERIES)), embedder.embed(TEXTS)
    ))  # fmt: skip
    cosines, found = queries @ texts.T, {"mrr": [], "recall_at_1": [], "recall_at_5": [], "recall_at_10": []}
    belongs = np.array([[text in own for text in TEXTS] for own in QUERIES.values()])
    for row, own in zip(cosines, belongs, strict=True):
        order = own[np.argsort(-row)]
        found["mrr"].append(1 / (1 + int(order.argmax())))
        for k in (1, 5, 10):
            found[f"recall_at_{k}"].append(order[:k].sum() / own.sum())
    return {name: np.mean(values) for name, values in found.items()} | {
        "ndcg_at_10": ndcg_score(belongs.astype(int), cosines, k=10)
    }


def test_figures_are_those_of_another_way(table, evaluated, letter_model):
    found = evaluated(table)
    assert (found["data"], found["model"]) == (str(table), str(letter_model))
    assert (found["queries"], found["texts"], found["query_prompt"]) == (3, 9, "")
    for name, value in expected(letter_model).items():
        assert found[name] == pytest.approx(value, abs=1e-6)
    again = evaluated(table, "--pooling", "cls", "--layer", 1)
    for name, value in expected(letter_model, pooling="cls", layers=(1,)).items():
        assert again[name] == pytest.approx(value, abs=1e-6)


def test_what_is_printed_and_drawn(table, albert, letter_model, tmp_path):
    words = ["evaluate", "--retrieval", table, "--model", letter_model, "--plot", tmp_path / "r.svg"]
    code, out, err = albert(*words)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[:-1]] == [
        "queries", "texts", "mrr", "recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10",
    ]  # fmt: skip
    assert lines[:2] == [["queries", "3"], ["texts", "9"]]
    assert out.endswith(f"{tmp_path / 'r.svg'}: recall at k of 3 queries\n")
    assert (tmp_path / "r.svg").read_text().startswith("<?xml")
    code, _, err = albert(*words)
    assert (code, "--force replaces it" in err) == (1, True)


def test_any_table_will_do(table, evaluated, tmp_path):
    wanted = evaluated(table)
    cells = [(row["query"], row["positive"], json.dumps(row["negatives"]).replace('"', '""')) for row in ROWS]
    (tmp_path / "q.csv").write_text("q,p,n\n" + "".join(f'{a},{b},"{c}"\n' for a, b, c in cells))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "q.parquet")
    assert evaluated(tmp_path / "q.parquet") == wanted | {"data": str(tmp_path / "q.parquet")}
    names = ["--text-column", "q", "--text-pair-column", "p", "--label-column", "n"]
    assert evaluated(tmp_path / "q.csv", *names) == wanted | {"data": str(tmp_path / "q.csv")}


def test_one_negative_may_stand_alone_or_none(evaluated, tmp_path):
    (tmp_path / "q.tsv").write_text("query\tpositive\tnegatives\na\tb\t[an opinion]\nc\td\t\n")
    assert evaluated(tmp_path / "q.tsv")["texts"] == 3
    (tmp_path / "p.tsv").write_text("query\tpositive\na\tb\nc\td\n")
    assert evaluated(tmp_path / "p.tsv")["texts"] == 2


def test_prompts_are_used_for_what_they_are_called_after(letter_model, albert, evaluated, table, tmp_path):
    assert albert("convert", letter_model, tmp_path / "st", "--to", "sentence-transformers")[0] == 0
    plain = evaluated(table, model=tmp_path / "st")
    file = tmp_path / "st/config_sentence_transformers.json"
    said = json.loads(file.read_text()) | {"prompts": {"query": "find: ", "document": "text: "}}
    file.write_text(json.dumps(said))
    prompted = evaluated(table, model=tmp_path / "st")
    assert (prompted["query_prompt"], prompted["settings"]["prompt_text"]) == ("find: ", "text: ")
    assert prompted["mrr"] != plain["mrr"]
    none = evaluated(table, "--prompt", "none", model=tmp_path / "st")
    assert (none["query_prompt"], none["mrr"]) == ("", plain["mrr"])
    named = evaluated(table, "--prompt", "document", model=tmp_path / "st")
    assert (named["query_prompt"], named["settings"]["prompt_text"]) == ("text: ", "text: ")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("query,positive\na,b\n", "one text is found first by any model; a ranking needs two at least"),
        ("query,positive\n ,b\nc,d\n", "1 bad row: line 2 has an empty query; --skip-bad leaves such rows out"),
        ("query,positive\na,\nc,d\n", "line 2 has no text to the query"),
        ('query,positive,negatives\na,b,"[""c"", """"]"\nc,d,\n', "line 2 has an empty text among its negatives"),
        ("query,positive,negatives\na,b,c\na,c,\n", "line 2 has 'c' among its negatives, which belongs to the query"),
        ("question,answer\na,b\n", "--text-column and --text-pair-column name what holds them"),
        ("query,answer\na,b\n", "--text-pair-column names what holds them"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, refused, letter_model, content, fault):
    (tmp_path / "x.csv").write_text(content)
    found = refused("evaluate", "--retrieval", tmp_path / "x.csv", "--model", letter_model)
    assert found.startswith(f"{tmp_path / 'x.csv'}: ")
    assert fault in found


def test_bad_rows_can_be_left_out(table, evaluated, albert, tmp_path, letter_model):
    (tmp_path / "x.jsonl").write_text(table.read_text() + '{"query": "", "positive": "z", "negatives": []}\n')
    words = ("evaluate", "--retrieval", tmp_path / "x.jsonl", "--model", letter_model, "--skip-bad")
    code, _, err = albert(*words)
    assert (code, "1 row left out: line 5 that are no pairs" in err) == (0, True)
    assert evaluated(tmp_path / "x.jsonl", "--skip-bad")["mrr"] == evaluated(table)["mrr"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--retrieval", "t.csv", "--sts", "t.csv"], "--sts and --retrieval do not go together; choose one"),
        (["run", "--retrieval", "t.csv"], "--retrieval measures --model; leave out RUN, or name it with --model"),
        (["--retrieval", "t.csv", "--data", "d"], "--data has no effect with --retrieval; leave it out"),
        (["--retrieval", "t.csv", "--force"], "--force has no effect without --plot or --curves; leave it out"),
    ],
)
def test_options_that_do_not_go_together(albert, arguments, fault):
    code, out, err = albert("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert fault in " ".join(err.replace("│", " ").split())


def test_equal_cosines_count_against_the_model():
    """All alike: nothing is found, whatever the order of the file."""
    same = np.ones((4, 2)) / np.sqrt(2)
    assert [own.tolist() for own in ranks_of(same[:1], same, [[1, 2]])] == [[3, 4]]


def test_ranks_of_many_queries_are_those_of_a_whole_table(monkeypatch):
    from albert_cli.embedding import ranks as module

    random = np.random.default_rng(0)
    queries, texts = random.normal(size=(50, 8)), random.normal(size=(80, 8))
    relevant = [random.choice(80, size=random.integers(1, 4), replace=False).tolist() for _ in queries]
    whole = ranks_of(queries, texts, relevant)
    monkeypatch.setattr(module, "_BLOCK", 3 * 80)
    assert all((a == b).all() for a, b in zip(whole, ranks_of(queries, texts, relevant), strict=True))
    places = np.argsort(np.argsort(-(queries @ texts.T), axis=1), axis=1) + 1
    assert [own.tolist() for own in whole] == [
        sorted(row[numbers].tolist()) for row, numbers in zip(places, relevant, strict=True)
    ]
    assert recall(whole, 80) == 1.0
    assert figures([np.array([2])]) == pytest.approx(
        {"mrr": 0.5, "recall_at_1": 0, "recall_at_5": 1, "recall_at_10": 1, "ndcg_at_10": 1 / np.log2(3)}
    )
