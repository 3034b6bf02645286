"""What `--json` prints is as its schema in docs/schemas says, and no field of a schema is made up."""

import json
from pathlib import Path

import pytest
from every_command import COMMANDS, REFUSED, make_world
from typer.testing import CliRunner

from albert_cli.main import app

jsonschema = pytest.importorskip("jsonschema")

SCHEMAS = Path(__file__).parents[1] / "docs/schemas"
MODEL = ["--model", "model"]
SQUAD = {
    "version": "v2.0",
    "data": [{"title": "T", "paragraphs": [{"context": "a good film of the plot", "qas": [
        {"id": "1", "question": "good film", "is_impossible": False, "answers": [{"text": "good", "answer_start": 2}]},
        {"id": "2", "question": "bad", "is_impossible": True, "answers": []},
    ]}]}],
}  # fmt: skip
SHORT = ["--steps", "1", "--max-length", "32"]
# Beside the usual call of every command, one for each other form of its document, and its fields that may be absent.
MORE = {
    "embed": [["--in", "t.csv", "--id-column", "id", *MODEL, "--out", "ids.parquet"],
              ["--in", "t.csv", "--shard", "0/2", *MODEL, "--out", "s.parquet"],
              ["--in", "t.csv", "--shard", "1/2", *MODEL, "--out", "s.parquet"],
              ["--in", "s-*.parquet", "--merge", "--out", "merged.parquet"],
              ["--in", "t.csv", *MODEL, "--out", "u.parquet", "--update"],
              ["--in", "t.txt", *MODEL, "--out", "u.parquet", "--update"], ["a film", *MODEL]],
    "search": [["a film", "--in", "t.csv", "--id-column", "id", "--keep-columns", "text", *MODEL]],
    "similarity": [["a film", "a dog", *MODEL, "--top", "1"], ["a film", "ids.parquet", "--top", "1"]],
    "tokenize": [["a good film", "a dog", "--pair", *MODEL], ["a good film, a good film", "--max-length", "6",
                 "--stride", "1", *MODEL], ["--in", "t.txt", "--stats", *MODEL], ["a dog", "--compare", "built-in",
                 *MODEL], ["a good film", "--nbest", "2", *MODEL], ["--decode", "5 6", *MODEL]],
    "fill-mask": [["a [MASK]", *MODEL, "--out", "f.csv"]],
    "score": [["a good film", *MODEL, "--totals"], ["a good film", *MODEL, "--out", "s.csv"]],
    "sop": [["a film", "a dog", *MODEL, "--out", "o.csv"]],
    "predict": [["run", "--in", "t.txt"], ["run", "--in", "t.txt", "--out", "p.csv"], ["number", "a film"],
                ["model", "a film", "--labels", "film,dog"]],
    "evaluate": [["--sts", "sts.csv", *MODEL], ["--retrieval", "pairs.csv", *MODEL]],
    "convert": [["model", "half.npz", "--dtype", "float16"], ["model", "m.onnx"]],
    "diff": [["model", "half.npz"]],
    "inspect": [["model", "--tensors"]],
    "finetune": [["csv", "--train", "train.csv", "--dev", "dev.csv", *MODEL, *SHORT, "--out", "seeds",
                  "--seeds", "1,2"], ["csv", "--train", "train.csv", "--dev", "dev.csv", *MODEL, *SHORT, "--out",
                  "rates", "--lr", "1e-3,1e-4"]],
    "answer": [["qa", "good film", "a good film of the plot", "--top", "2"]],
}  # fmt: skip
# Fields that no call above has, and why.
ABSENT = {"is_next": "a BERT's head"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_world(tmp_path_factory.mktemp("world"))
    (folder / "t.csv").write_text("id,text\na,a good film\nb,a bad film\n")
    (folder / "sts.csv").write_text("sentence1,sentence2,score\na good film,a bad film,3\na plot,a dog,1\na,a,5\n")
    (folder / "pairs.csv").write_text("query,positive\na good film,a plot\na dog,a bad film\n")
    (folder / "numbers.csv").write_text("text,label\n" + "".join(f"a good film {n},{n / 2}\n" for n in range(8)))
    (folder / "squad.json").write_text(json.dumps(SQUAD))
    return folder


def printed(*words):
    """The document of a command; diff exits 1 where models differ."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0 or words[0] == "diff", done.output
    return json.loads(done.stdout)


def optional(schema):
    """The names of a schema's fields that may be absent."""
    if isinstance(schema, list):
        for item in schema:
            yield from optional(item)
    elif isinstance(schema, dict):
        for name in schema.get("properties", {}):
            if name not in schema["required"]:
                yield name
        for item in schema.values():
            yield from optional(item)


def names_in(document):
    if isinstance(document, list):
        for item in document:
            yield from names_in(item)
    elif isinstance(document, dict):
        for name, item in document.items():
            yield name
            yield from names_in(item)


@pytest.mark.usefixtures("undrawn")
def test_every_document_is_as_its_schema_says(world, monkeypatch):
    monkeypatch.chdir(world)
    calls = {name: [words] if name not in REFUSED else [] for name, words in COMMANDS.items() if name != "serve"}
    for task, data, out in (("csv", "numbers.csv", "number"), ("squad", "squad.json", "qa")):
        more = ["--regression"] if out == "number" else []
        printed("finetune", task, "--train", data, "--dev", data, *more, *MODEL, *SHORT, "--out", out)
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(calls)  # serve prints where it listens
    for name in ("init", "convert", "embed", *[other for other in calls if other not in ("init", "convert", "embed")]):
        schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        validator, seen, kinds = jsonschema.Draft202012Validator(schema), set(), set()
        for words in calls[name] + MORE.get(name, []):
            document = printed(name, *words)
            faults = sorted(validator.iter_errors(document), key=str)
            assert not faults, f"albert {name} {' '.join(map(str, words))}: {jsonschema.exceptions.best_match(faults)}"
            seen |= set(names_in(document))
            fitting = [n for n, one in enumerate(schema.get("anyOf", [schema]))
                       if not list(jsonschema.Draft202012Validator(one).iter_errors(document))]  # fmt: skip
            kinds |= set(fitting)
        assert set(optional(schema)) - seen <= ABSENT.keys(), name
        assert kinds == set(range(len(schema.get("anyOf", [schema])))), f"{name}: a form that nothing printed"
