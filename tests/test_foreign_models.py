"""Fine-tuned models of other origin: what predict, evaluate and answer make of each kind of head, and of its config."""

import dataclasses
import json
import math
import re

import making
import numpy as np
import pytest
import tuning

from converters import convert
from converters.checkpoint import Tensor
from converters.initialize import initialize


def model(folder, bias, *, name="classifier", form="safetensors", pooler=True, **changes):
    """A model whose head gives the same outputs, `bias`, for every text; `changes` are made to its config."""
    files, _ = tuning.tokenizer_files()
    checkpoint = initialize(tuning.config(), files, seed=1)
    tensors = {key: tensor for key, tensor in checkpoint.tensors.items() if key.startswith("albert.")}
    if not pooler:
        tensors = {key: tensor for key, tensor in tensors.items() if "pooler" not in key}
    tensors[f"{name}.weight"] = Tensor.of(np.zeros((len(bias), 16), np.float32))
    tensors[f"{name}.bias"] = Tensor.of(np.array(bias, np.float32))
    convert.save(dataclasses.replace(checkpoint, tensors=tensors, global_step=None), folder, format=form)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


NAMES = {"id2label": {"0": "sad", "1": "glad", "2": "long"}}
SEVERAL = NAMES | {"problem_type": "multi_label_classification"}


