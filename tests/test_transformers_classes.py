"""Whatever transformers' ALBERT classes save, in every way they do or did, is read, to the same numbers and bits."""

import json

import making
import numpy as np
import pytest
import torch
from making import TINY

from albert_cli.model.loading import load_model
from converters import convert, spec
from converters.dialects import to_hf

transformers = pytest.importorskip("transformers")

CLASSES = {
    "AlbertModel": {},
    "AlbertModel without pooler": {},
    "AlbertForPreTraining": {},
    "AlbertForMaskedLM": {},
    "AlbertForMaskedLM untied": {"tie_word_embeddings": False},
    "AlbertForSequenceClassification 1": {"num_labels": 1},
    "AlbertForSequenceClassification 2": {},
    "AlbertForSequenceClassification 5": {"num_labels": 5},
    "AlbertForSequenceClassification regression": {"num_labels": 1, "problem_type": "regression"},
    "AlbertForSequenceClassification several": {"num_labels": 5, "problem_type": "multi_label_classification"},
    "AlbertForTokenClassification": {"num_labels": 5},
    "AlbertForQuestionAnswering": {},
    "AlbertForMultipleChoice": {},
}
COMPONENTS = {
    "AlbertModel": ["pooler"],
    "AlbertModel without pooler": [],
    "AlbertForPreTraining": ["pooler", "mlm", "sop"],
    "AlbertForMaskedLM": ["mlm"],
    "AlbertForSequenceClassification": ["pooler", "classifier"],
    "AlbertForTokenClassification": ["tokens"],
    "AlbertForQuestionAnswering": ["qa"],
    "AlbertForMultipleChoice": ["pooler", "choice"],
}
UNTIED = [name for name in CLASSES if "untied" in name]


def test_every_class_is_here():
    found = {name for name in dir(transformers) if name.startswith("Albert") and name not in ("AlbertPreTrainedModel",)}
    found -= {name for name in found if "Config" in name or "Tokenizer" in name}
    assert {name.split()[0] for name in CLASSES} == found


@pytest.fixture(scope="module", params=CLASSES)
def made(request):
    """A model of the class, whose biases and norms are drawn too; its class's name; and how it was configured."""
    name = request.param.split()[0]
    settings = {key: value for key, value in to_hf(TINY).items() if key != "model_type"}
    config = transformers.AlbertConfig(**settings, **CLASSES[request.param])
    arguments = {"add_pooling_layer": False} if "without pooler" in request.param else {}
    torch.manual_seed(3)
    model = getattr(transformers, name)(config, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return request.param, model


def wanted_components(title):
    return COMPONENTS.get(title, COMPONENTS.get(title.split()[0]))


def save(model, folder, way):
    """Save the model as transformers, or an older version of it, or the user's own code, does."""
    name = type(model).__name__
    prefix = "" if name == "AlbertModel" else "albert."
    if way == "safetensors":
        model.save_pretrained(folder)
    elif way == "shards":
        model.save_pretrained(folder, max_shard_size="2KB")
        assert (folder / "model.safetensors.index.json").exists()
    else:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(model.config.to_dict() | {"architectures": [name]}))
        state = dict(model.state_dict())  # with the decoder's tied copies
        if "buffers" in way:
            state[f"{prefix}embeddings.position_ids"] = torch.arange(TINY.max_position_embeddings)[None]
            state[f"{prefix}embeddings.token_type_ids"] = torch.zeros(1, TINY.max_position_embeddings, dtype=torch.long)
        if "wrapped" in way:
            wrapper = way.split()[-1]
            state = {f"{wrapper}{key}": value for key, value in state.items()}
        if "own module" in way:  # self.bert = AlbertModel(…) and heads beside it
            state = {
                f"bert.{key.removeprefix(prefix)}" if key.startswith(prefix) else key: v for key, v in state.items()
            }
        if "half" in way:
            state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        if "shards" in way:
            names = list(state)
            halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
            for file, keys in halves.items():
                torch.save({key: state[key] for key in keys}, folder / file)
            where = {key: file for file, keys in halves.items() for key in keys}
            index = {"metadata": {}, "weight_map": where}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        else:
            torch.save(state, folder / "pytorch_model.bin")
    (folder / "spiece.model").write_bytes(making.spiece())


WAYS = [
    "safetensors",
    "shards",
    ".bin",
    ".bin, buffers",
    ".bin, shards",
    ".bin, half",
    ".bin, wrapped module.",
    ".bin, wrapped model.",
    ".bin, wrapped _orig_mod.module.",
]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_class_saves_is_read(made, way, tmp_path):
    title, model = made
    save(model, tmp_path / "hf", way)
    checkpoint = convert.load(tmp_path / "hf")
    assert spec.components(checkpoint.tensors, checkpoint.config)[3:] == wanted_components(title)
    assert bool(checkpoint.notes) == ("wrapped" in way)
    state = model.state_dict()
    prefix = "albert." if type(model).__name__ == "AlbertModel" else ""
    for name, value in state.items():
        if "decoder" not in name or title in UNTIED:
            kept = value.half() if "half" in way else value
            assert np.array_equal(checkpoint.tensors[prefix + name].read(), kept.numpy()), name
    ids = torch.tensor([[2, 9, 11, 12, 16, 3], [2, 10, 3, 0, 0, 0]])
    mask = (ids > 0).long()
    base = model if prefix else model.albert
    with torch.no_grad():
        found = load_model(checkpoint)(ids, mask)
        if "half" not in way:
            hidden = base(ids, attention_mask=mask).last_hidden_state
            assert (found.encoder.sequence_output - hidden)[mask.bool()].abs().max() < 1e-5
            if "mlm" in wanted_components(title):
                logits = model(ids, attention_mask=mask)
                logits = logits.prediction_logits if "PreTraining" in title else logits.logits
                assert (found.prediction_logits - logits)[mask.bool()].abs().max() < 1e-4


