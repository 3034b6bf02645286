"""Fine-tuning of ALBERT's relatives: each family's own classifier, as transformers computes it."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from transformers.pipelines.text_classification import TextClassificationPipeline as Pipeline
from tuning import RELATIVES, reviews, sentence, write_csv, write_relative

from albert_cli.runs.log import read_log
from albert_cli.training import session
from albert_cli.training.run_directory import load_run

pytestmark = pytest.mark.usefixtures("undrawn")
SLOW_BERT, SLOW_ROBERTA = (pytest.param(kind, marks=pytest.mark.slow) for kind in ("bert", "roberta"))
# Of one word, longer than the models take, and some between: batches with much padding.
TEXTS = ["good", "a dull film", " ".join(["a very long story with music and"] * 12), "Great scene, poor plot!", "the"]


def pairs(count, seed=0):
    import random

    chance = random.Random(seed)
    return [
        (sentence(number % 2 == 0, chance), sentence(True, chance), "same" if number % 2 == 0 else "other")
        for number in range(count)
    ]


def train(out, given, task="csv", report=lambda record: None, **more):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False} | more
    return session.one(task, given, out, report=report, **choices)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of every family, labelled texts and pairs."""
    root = tmp_path_factory.mktemp("families")
    for kind in RELATIVES:
        write_relative(root / kind, kind)
    write_csv(root / "train.csv", reviews(48))
    write_csv(root / "dev.csv", reviews(12, seed=9))
    write_csv(root / "pairs.csv", pairs(32), header=("text", "second", "label"))
    numbers = [(text, f"{100 + 10 * len(text.split())}") for text, _ in reviews(32)]
    write_csv(root / "numbers.csv", numbers)
    return root


def given(world, kind, **more):
    files = {"model": str(world / kind), "train": str(world / "train.csv"), "dev": str(world / "dev.csv")}
    return files | {"steps": 12, "batch_size": 8, "learning_rate": 3e-3, "max_length": 48} | more


