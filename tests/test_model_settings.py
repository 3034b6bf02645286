"""Every known setting of a config and of the files beside it: honoured, without effect, or refused by name.

transformers is the oracle of what a setting does; a key or file that a library writes and the table lacks is a fault.
"""

import dataclasses
import json
import shutil

import making
import numpy as np
import pytest
import torch

from albert_cli.model.loading import load_model
from albert_cli.model.task_heads import Classifier
from converters import convert
from converters.activations import ACTIVATIONS
from converters.config_keys import CONFIG, CONFIG_KEYS
from converters.dialects import config_from_json
from converters.errors import ConfigError, SpecError
from converters.known_keys import refusals
from converters.model_settings import KNOWN_KEYS

pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = {
    "vocab_size": 30,
    "embedding_size": 6,
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
IDS = torch.tensor([[2, 7, 8, 9, 10, 3, 0, 0], [2, 5, 6, 11, 12, 13, 14, 3]])


def keys(treatment):
    return [key for key in CONFIG_KEYS if key.file == CONFIG and key.treatment == treatment]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A random model with its masked-word head, as the installed transformers saves it."""
    from transformers import AlbertConfig as HfConfig
    from transformers import AlbertForMaskedLM

    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("written") / "hf"
    AlbertForMaskedLM(HfConfig(**SIZES, initializer_range=0.5)).save_pretrained(target)
    return target


@pytest.fixture
def model(written, tmp_path):
    return shutil.copytree(written, tmp_path / "given")


def change(directory, **values):
    path = directory / CONFIG
    data = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def ours(directory):
    """Hidden states and logits of the masked-word head, as this program computes them."""
    found = load_model(directory)
    with torch.inference_mode():
        output = found(IDS, (IDS != 0).long())
    return output.encoder.sequence_output.numpy(), output.prediction_logits.numpy()


def theirs(directory):
    from transformers import AlbertForMaskedLM

    found = AlbertForMaskedLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        output = found(IDS, attention_mask=(IDS != 0).long(), output_hidden_states=True, return_dict=True)
    return output.hidden_states[-1].numpy(), output.logits.numpy()


def agree(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) < 2e-5


# --- refused


@pytest.mark.parametrize("dialect", ["hf", "google"])
@pytest.mark.parametrize("key", keys("refused"), ids=lambda key: key.key)
def test_every_refused_key_is_refused_by_name(key, dialect):
    with pytest.raises(ConfigError) as raised:
        config_from_json({**SIZES, key.key: "other"}, "here", dialect=dialect)
    assert str(raised.value) == f"here: {key.key} is 'other': {key.note}"
    for value in key.harmless:
        assert config_from_json({**SIZES, key.key: value}, "here", dialect=dialect).extra == {key.key: value}


def test_all_refused_keys_at_once_in_one_line(model, refused, tmp_path):
    change(model, position_embedding_type="relative_key", quantization_config={"bits": 8, "more": "x" * 500})
    fault = refused("convert", model, tmp_path / "out")
    assert fault.startswith(f"{model / CONFIG}: position_embedding_type is 'relative_key': only absolute positions")
    assert "; quantization_config is {'bits': 8, 'more': 'xxx" in fault
    assert len(fault) < 600


@pytest.mark.parametrize("file", [key.file for key in CONFIG_KEYS if not key.key and key.treatment == "refused"])
def test_every_refused_file_is_refused_by_name(model, refused, file):
    (model / file).write_text("{}")
    (note,) = [key.note for key in CONFIG_KEYS if key.file == file]
    assert refused("inspect", model) == f"{model / file}: {note}"
    for entry in model.iterdir():
        if entry.name != file:
            entry.unlink()
    assert refused("inspect", model) == f"{model / file}: {note}"


def test_refusals_come_from_the_table():
    assert refusals({"auto_map": {"AutoModel": "x.Y"}}, (), CONFIG) == []
    assert len({(key.file, key.key) for key in KNOWN_KEYS}) == len(KNOWN_KEYS)


# --- without effect

# What a library of some version may have written; transformers refuses other values itself.
SAMPLES = {
    "architectures": ["AlbertForMaskedLM"],
    "dtype": "float16",
    "torch_dtype": "bfloat16",
    "label2id": {"no": 0, "yes": 1},
    "num_labels": 5,
    "attn_implementation": "eager",
    "_attn_implementation": "eager",
    "_attn_implementation_internal": "eager",
    "experts_implementation": "eager",
    "chunk_size_feed_forward": 4,
    "layers_to_keep": [1],
    "task_specific_params": {"a": 1},
    "tokenizer_class": "BertTokenizer",
    "transformers_version": "2.3.0",
    "_name_or_path": "a/b",
    "name_or_path": "a/b",
    "_commit_hash": "0123",
    "filename": "albert_config.json",
    "language": "en",
    "finetuning_task": "cola",
    "bad_words_ids": [[1]],
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
    "prefix": "a",
}
# Its attribute of this name cannot be set.
NOT_TRANSFORMERS = ("use_return_dict",)


def sample(key):
    return SAMPLES.get(key, 7 if key.endswith("_id") or "num" in key or "size" in key else True)


def test_keys_without_effect_change_nothing(model):
    before = ours(model)
    values = {key.key: sample(key.key) for key in keys("no effect")}
    change(model, **values)
    assert agree(ours(model), before)
    assert not convert.load(model).notes
    target = model.parent / "again"
    convert.convert(model, target)
    kept = json.loads((target / CONFIG).read_text())
    assert {key: kept[key] for key in values if key not in ("dtype", "torch_dtype")} == {
        key: value for key, value in values.items() if key not in ("dtype", "torch_dtype")
    }


@pytest.mark.parametrize("key", [key.key for key in keys("no effect")])
def test_keys_without_effect_have_none_in_transformers(model, key):
    if key in NOT_TRANSFORMERS:
        pytest.skip("transformers cannot read it")
    change(model, **{key: sample(key)})
    assert agree(theirs(model), ours(model))


def test_unknown_keys_are_kept_and_noted(model, albert, tmp_path):
    change(model, another="x", my_own_key=[1])
    code, out, _ = albert("convert", model, tmp_path / "out", "--json")
    assert code == 0
    note = "the config has 'another', 'my_own_key', no known setting of an encoder: kept, without effect"
    assert note in json.loads(out)["notes"]
    assert convert.load(tmp_path / "out").config.extra["my_own_key"] == [1]


# --- honoured

# Sizes of which another value fits other weights only.
WRONG_SIZES = {
    "vocab_size": 31,
    "embedding_size": 7,
    "hidden_size": 10,
    "num_hidden_groups": 2,
    "inner_group_num": 2,
    "intermediate_size": 13,
    "max_position_embeddings": 17,
    "type_vocab_size": 3,
}
OTHER_NUMBERS = {"num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_eps": 0.5}
SEEN_ELSEWHERE = {
    "id2label": "tests/test_finetune.py",
    "problem_type": "tests/test_finetune.py",
    "share": "test_model.py",
    "hf_hidden_act": "test_roundtrips.py",
    "tie_word_embeddings": "test_transformers_classes.py",
    "classifier_dropout": "test_families.py",
}


@pytest.mark.parametrize("key", [key.key for key in keys("honoured")])
def test_every_honoured_key_is_honoured(model, key):
    before = ours(model)
    if key == "model_type":
        change(model, model_type="xlnet")
        with pytest.raises(ConfigError, match="has model_type 'xlnet'; supported is albert, bert, electra, roberta"):
            ours(model)
    elif key in WRONG_SIZES:
        change(model, **{key: WRONG_SIZES[key]})
        with pytest.raises(SpecError):
            ours(model)
    elif key in OTHER_NUMBERS:
        change(model, **{key: OTHER_NUMBERS[key]})
        assert agree(ours(model), theirs(model))
        assert not agree(ours(model), before)
    elif key == "initializer_range":
        change(model, initializer_range=0.0)
        assert not Classifier(convert.load(model).config, 2).classifier.weight.any()
    elif key.endswith("dropout_prob"):
        change(model, **{key: 0.25})
        made = Classifier(convert.load(model).config, 2)
        drops = [part.p for part in made.modules() if isinstance(part, torch.nn.Dropout)]
        drops += [part.probs_dropout_prob for part in made.modules() if hasattr(part, "probs_dropout_prob")]
        assert 0.25 in drops
    else:
        assert key in {*SEEN_ELSEWHERE, "hidden_act", "classifier_dropout_prob"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_that_of_transformers(model, name):
    change(model, hidden_act=name)
    assert agree(ours(model), theirs(model))


@pytest.mark.parametrize("name", ["gelu_10", "prelu", "xielu", "laplace", "gelu_old", ""])
def test_other_activations_are_refused(model, name):
    change(model, hidden_act=name)
    with pytest.raises(ConfigError, match=f"config.json: hidden_act is {name!r}, not one of gelu, gelu_accurate"):
        load_model(model)


def test_a_head_without_a_dropout_of_its_own(model, tmp_path):
    change(model, classifier_dropout_prob=None, hidden_dropout_prob=0.25)
    checkpoint = dataclasses.replace(convert.load(model), tokenizer=making.tokenizer())
    assert checkpoint.config.head_dropout_prob == Classifier(checkpoint.config, 2).dropout.p == 0.25
    for target in ("x.npz", "x.bson", "hf"):
        convert.save(checkpoint, tmp_path / target)
        assert convert.load(tmp_path / target).config.head_dropout_prob == 0.25


# --- what the libraries write


def test_every_key_that_transformers_writes_is_known(tmp_path):
    import transformers

    classes = [getattr(transformers, name) for name in dir(transformers) if name.startswith("Albert")]
    models = [one for one in classes if isinstance(one, type) and issubclass(one, transformers.PreTrainedModel)]
    assert len(models) >= 7
    options = {"problem_type": "multi_label_classification", "id2label": {0: "a", 1: "b", 2: "c"}, "is_decoder": True}
    for one in models:
        if one.__name__ != "AlbertPreTrainedModel":
            one(transformers.AlbertConfig(**SIZES, **options)).save_pretrained(tmp_path / one.__name__)
    transformers.AlbertConfig(**SIZES).save_pretrained(tmp_path / "plain")
    (tmp_path / "full").mkdir()
    full = transformers.AlbertConfig(**SIZES, output_attentions=True).to_json_string(use_diff=False)
    (tmp_path / "full" / CONFIG).write_text(full)
    assert unknown(tmp_path) == set()
    assert config_from_json(json.loads(full), "here", dialect="hf")


def test_every_key_that_sentence_transformers_writes_is_known(letter_model, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.base.modules.normalize import Normalize
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    options = {"query_length": 8, "processing_kwargs": {"text": {"padding": True}}, "unpad_inputs": False}
    encoder = Transformer(str(letter_model), **options)
    more = {"prompts": {"query": "q: "}, "default_prompt_name": "query", "truncate_dim": 4}
    SentenceTransformer(modules=[encoder, Pooling(16, "cls"), Normalize()], device="cpu").save(str(tmp_path / "one"))
    SentenceTransformer(modules=[encoder, Pooling(16), Dense(16, 8)], device="cpu", **more).save(str(tmp_path / "two"))
    assert unknown(tmp_path) == set()


def unknown(folder):
    """Files and keys below a folder that the table does not know; modules by their class, wherever they are listed."""
    known = {(key.file, key.key) for key in KNOWN_KEYS}
    found = set()
    for path in folder.rglob("*"):
        place = path.parent.name.partition("_")[2]
        file = {"Pooling": "1_Pooling/", "Normalize": "2_Normalize/", "Dense": "2_Dense/"}.get(place, "") + path.name
        weights = path.suffix in (".safetensors", ".bin")
        if (
            path.is_dir()
            or weights
            or (file, "") in known
            or path.name == "tokenizer.json"
            or file.startswith("2_Dense")
        ):
            continue
        if path.suffix != ".json":
            found.add((file, ""))
            continue
        data = json.loads(path.read_text())
        for settings in data if isinstance(data, list) else [data]:
            found |= {(file, key) for key in settings}
    return found - known