@pytest.mark.parametrize("way", ["safetensors", ".bin"])
def test_what_a_class_saves_comes_back(made, way, tmp_path, albert):
    """Through other formats and back, bit for bit; transformers loads the outcome as the class that it was."""
    title, model = made
    save(model, tmp_path / "hf", way)
    code, out, err = albert("inspect", tmp_path / "hf", "--json")
    assert (code, err) == (0, "")
    assert [part for part, there in json.loads(out)["heads"].items() if there] == [
        part for part in wanted_components(title) if part != "pooler"
    ]
    assert albert("tokenize", "a the", "--model", tmp_path / "hf")[0] == 0
    steps = ["torch"] if title in UNTIED else ["npz", "bson", "torch"]
    source = tmp_path / "hf"
    for number, form in enumerate([*steps, "safetensors"]):
        target = tmp_path / {"npz": f"{number}.npz", "bson": f"{number}.bson"}.get(form, f"{number}-{form}")
        convert.convert(source, target, target_as=form)
        source = target
    assert making.same(convert.load(tmp_path / "hf"), convert.load(source)) is True
    assert json.loads((source / "config.json").read_text())["architectures"] == [type(model).__name__]
    arguments = {"add_pooling_layer": False} if "without pooler" in title else {}
    back, loading = type(model).from_pretrained(source, output_loading_info=True, **arguments)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, value in back.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_an_encoder_inside_another_module(tmp_path):
    """`self.bert = AlbertModel(…)` with a head of one's own beside it."""
    config = transformers.AlbertConfig(**{key: v for key, v in to_hf(TINY).items() if key != "model_type"})
    model = transformers.AlbertForSequenceClassification(config)
    save(model, tmp_path / "hf", ".bin, own module")
    checkpoint = convert.load(tmp_path / "hf")
    assert checkpoint.notes == ["the encoder's names begin with 'bert.' (a module around it), read as 'albert.'"]
    for name, value in model.state_dict().items():
        assert np.array_equal(checkpoint.tensors[name].read(), value.numpy()), name


def test_two_encoders_are_refused(tmp_path, refused):
    config = transformers.AlbertConfig(**{key: v for key, v in to_hf(TINY).items() if key != "model_type"})
    model = transformers.AlbertModel(config)
    save(model, tmp_path / "hf", ".bin")
    state = {f"{part}.{name}": value for part in ("question", "passage") for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "hf/pytorch_model.bin")
    assert refused("inspect", tmp_path / "hf").endswith("save the one you want alone")


@pytest.mark.parametrize("lone", ["predictions.decoder.bias", "predictions.decoder.weight"])
def test_a_lone_half_of_a_tied_pair(tmp_path, lone):
    """transformers 5 takes the copy where the tensor that it is tied to is absent."""
    source = {"predictions.decoder.bias": "predictions.bias"}.get(lone, "albert.embeddings.word_embeddings.weight")
    config = transformers.AlbertConfig(**{key: v for key, v in to_hf(TINY).items() if key != "model_type"})
    model = transformers.AlbertForMaskedLM(config)
    save(model, tmp_path / "hf", ".bin")
    state = dict(model.state_dict())
    del state[source]
    torch.save(state, tmp_path / "hf/pytorch_model.bin")
    assert np.array_equal(convert.load(tmp_path / "hf").tensors[source].read(), state[lone].numpy())


def test_architectures_that_cannot_be_are_put_right(tmp_path, albert):
    model = making.model(without=("qa", "classifier", "sop", "mlm"))
    convert.save(model, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text()) | {"architectures": ["AlbertForMaskedLM"]}
    (tmp_path / "hf/config.json").write_text(json.dumps(config))
    code, out, err = albert("convert", tmp_path / "hf", tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["notes"][0] == (
        "config says AlbertForMaskedLM, but there is no masked-word head (MLM); read as AlbertModel"
    )
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["AlbertModel"]


def test_a_checkpoint_in_one_line(tmp_path):
    convert.save(making.model(without=("qa", "classifier")), tmp_path / "hf")
    text = repr(convert.load(tmp_path / "hf"))
    assert text == (
        f"<Checkpoint safetensors '{tmp_path / 'hf'}': 4 layers, E=6 H=8, 32 tensors, 1,038 parameters: embeddings, "
        "projection, encoder, pooler, mlm, sop>"
    )
