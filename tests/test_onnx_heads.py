"""ONNX with a head: what transformers' class of each family gives, under its names; and the weights in int8."""

import dataclasses
import importlib.util
import json

import making
import numpy as np
import pytest
import torch
import tuning
from making import TINY
from running_onnx import inputs, run, session

from converters import convert

transformers = pytest.importorskip("transformers")
if MISSING := [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]:
    pytest.skip(f"ONNX is not installed ({', '.join(MISSING)})", allow_module_level=True)

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
# transformers' class: the options of convert, the outputs, and which of the class's outputs they are where not alike.
LOGITS = ["logits"]
CLASSES = {
    "AlbertForSequenceClassification": ([], LOGITS),
    "AlbertForTokenClassification": ([], LOGITS),
    "AlbertForMultipleChoice": ([], LOGITS),
    "AlbertForQuestionAnswering": ([], ["start_logits", "end_logits"]),
    "AlbertForMaskedLM": (["--head", "mlm"], LOGITS),
    "AlbertForPreTraining": (["--head", "sop"], LOGITS),
    "BertForSequenceClassification": ([], LOGITS),
    "BertForTokenClassification": ([], LOGITS),
    "BertForMultipleChoice": ([], LOGITS),
    "BertForQuestionAnswering": ([], ["start_logits", "end_logits"]),
    "BertForMaskedLM": (["--head", "mlm"], LOGITS),
    "BertForNextSentencePrediction": (["--head", "nsp"], LOGITS),
    "BertModel": ([], ["last_hidden_state", "pooler_output"]),
    "RobertaForSequenceClassification": (["--head", "classifier"], LOGITS),
    "RobertaForTokenClassification": ([], LOGITS),
    "RobertaForMultipleChoice": ([], LOGITS),
    "RobertaForQuestionAnswering": ([], ["start_logits", "end_logits"]),
    "RobertaForMaskedLM": (["--head", "mlm"], LOGITS),
    "RobertaModel": ([], ["last_hidden_state", "pooler_output"]),
    "ElectraForSequenceClassification": ([], LOGITS),
    "ElectraForTokenClassification": ([], LOGITS),
    "ElectraForMultipleChoice": ([], LOGITS),
    "ElectraForQuestionAnswering": ([], ["start_logits", "end_logits"]),
    "ElectraForPreTraining": (["--head", "rtd"], LOGITS),
    "ElectraForMaskedLM": (["--head", "mlm"], LOGITS),
    "ElectraModel": ([], ["last_hidden_state"]),
}
THREE_LABELS = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}