def test_weights_of_pytorch(tmp_path, albert):
    run = model(tmp_path / "m", [0, 2], form="torch", id2label={"0": "NEG", "1": "POS"})
    code, out, err = albert("predict", run, "a good film", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["prediction"] == "POS"
    assert found["probabilities"]["POS"] == pytest.approx(1 / (1 + math.exp(-2)))
    csv = tuning.write_csv(tmp_path / "dev.csv", [("good film", "POS"), ("bad film", "NEG")])
    assert "accuracy  0.5000" in albert("evaluate", run, "--data", csv)[1]
    assert albert("predict", run, "--in", csv, "--out", tmp_path / "out.csv")[0] == 0
    answers = model(tmp_path / "qa", [0, 2], name="qa_outputs", form="torch", pooler=False)
    assert albert("answer", answers, "a film?", "the good film")[0] == 0


def test_several_labels_each_have_a_sigmoid(tmp_path, albert):
    run = model(tmp_path / "m", [0.5, 2, -2], **SEVERAL)
    code, out, err = albert("predict", run, "a good film", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["prediction"] == ["sad", "glad"]
    assert found["probabilities"] == {
        name: pytest.approx(1 / (1 + math.exp(-x))) for name, x in (("sad", 0.5), ("glad", 2), ("long", -2))
    }
    assert albert("predict", run, "a good film")[1] == "sad, glad\nsad   0.6225\nglad  0.8808\nlong  0.1192\n"
    none = model(tmp_path / "none", [-1, -2, -2], **SEVERAL)
    assert albert("predict", none, "a good film")[1].startswith("(no label)\n")


def test_several_labels_in_a_table(tmp_path, albert):
    from pyarrow import parquet

    run = model(tmp_path / "m", [0, 2, 1], **SEVERAL)
    texts = tuning.write_csv(tmp_path / "in.csv", [("good",), ("bad film",)], header=("text",))
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        code, _, err = albert("predict", run, "--in", texts, "--out", tmp_path / f"out.{suffix}", "--probabilities")
        assert (code, err) == (0, "")
    assert re.search(r"1 +glad, long +good\n", albert("predict", run, "--in", texts)[1])
    assert (tmp_path / "out.csv").read_text() == (
        "text,prediction,probability_sad,probability_glad,probability_long\n"
        "good,glad|long,0.5,0.880797,0.731059\nbad film,glad|long,0.5,0.880797,0.731059\n"
    )
    assert "good\tglad|long\t0.5\t" in (tmp_path / "out.tsv").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0]["prediction"] == ["glad", "long"]
    assert parquet.read_table(tmp_path / "out.parquet")["prediction"].to_pylist() == [["glad", "long"]] * 2


def test_the_same_as_transformers_pipeline(tmp_path, albert):
    """Sigmoid or softmax or neither, by problem_type and the number of labels."""
    transformers = pytest.importorskip("transformers")
    from transformers.pipelines.text_classification import TextClassificationPipeline as Pipeline

    for number, (bias, changes) in enumerate(
        [
            ([0.5, 2, -2], SEVERAL),
            ([0.5, 2, -2], NAMES | {"problem_type": "single_label_classification"}),
            ([0.5, 2, -2], NAMES),
            ([0.5], {"problem_type": "multi_label_classification", "id2label": {"0": "x"}}),
            ([0.5], {"problem_type": "regression", "id2label": {"0": "x"}}),
        ]
    ):
        run = model(tmp_path / str(number), bias, **changes)
        network = transformers.AlbertForSequenceClassification.from_pretrained(run)
        pipeline = Pipeline(model=network, tokenizer=transformers.AutoTokenizer.from_pretrained(run))
        wanted = {item["label"]: item["score"] for item in pipeline("a good film", top_k=None)}
        found = json.loads(albert("predict", run, "a good film", "--json")[1])
        if "probabilities" in found:
            assert found["probabilities"] == pytest.approx(wanted, abs=1e-5)
        else:
            assert found["prediction"] == pytest.approx(next(iter(wanted.values())), abs=1e-5)


def test_several_labels_are_measured(tmp_path, albert):
    run = model(tmp_path / "m", [1, 2, -2], **SEVERAL)  # it says sad and glad of every text
    csv = tuning.write_csv(tmp_path / "dev.csv", [("good film", "sad|glad"), ("bad film", "sad|long"), ("film", "")])
    code, out, err = albert("evaluate", run, "--data", csv, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)[str(run)]["dev.csv"]
    assert found["micro_f1"] == pytest.approx(2 * 3 / (6 + 4))
    assert found["macro_f1"] == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (3 + 1) + 0) / 3)
    assert found["subset_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("bias", "changes", "fault"),
    [
        ([1, 2, 3], {"problem_type": "regression"}, "a regression to 3 numbers (problem_type), of which albert"),
        ([1], {"problem_type": "single_label_classification"}, "one label alone with problem_type 'single_label_"),
        ([1, 2], {"problem_type": "ranking"}, "problem_type 'ranking' in its config is none of transformers'"),
        ([1, 2], NAMES, "id2label in its config names 0, 1, 2, but its head has 2 rows (0 to 1)"),
        ([1, 2], {"id2label": {"0": "a", "2": "b"}}, "id2label in its config names 0, 2, but its head has 2 rows"),
        ([1, 2], {"id2label": {"0": "a", "1": "a"}}, "id2label in its config names a twice; give each row its own"),
        ([1, 2], {"id2label": ["a", "b"]}, "id2label in its config is ['a', 'b'], not names by number"),
        ([1, 2], {"num_labels": 3}, "num_labels 3 in its config, but its head has 2 rows"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_gives_no_label_is_refused(tmp_path, refused, command, bias, changes, fault):
    run = model(tmp_path / "m", bias, **changes)
    csv = tuning.write_csv(tmp_path / "dev.csv", [("good film", "glad")])
    arguments = {"predict": ["good film"], "evaluate": ["--data", csv]}[command]
    assert refused(command, run, *arguments).startswith(f"{run}: {fault}")


def test_the_length_of_its_tokenizer(tmp_path, albert):
    """A text is cut where the model's tokenizer says, as transformers' pipeline does with truncation."""
    transformers = pytest.importorskip("transformers")
    run = model(tmp_path / "m", [0, 2])
    checkpoint = convert.load(run)
    weight = Tensor.of(making.values((2, 16), 5))
    changed = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, "classifier.weight": weight})
    convert.save(changed, run, force=True)
    tokenizer = json.loads((run / "tokenizer_config.json").read_text())
    (run / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 6}))
    network = transformers.AlbertForSequenceClassification.from_pretrained(run)
    text = "a good film, a bad film, a good film"
    inputs = transformers.AutoTokenizer.from_pretrained(run)(text, return_tensors="pt", truncation=True)
    assert inputs["input_ids"].shape[1] == 6
    wanted = network(**inputs).logits.softmax(-1)[0].tolist()
    found = json.loads(albert("predict", run, text, "--json")[1])["probabilities"]
    assert list(found.values()) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("changes", [{"pooler": False}, {"architectures": ["AlbertForTokenClassification"]}])