def theirs_of(run):
    """The run as transformers loads it, which must find every tensor."""
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(run, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


@pytest.fixture(scope="module", params=RELATIVES)
def run(world, request):
    """A run of texts, its family."""
    out = world / f"run-{request.param}"
    train(out, given(world, request.param))
    return out, request.param


CLASSES = {
    "bert": "BertForSequenceClassification",
    "spanbert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "electra": "ElectraForSequenceClassification",
}


def test_a_run_is_the_familys_classifier_in_transformers(run, albert, tmp_path):
    """Texts padded, cut and of one token: ids and probabilities of its pipeline."""
    out, kind = run
    assert json.loads((out / "config.json").read_text())["architectures"] == [CLASSES[kind]]
    network, tokenizer = theirs_of(out), transformers.AutoTokenizer.from_pretrained(out)
    assert type(network).__name__ == CLASSES[kind]
    ours = load_run(out)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=48, return_tensors="pt")
    encoded = ours.tokenizer.encode_batch(TEXTS, max_length=48)
    assert [encoded[row].tolist() for row in range(len(TEXTS))] == [
        ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    pipeline = Pipeline(model=network, tokenizer=tokenizer)
    wanted = pipeline(TEXTS, top_k=None, truncation=True, max_length=48, padding=True)
    write_csv(tmp_path / "in.csv", [(text,) for text in TEXTS], header=("text",))
    words = ("--in", tmp_path / "in.csv", "--out", tmp_path / "out.jsonl", "--probabilities")
    code, _, err = albert("predict", out, *words)
    assert (code, err) == (0, "")
    for line, shares in zip((tmp_path / "out.jsonl").read_text().splitlines(), wanted, strict=True):
        found = json.loads(line)
        for share in shares:
            assert found[f"probability_{share['label']}"] == pytest.approx(share["score"], abs=1e-5)
    one = json.loads(albert("predict", out, TEXTS[2], "--json")[1])["probabilities"]
    assert one == pytest.approx({share["label"]: share["score"] for share in wanted[2]}, abs=1e-5)
    code, said, err = albert("evaluate", out, "--json")
    assert (code, err) == (0, "")
    summary = json.loads((out / "summary.json").read_text())
    assert json.loads(said)[str(out)]["dev"] == pytest.approx(summary["dev"], abs=1e-6)


@pytest.mark.parametrize("kind", RELATIVES)
def test_pairs_are_those_of_transformers(world, albert, tmp_path, kind):
    """Without types where the family has none; the longer text of a pair is cut."""
    out = tmp_path / "run"
    more = {"train": str(world / "pairs.csv"), "dev": None, "text_pair_column": "second", "max_length": 24}
    train(out, given(world, kind, steps=4, **more))
    network, tokenizer = theirs_of(out), transformers.AutoTokenizer.from_pretrained(out)
    for first, second in (("a good film", "the plot"), (TEXTS[2], "a dull scene"), ("bad", TEXTS[2])):
        with torch.no_grad():
            inputs = tokenizer(first, second, truncation=True, max_length=24, return_tensors="pt")
            wanted = network(**inputs).logits.softmax(-1)[0]
        assert load_run(out).tokenizer.encode(first, second, max_length=24).ids == inputs["input_ids"][0].tolist()
        found = json.loads(albert("predict", out, first, second, "--json")[1])["probabilities"]
        assert list(found.values()) == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", [SLOW_ROBERTA, "electra"])
def test_a_regression_has_the_labels_unit_in_its_last_layer(world, albert, tmp_path, kind):
    out = tmp_path / "run"
    data = {"train": str(world / "numbers.csv"), "dev": str(world / "numbers.csv"), "regression": True}
    train(out, given(world, kind, **data, steps=20))
    network, tokenizer = theirs_of(out), transformers.AutoTokenizer.from_pretrained(out)
    with torch.no_grad():
        wanted = network(**tokenizer("a good film", return_tensors="pt")).logits.item()
    assert 90 < wanted < 220
    assert float(albert("predict", out, "a good film")[1]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", [SLOW_BERT, "roberta", "electra"])
def test_a_frozen_encoder_and_an_mlp_head(world, albert, tmp_path, kind):
    from converters import convert

    base = convert.load(world / kind)
    for head in ("linear", "mlp:6,4"):
        out = tmp_path / head.partition(":")[0]
        train(out, given(world, kind, freeze_encoder=True, head=head))
        after = convert.load(out)
        for name, tensor in after.tensors.items():
            if "encoder.layer" in name or "embeddings" in name:
                assert np.array_equal(tensor.read(), base.tensors[name].read()), name
        assert (out / "head.safetensors").exists() == (head != "linear")
        assert albert("predict", out, "a good film")[0] == 0
        if head == "linear":
            theirs_of(out)
    bare, report = transformers.AutoModel.from_pretrained(tmp_path / "mlp", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert bare.config.model_type == kind


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", [SLOW_BERT, SLOW_ROBERTA, "electra"])
def test_a_run_cut_off_ends_with_the_same_bits(world, tmp_path, kind):
    wanted = given(world, kind, eval_every=4)
    train(tmp_path / "whole", wanted)
    seen = []

    def report(record):
        seen.append(record)
        if len(seen) == 20:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "cut", wanted, report=report)
    assert 0 < len(read_log(tmp_path / "cut")) < len(read_log(tmp_path / "whole"))
    train(tmp_path / "cut", {}, resume=True)
    for name in ("model.safetensors", "summary.json", "dev_predictions.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_spanbert_starts_from_a_fresh_pooler_and_says_it(world, tmp_path, albert):
    words = ("finetune", "csv", "--train", world / "train.csv", "--steps", 2, "--max-length", 32)
    model = world / "spanbert"
    code, _, err = albert(*words, "--model", model, "--out", tmp_path / "run")
    assert code == 0
    assert f"note: {model} has no pooler: it starts from random weights\n" in err
    code, _, err = albert(*words, "--model", model, "--out", tmp_path / "frozen", "--freeze-encoder")
    assert code == 0
    kept = "it starts from random weights, which a frozen encoder keeps; train it, too\n"
    assert f"note: {model} has no pooler: {kept}" in err
    assert (
        load_run(tmp_path / "run").tokenizer.encode("Good").ids
        != load_run(tmp_path / "run").tokenizer.encode("good").ids
    )


@pytest.mark.parametrize("kind", ["roberta", "electra"])
def test_a_classifier_fine_tuned_elsewhere(world, tmp_path, albert, kind):
    """Saved by transformers, with the labels in its config; asked, measured and refused as any other."""
    config = transformers.AutoConfig.from_pretrained(
        world / kind, id2label={0: "sad", 1: "glad", 2: "long"}, label2id={"sad": 0, "glad": 1, "long": 2}
    )
    torch.manual_seed(4)
    network = getattr(transformers, CLASSES[kind])(config).eval()
    with torch.no_grad():
        for parameter in network.classifier.parameters():
            parameter.normal_(std=0.5)
    run = tmp_path / "elsewhere"
    network.save_pretrained(run)
    for path in (world / kind).iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, run / path.name)
    pipeline = Pipeline(model=network, tokenizer=transformers.AutoTokenizer.from_pretrained(run))
    wanted = {item["label"]: item["score"] for item in pipeline("a good film", top_k=None)}
    code, out, err = albert("predict", run, "a good film", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["probabilities"] == pytest.approx(wanted, abs=1e-5)
    write_csv(tmp_path / "dev.csv", [("good film", "glad"), ("bad film", "sad")])
    assert "accuracy" in albert("evaluate", run, "--data", tmp_path / "dev.csv")[1]
    said = json.loads((run / "config.json").read_text()) | {"problem_type": "ranking"}
    (run / "config.json").write_text(json.dumps(said))
    code, _, err = albert("predict", run, "a good film")
    assert code == 1
    assert "problem_type 'ranking' in its config is none of transformers'" in err


def test_the_classifier_of_a_fairseq_checkpoint(shared_data, albert):
    """Texts and pairs as fairseq itself computed them."""
    run = shared_data / "relatives/fairseq-roberta"
    expected = np.load(shared_data / "relatives/roberta.expected.npz", allow_pickle=False)
    texts = [(text,) for text in expected["texts"].tolist()]
    texts += zip(expected["pair_first"].tolist(), expected["pair_second"].tolist(), strict=True)
    for row, given in enumerate(texts):
        code, out, err = albert("predict", run, *given, "--json")
        assert code == 0, err
        wanted = torch.tensor(expected["classification_logits"][row]).softmax(-1)
        assert list(json.loads(out)["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=1e-5)