def made(name, folder):
    """A seeded model of a class of transformers, saved to a folder."""
    config_class = getattr(transformers, name).config_class
    own = {"type_vocab_size": 1, "max_position_embeddings": 26} if name.startswith("Roberta") else {}
    own |= {"embedding_size": 8} if name.startswith(("Albert", "Electra")) else {}
    labelled = "Sequence" in name or "Token" in name
    labels = {key: {int(n): v for n, v in x.items()} if key == "id2label" else x for key, x in THREE_LABELS.items()}
    torch.manual_seed(5)
    model = getattr(transformers, name)(config_class(**SIZES | own, **(labels if labelled else {}))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        if (padding := model.config.pad_token_id) is not None:
            model.get_input_embeddings().weight[padding] = 0
    model.save_pretrained(folder)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_onnxruntime_gives_what_the_class_gives(name, tmp_path, albert):
    options, outputs = CLASSES[name]
    peer = made(name, tmp_path / "hf")
    code, out, err = albert("convert", tmp_path / "hf", tmp_path / "out", "--to", "onnx", *options, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["outputs"], report["quantized"]) == (outputs, None)
    typed = not name.startswith("Roberta")
    assert report["inputs"] == ["input_ids", "attention_mask", *(["token_type_ids"] if typed else [])]
    assert [item.name for item in session(tmp_path / "out/model.onnx").get_inputs()] == report["inputs"]
    choices = "MultipleChoice" in name
    for batch, tokens in ((1, 1), (1, 24), (3, 3), (4, 9), (3, 2)):
        given = inputs(batch * 2 if choices else batch, tokens, peer.config, seed=tokens)
        given = {key: value for key, value in given.items() if key in report["inputs"]}
        if choices:
            given = {key: value.reshape(batch, 2, tokens) for key, value in given.items()}
        with torch.inference_mode():
            wanted = peer(**{key: torch.from_numpy(value) for key, value in given.items()})
        found = run(tmp_path / "out/model.onnx", given)
        assert list(found) == outputs
        real = given["attention_mask"].astype(bool)
        of_tokens = any(kind in name for kind in ("Token", "Question", "Masked", "ElectraForPreTraining"))
        for output, value in found.items():
            other = wanted["sop_logits" if name == "AlbertForPreTraining" else output].numpy()
            assert value.shape == other.shape
            gap = np.abs(value - other)
            assert (gap[real] if of_tokens or output == "last_hidden_state" else gap).max() < 1e-4
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [name]
    if "Sequence" in name or "Token" in name:
        assert config.items() >= THREE_LABELS.items()
    loaded = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert loaded.num_labels == peer.config.num_labels


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A model with a head of a task beside those of pre-training; its pieces are those of the texts tried."""
    path = tmp_path_factory.mktemp("classifier") / "hf"
    convert.save(making.model(dataclasses.replace(TINY, max_position_embeddings=40)), path)
    return path


def test_the_head_of_a_task_is_exported_and_in_int_8_too(classifier, tmp_path, albert):
    code, out, err = albert("convert", classifier, tmp_path / "out", "--to", "onnx", "--quantize", "int8")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    size = (tmp_path / "out/model_quantized.onnx").stat().st_size
    assert lines[1].startswith("holds      classification head: ")
    assert lines[1].endswith(f" parameters, {size:,} bytes")
    assert lines[2] == "runs       input_ids, attention_mask, token_type_ids -> logits"
    assert lines[4].startswith("int8       ")
    assert lines[4].endswith(f" -> {size:,} bytes; against float32 on 18 texts:")
    assert lines[5].startswith("           logits: cosine 0.")
    assert lines[6:] == [
        "tokenizer  spiece.model, copied",
        "left out   masked-word head (MLM)",
        "left out   sentence-order head (SOP)",
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model_quantized.onnx", "config.json"} <= names
    assert "model.onnx" not in names
    peer = transformers.AlbertForSequenceClassification.from_pretrained(classifier, num_labels=3).eval()
    given = inputs(5, 12, peer.config)
    with torch.inference_mode():
        wanted = peer(**{key: torch.from_numpy(value) for key, value in given.items()}).logits.numpy()
    found = run(tmp_path / "out/model_quantized.onnx", given)["logits"]
    assert found.shape == wanted.shape
    assert 0 < np.abs(found - wanted).max() < 0.2 * np.abs(wanted).max()
    import onnx

    held = {item.data_type for item in onnx.load(tmp_path / "out/model_quantized.onnx").graph.initializer if item.dims}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} & held


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("shape", ["linear", "mlp:6,4"])
def test_a_run_is_exported_with_its_head(shape, tmp_path, albert):
    """Also one that no other file of the directory holds."""
    tuning.write_model(tmp_path / "model")
    for name, seed in (("train", 1), ("dev", 2)):
        tuning.write_csv(tmp_path / f"{name}.csv", tuning.reviews(24, seed))
    words = ["finetune", "csv", "--model", tmp_path / "model", "--out", tmp_path / "run", "--head", shape]
    words += ["--train", tmp_path / "train.csv", "--dev", tmp_path / "dev.csv", "--epochs", 1, "--batch-size", 8]
    assert albert(*words)[0] == 0
    code, out, err = albert("convert", tmp_path / "run", tmp_path / "out", "--to", "onnx", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["head"], report["outputs"], report["dropped"]) == ("classifier", ["logits"], {})
    assert report["title"] == "classification head" + (" with hidden layers" if shape != "linear" else "")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["AlbertForSequenceClassification"]
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    from albert_cli.training.run_directory import load_run

    loaded = load_run(tmp_path / "run")
    given = loaded.tokenizer.encode_batch(["a great film", "the plot was dull and very long", "music"]).padded()
    with torch.inference_mode():
        wanted = loaded.model(*(torch.from_numpy(given[name]) for name in report["inputs"]))
    assert np.abs(run(tmp_path / "out/model.onnx", given)["logits"] - wanted.numpy()).max() < 1e-4
    if shape != "linear":  # without the file that says what the head is
        (tmp_path / "run/run.toml").unlink()
        code, out, _ = albert("convert", tmp_path / "run", tmp_path / "x.onnx", "--json")
        report = json.loads(out)
        assert (report["head"], report["title"]) == (None, "encoder and pooler")
        assert report["dropped"] == {"head of another shape than linear (head.safetensors)": 1}


# --- which head


@pytest.mark.parametrize(
    ("without", "asked", "found"),
    [
        (("qa",), "auto", "classifier"),
        (("classifier",), "auto", "qa"),
        ((), "auto", None),  # two heads of tasks
        (("qa", "classifier"), "auto", None),
        ((), "qa", "qa"),
        ((), "none", None),
        ((), "sop", "sop"),
    ],
)
def test_which_head_is_meant(without, asked, found):
    from albert_cli.onnx import heads

    assert heads.chosen(making.model(without=without), asked) == found


def test_a_head_that_is_not_there(classifier, refused, tmp_path):
    assert refused("convert", classifier, tmp_path / "out", "--to", "onnx", "--head", "qa") == (
        f"{classifier}: no question-answering head (qa) in this model; it has mlm, sop, classifier; name one of these"
    )
    convert.save(making.model(without=("mlm", "sop", "classifier", "qa")), tmp_path / "bare")
    assert refused("convert", tmp_path / "bare", tmp_path / "out", "--to", "onnx", "--head", "mlm") == (
        f"{tmp_path / 'bare'}: no masked-word head (mlm) in this model; it has no head; leave out --head"
    )
    assert refused("convert", classifier, tmp_path / "out", "--to", "onnx", "--head", "sbo") == (
        f"{classifier}: the span-boundary head (SBO) reads the borders of spans, which no program that runs ONNX hands "
        "in; --head none exports the encoder"
    )


@pytest.mark.parametrize("options", [["--head", "mlm"], ["--quantize", "int8"]])
def test_a_format_takes_no_such_option(classifier, tmp_path, albert, options):
    code, out, err = albert("convert", classifier, tmp_path / "x.npz", *options)
    assert (code, out) == (2, "")
    assert f"{options[0]} is for --to onnx" in " ".join(err.replace("│", "").split())
    code, _, err = albert("convert", classifier, tmp_path / "x.onnx", "--head", "mlmm")
    assert (code, "did you mean 'mlm'?" in " ".join(err.replace("│", "").split())) == (2, True)
    assert not list(tmp_path.iterdir())
