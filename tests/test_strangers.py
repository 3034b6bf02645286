"""What is of no family, or not in a form that is read, is called what it is, with what to do."""

import json
import shutil

import making
import pytest
import torch
from making import TINY, safetensors_bytes

from converters import convert

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.fixture
def folder(tmp_path):
    convert.save(making.model(), tmp_path / "hf")
    (tmp_path / "hf/model.safetensors").unlink()
    return tmp_path / "hf"


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("tf_model.h5", "weights of transformers for TensorFlow 2, which are not read: with transformers 4, AutoMod"),
        (
            "flax_model.msgpack",
            "weights of transformers for Flax, which are not read: with transformers 4, AutoModel",
        ),
        ("adapter_model.safetensors", "an adapter (PEFT), which is no model without its base"),
        ("weights.h5", "Keras's weights, which are not read: load it with the library that wrote it and save the "),
        ("rust_model.ot", "weights for rust-bert, which are not read"),
        ("model.onnx", "an ONNX model, which is written here but not read: name the model that it was made from"),
        ("model-q8.gguf", "a GGUF model, which is not read"),
    ],
)
def test_files_that_are_not_read(folder, refused, file, told):
    (folder / file).write_bytes(b"something else")
    assert refused("inspect", folder).startswith(f"{folder}: holds {file}, {told}")
    if not file.endswith((".json", ".safetensors")):
        assert refused("inspect", folder / file).startswith(f"{folder / file}: {told}")


def test_an_adapter_is_refused_by_its_config(folder, refused):
    (folder / "adapter_config.json").write_bytes(b"something else")
    path = folder / "adapter_config.json"
    assert (
        refused("inspect", folder) == f"{path}: a PEFT adapter changes the weights; merge it and save the whole model"
    )


def test_a_directory_without_weights(folder, refused):
    assert refused("inspect", folder) == (
        f"{folder}: holds a config (config.json) and no weights; copy the model's there (model.safetensors or another "
        "kind)"
    )
    (folder / "config.json").unlink()
    assert refused("inspect", folder).startswith(f"{folder}: holds a tokenizer (spiece.model) and no weights; copy ")


def test_a_directory_of_models(tmp_path, refused):
    for name in ("checkpoint-500", "checkpoint-1000"):
        convert.save(making.model(), tmp_path / "run" / name)
    assert refused("inspect", tmp_path / "run") == (
        f"{tmp_path / 'run'}: holds no model itself, but its directories checkpoint-1000, checkpoint-500 may: name "
        f"one, as {tmp_path / 'run/checkpoint-1000'}"
    )


def test_weights_under_a_name_of_ones_own(folder, refused):
    (folder / "optimizer.pt").write_bytes(b"")
    (folder / "best.pt").write_bytes(b"")
    assert refused("inspect", folder) == (
        f"{folder}: contains no model under a known name, but best.pt: name the file, as {folder / 'best.pt'}"
    )


@pytest.mark.parametrize(("file", "told"), [("config.json", "a config"), ("spiece.model", "a tokenizer's file")])
def test_a_file_that_is_no_weights(folder, refused, file, told):
    path = folder / file
    assert refused("inspect", path) == f"{path}: {told}, not weights; name the directory that holds the model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("distilbert.transformer.layer.0.ffn.lin1.weight", "a DistilBERT, which is not supported"),
        ("base_model.model.albert.encoder.query.lora_A.weight", "a LoRA adapter, which is no model without its base"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_tensors_of_other_models(folder, refused, name, told, config):
    """With or without a config, which would be of no use."""
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"__metadata__": {}, name: ENTRY}, b"abcd"))
    if not config:
        (folder / "config.json").unlink()
    message = refused("inspect", folder)
    assert message.startswith(f"{folder}: {told}")
    assert message.endswith(f"; seen in tensor {name}")


def test_a_head_with_an_encoder_of_its_own_makes_no_bert(tmp_path, refused):
    name = "head.encoder.layers.0.linear1.weight"
    convert.save(making.model(), tmp_path / "hf", format="torch")
    weights = tmp_path / "hf/pytorch_model.bin"
    torch.save(torch.load(weights, weights_only=True) | {name: torch.zeros(2)}, weights)
    assert refused("inspect", tmp_path / "hf").endswith(
        f"does not match its config: 1 tensor unknown: {name}; take the config that belongs to the weights"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert.encoder.layer.0.output.dense.weight", "bert"),
        ("module.bert.encoder.layer.0.output.dense.weight", "bert"),
        ("roberta.encoder.layer.0.output.dense.weight", "roberta"),
        ("model.electra.encoder.layer.0.output.dense.weight", "electra"),
    ],
)
def test_tensors_of_another_family_than_the_config_says(folder, refused, name, kind):
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"__metadata__": {}, name: ENTRY}, b"abcd"))
    assert refused("inspect", folder) == (
        f"{folder / 'config.json'}: the config says albert, the tensors are those of {kind} (as '{name}'); correct "
        "model_type, or take the model's own config"
    )


def test_tensors_that_may_be_of_several_families(folder, refused):
    name = "encoder.layer.3.output.dense.weight"
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"__metadata__": {}, name: ENTRY}, b"abcd"))
    (folder / "config.json").write_text("{}")
    assert refused("inspect", folder) == (
        f"{folder / 'config.json'}: the tensors may be those of bert or electra or roberta (as '{name}'); add "
        "model_type to the config"
    )


def test_tensors_of_no_family(folder, refused):
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"__metadata__": {}, "a.b": ENTRY}, b"abcd"))
    (folder / "config.json").write_text("{}")
    assert refused("inspect", folder) == (
        f"{folder / 'config.json'}: no tensors of a known family (albert, bert, electra, roberta); it holds a.b"
    )


@pytest.mark.parametrize(
    ("name", "config", "family"),
    [
        ("bert/encoder/layer_0/output/dense/kernel", "bert_config.json", "bert"),
        ("electra/encoder/layer_0/output/dense/kernel", "electra_config.json", "electra"),
    ],
)
def test_variables_of_two_families(tmp_path, refused, name, config, family):
    source = making.tf1(tmp_path / "tf", variables=making.google_variables(TINY) | {name: making.values((2, 2), 1)})
    assert refused("inspect", source).startswith(
        f"{source / 'model.ckpt-best'}: the tensors may be those of albert or {family} (as 'bert/encoder/"
    )


def test_classifier_dropout_may_be_null(tmp_path, albert):
    """As older versions of transformers write it: that of the hidden states."""
    convert.save(making.model(), tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    (tmp_path / "hf/config.json").write_text(json.dumps(config | {"classifier_dropout_prob": None}))
    code, out, err = albert("inspect", tmp_path / "hf", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["config"]["classifier_dropout_prob"] == config["hidden_dropout_prob"]


@pytest.mark.parametrize("case", ["tf1-squad2-head", "token-classification"])
def test_the_sample_models_are_embedded(shared_data, albert, tmp_path, case):
    folder = shared_data / "reports" / case
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    shutil.copytree(folder / "model", tmp_path / "model")
    code, _, err = albert(
        "embed", "--in", folder / "texts.txt", "--model", tmp_path / "model", "--out", tmp_path / "o.parquet"
    )
    assert code == 0, err
    code, out, err = albert("convert", tmp_path / "model", tmp_path / "x.npz", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["dropped"] == {}