def test_a_head_on_every_token_tags_words(tmp_path, albert, changes):
    names = {"id2label": {"0": "O", "1": "B-FILM", "2": "I-FILM"}}
    run = model(tmp_path / "m", [0, 1, 2], **names, **changes)
    code, out, err = albert("predict", run, "a good film")
    assert (code, err) == (0, "")
    assert out.split() == ["FILM", "a", "good", "film", "0-11", "0.6652"]


def test_labels_without_names(tmp_path, albert):
    run = model(tmp_path / "m", [1, 2])
    assert json.loads(albert("predict", run, "good", "--json")[1])["prediction"] == "LABEL_1"


def test_a_file_of_the_model(tmp_path, refused):
    run = model(tmp_path / "m", [1, 2])
    weights = run / "model.safetensors"
    assert refused("predict", weights, "good") == (
        f"{weights}: a file; name the directory of the fine-tuned model that it is a part of"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_no_numbers_are_refused(tmp_path, refused, value):
    csv = tuning.write_csv(tmp_path / "dev.csv", [("good film", "glad"), ("bad film", "sad")])
    fault = "1 of 1 outputs of its model are not finite (NaN or infinite); its weights are damaged"
    for name, changes in (("one", NAMES), ("several", SEVERAL), ("number", {})):
        run = model(tmp_path / name, [value, 1, 2] if changes else [value], **changes)
        assert refused("predict", run, "a good film") == f"{run}: {fault}"
        assert "2 of 2 outputs of its model" in refused("predict", run, "--in", csv, "--out", tmp_path / "out.csv")
    run = tmp_path / "one"
    assert "2 of 2 outputs of its model" in refused("evaluate", run, "--data", csv)
    answers = model(tmp_path / "qa", [0, value], name="qa_outputs", pooler=False)
    assert refused("answer", answers, "a film?", "the good film") == f"{answers}: {fault}"


def test_weights_that_are_no_numbers_are_counted(tmp_path, albert):
    run = model(tmp_path / "m", [math.nan, math.inf, 1], **NAMES)
    told = "3 values (2 NaN, 1 infinite) in 2 tensors: albert.embeddings.LayerNorm.bias, classifier.bias"
    checkpoint = convert.load(run)
    norm = checkpoint.tensors["albert.embeddings.LayerNorm.bias"].read().copy()
    norm[2] = math.nan
    tensors = {**checkpoint.tensors, "albert.embeddings.LayerNorm.bias": Tensor.of(norm)}
    convert.save(dataclasses.replace(checkpoint, tensors=tensors), run, force=True)
    counts = {
        "nan": 2,
        "infinite": 1,
        "tensors": {"albert.embeddings.LayerNorm.bias": 1, "classifier.bias": 2},
    }
    assert f"not finite    {told}\n" in albert("inspect", run)[1]
    assert json.loads(albert("inspect", run, "--json")[1])["not_finite"] == counts
    code, out, err = albert("convert", run, tmp_path / "x.npz")
    assert (code, err) == (0, "")
    assert f"not finite  {told}, kept as they are\n" in out
    assert making.same(convert.load(run), convert.load(tmp_path / "x.npz")) is True
    assert json.loads(albert("convert", run, tmp_path / "y.npz", "--json")[1])["not_finite"] == counts
    plain = model(tmp_path / "plain", [0, 1, 1], **NAMES)
    assert ", 1 NaN against 0" in albert("diff", run, plain)[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_kind_of_float_is_counted(dtype):
    from converters.checkpoint import scan

    array = making.values((300, 70), 3).astype(making.BFLOAT16 if dtype == "bfloat16" else dtype)
    assert scan(array)[1:] == (0, 0)
    array[7, 3], array[8, 1:3] = math.nan, (math.inf, -math.inf)
    assert scan(array)[1:] == (1, 2)
    assert scan(array.T)[1:] == (1, 2)


def test_a_name_of_the_hub_is_asked_too_and_a_path_that_is_missing_is_not(tmp_path, albert, refused, monkeypatch):
    import huggingface_hub

    snapshot = model(tmp_path / "models--someone--moods/snapshots/0123", [0, 2, 1], **NAMES)
    asked = []

    def snapshot_download(repo_id, **_):
        asked.append(repo_id)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    code, out, err = albert("predict", "someone/moods", "a good film", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["prediction"] == "glad"
    (tmp_path / "runs").mkdir()
    assert refused("predict", "runs/none", "a") == "runs/none: no such directory; name one that albert finetune wrote"
    assert asked == ["someone/moods"]
