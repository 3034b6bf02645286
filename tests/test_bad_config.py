"""Configs that are damaged, contradict themselves or the weights: all faults in one line that names file and key."""

import dataclasses
import json
import re
import shutil

import making
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import convert
from converters.activations import ACTIVATIONS
from converters.config import dump_json, parse_json
from converters.dialects import config_from_json, to_google, to_hf
from converters.errors import CheckpointError, ConfigError

NO_SIZE = "not a whole number from 1 to 1073741823"
GOOGLE, HF = "albert_config.json", "config.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    convert.save(making.model(), folder / "hf", format="safetensors")
    making.tf1(folder / "tf")
    return folder


@pytest.fixture(params=["tf", "hf"])
def config(request, sound, tmp_path):
    """The config file of a sound model, in both dialects."""
    shutil.copytree(sound / request.param, tmp_path / request.param)
    return tmp_path / request.param / (GOOGLE if request.param == "tf" else HF)


def change(path, **values):
    data = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


# --- not a config


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not JSON: Expecting value at line 1 column 1"),
        (b"{", "is not JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        (b'{"vocab_size": 30,\n"a" 1}', "is not JSON: Expecting ':' delimiter at line 2 column 5"),
        (b"{} {}", "is not JSON: Extra data at line 1 column 4"),
        (b"vocab_size: 30", "is not JSON: Expecting value at line 1 column 1"),
        (b"\xff\xfe{\0}\0", "is not UTF-8 text (byte 0): not a JSON config"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "is not a usable JSON config: key 'c' occurs twice"),
        (b'{"layer_norm_eps": NaN}', "is not a usable JSON config: NaN is no JSON number"),
        (b'{"layer_norm_eps": -Infinity}', "is not a usable JSON config: -Infinity is no JSON number"),
        (b"[1, 2]", "holds a JSON list, not an object of settings"),
        (b'"text"', "holds a JSON str, not an object of settings"),
        (b"null", "holds a JSON NoneType, not an object of settings"),
    ],
)
def test_not_a_config(config, refused, tmp_path, content, fault):
    config.write_bytes(content)
    assert refused("convert", config.parent, tmp_path / "out") == f"{config}: {fault}"


@pytest.mark.parametrize("content", [b'{"a":' * 200_000, b"[" * 200_000, b'{"vocab_size": ' + b"9" * 5000 + b"}"])
def test_endless_config(config, refused, content):
    config.write_bytes(content)
    assert refused("inspect", config.parent).startswith(f"{config}: is not ")


def test_huge_config_file(config, refused):
    with open(config, "wb") as file:
        file.truncate(64 * 2**20 + 1)
    assert refused("inspect", config.parent) == f"{config}: larger than 64 MiB, so not the small file it should be"


def test_byte_order_mark_is_no_fault(config):
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert convert.load(config.parent).config.vocab_size == 30


def test_missing_keys_are_listed(config, refused):
    change(config, hidden_size=..., vocab_size=...)
    assert refused("inspect", config.parent) == f"{config}: lacks vocab_size, hidden_size"


# --- wrong types and values


def test_every_wrong_type_at_once(config, refused):
    change(config, vocab_size="30", hidden_size=8.0, num_hidden_layers=True, num_hidden_groups=0, type_vocab_size=None)
    wrong = {
        "vocab_size": "'30'",
        "hidden_size": "8.0",
        "num_hidden_layers": "True",
        "num_hidden_groups": "0",
        "type_vocab_size": "None",
    }
    assert refused("inspect", config.parent) == f"{config}: " + "; ".join(
        f"{key} is {value}, {NO_SIZE}" for key, value in wrong.items()
    )


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("vocab_size", -1, f"vocab_size is -1, {NO_SIZE}"),
        ("vocab_size", 2**31, f"vocab_size is 2147483648, {NO_SIZE}"),
        ("embedding_size", [6], f"embedding_size is [6], {NO_SIZE}"),
        ("initializer_range", "small", "initializer_range is 'small', not a number from 0 up"),
        ("initializer_range", -0.1, "initializer_range is -0.1, not a number from 0 up"),
        ("layer_norm_eps", {}, "layer_norm_eps is {}, not a number from 0 up"),
        ("hidden_dropout_prob", True, "hidden_dropout_prob is True, not a number from 0 up"),
        ("hidden_act", 3, "hidden_act is 3, not a name"),
        ("hidden_act", "geglu", f"hidden_act is 'geglu', not one of {', '.join(ACTIVATIONS)}"),
        ("hidden_act", "", f"hidden_act is '', not one of {', '.join(ACTIVATIONS)}"),
        ("hidden_act", ["gelu"], "hidden_act is ['gelu'], not a name"),
        ("hidden_act", None, "hidden_act is None, not a name"),
        ("share", ["all"], "share is ['all'], not a name"),
        ("share", "some", "share is 'some', not one of all, attention, ffn, none"),
        ("share", "none", "share 'none' needs num_hidden_groups = num_hidden_layers and inner_group_num = 1"),
        ("num_attention_heads", 3, "hidden_size 8 is not a multiple of num_attention_heads 3"),
        ("num_hidden_groups", 5, "num_hidden_groups 5 exceeds num_hidden_layers 4"),
        ("tie_word_embeddings", "false", "tie_word_embeddings is 'false', not true or false"),
        ("inner_group_num", 2**29, "num_hidden_groups x inner_group_num is 536870912, more than 4096 layers"),
    ],
)
def test_wrong_values(config, refused, key, value, fault):
    change(config, **{key: value})
    assert refused("inspect", config.parent) == f"{config}: {fault}"


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_numbers_beyond_all_numbers(config, refused, number):
    change(config, layer_norm_eps="HERE")
    config.write_text(config.read_text().replace('"HERE"', number))
    assert refused("inspect", config.parent).endswith("inf, not a number from 0 up")


def test_another_kind_of_model(sound, tmp_path, refused):
    shutil.copytree(sound / "hf", tmp_path / "hf")
    config = tmp_path / "hf" / HF
    change(config, model_type="xlnet")
    known = "albert, bert, electra, roberta"
    assert refused("inspect", tmp_path / "hf") == f"{config}: has model_type 'xlnet'; supported is {known}"
    change(config, model_type="bert")
    seen = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
    assert refused("inspect", tmp_path / "hf").startswith(
        f"{config}: the config says bert, the tensors are those of albert (as '{seen[:50]}"
    )


def test_a_missing_model_type_is_read_off_the_tensors(sound, tmp_path, albert):
    shutil.copytree(sound / "hf", tmp_path / "hf")
    data = json.loads((tmp_path / "hf" / HF).read_text())
    del data["model_type"]
    (tmp_path / "hf" / HF).write_text(json.dumps(data))
    code, out, _ = albert("inspect", tmp_path / "hf", "--json")
    assert (code, json.loads(out)["config"]["model_type"]) == (0, "albert")


# --- shapes


def test_every_shape_fault_at_once(config, refused, tmp_path):
    change(config, vocab_size=31, max_position_embeddings=11, type_vocab_size=3)
    where = config.parent / "model.ckpt-best" if config.name == GOOGLE else config.parent
    heads = 1  # predictions.bias, which has the vocabulary's size
    assert refused("convert", config.parent, tmp_path / "out") == (
        f"{where}: does not match its config: {3 + heads} tensors of another shape: "
        "albert.embeddings.word_embeddings.weight is [30, 6], the config asks for [31, 6]; "
        "albert.embeddings.position_embeddings.weight is [10, 6], the config asks for [11, 6]; "
        "albert.embeddings.token_type_embeddings.weight is [2, 6], the config asks for [3, 6]; "
        "predictions.bias is [30], the config asks for [31]; look at vocab_size, max_position_embeddings, "
        "type_vocab_size in the config: weights and config must be of one model"
    )


def test_many_faults_are_counted(config, refused):
    change(config, hidden_size=16, intermediate_size=13)
    message = refused("inspect", config.parent)
    count = int(re.search(r"config: (\d+) tensors of another shape: ", message)[1])
    assert count == (22 if config.name == GOOGLE else 23)  # one with a classification head
    assert message.count("the config asks for") == 8
    assert message.endswith(
        f" and {count - 8} more; look at hidden_size, intermediate_size in the config: weights and config must be of "
        "one model"
    )


def test_huge_sizes_take_no_memory(config, refused):
    change(config, vocab_size=2**30 - 1, hidden_size=2**30 - 2, intermediate_size=2**30 - 1, num_attention_heads=2)
    assert "[30, 6], the config asks for [1073741823, 6]; " in refused("inspect", config.parent)


@pytest.mark.parametrize("layers", [512, pytest.param(4096, marks=pytest.mark.slow)])
def test_more_layers_of_weights_than_the_file_has(config, refused, layers):
    change(config, num_hidden_layers=layers, num_hidden_groups=layers)
    message = refused("inspect", config.parent)
    first = "albert.encoder.albert_layer_groups.1.albert_layers.0.attention.query."
    assert f"{(layers - 1) * 16} tensors missing: {first}" in message


# --- what has no meaning here stays


def test_unknown_keys_and_odd_text_survive_the_way_round(sound, tmp_path, albert):
    shutil.copytree(sound / "tf", tmp_path / "tf")
    odd = {"ключ": "значение", "lone": "\ud800", "nested": {"a": [1, 2.5, None, True]}, "net_structure_type": 0}
    change(tmp_path / "tf" / GOOGLE, **odd)
    current = tmp_path / "tf"
    for target in ("hf", "x.npz", "back"):
        code, _, err = albert("convert", current, tmp_path / target, *(["--to", "tf"] if target == "back" else []))
        assert (code, err) == (0, "")
        current = tmp_path / target
    data = json.loads((current / GOOGLE).read_text())
    assert {key: data[key] for key in odd} == odd
    assert convert.load(tmp_path / "tf").config == convert.load(current).config


@pytest.mark.parametrize("dtype_key", ["dtype", "torch_dtype"])
def test_hugging_face_config_beside_a_tensorflow_checkpoint(sound, tmp_path, albert, dtype_key):
    """People copy config.json over: its keys must not stop a conversion."""
    shutil.copytree(sound / "tf", tmp_path / "tf")
    hf = json.loads((sound / "hf" / HF).read_text())
    change(tmp_path / "tf" / GOOGLE, model_type="albert", architectures=hf["architectures"], **{dtype_key: "float32"})
    code, _, err = albert("convert", tmp_path / "tf", tmp_path / "out")
    assert (code, err) == (0, "")
    assert albert("diff", tmp_path / "tf", tmp_path / "out")[0] == 0


def test_another_model_type_beside_a_tensorflow_checkpoint(sound, tmp_path, refused):
    shutil.copytree(sound / "tf", tmp_path / "tf")
    change(tmp_path / "tf" / GOOGLE, model_type="bert")
    message = f"{tmp_path / 'tf' / GOOGLE}: the config says bert, the tensors are those of albert (as 'bert/encoder/"
    assert refused("inspect", tmp_path / "tf").startswith(message)


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh", "swish"])
def test_activations_survive_the_way_round(act):
    config = dataclasses.replace(making.TINY, hidden_act=act)
    there = config_from_json(to_google(config), "x", dialect="google")
    assert there == config
    assert config_from_json(to_hf(there), "x", dialect="hf") == config


# --- init


def test_init_with_a_bad_config(tmp_path, refused):
    path = tmp_path / "mine.json"
    path.write_text('{"vocab_size": 30')
    assert refused("init", tmp_path / "out", "--model-config", path) == (
        f"{path}: is not JSON: Expecting ',' delimiter at line 1 column 18"
    )
    assert refused("init", tmp_path / "out", "--model-config", tmp_path / "none.json") == (
        f"{tmp_path / 'none.json'}: no such file or directory"
    )
    assert refused("init", tmp_path / "out", "--model-config", tmp_path) == (
        f"{tmp_path}: a directory where a file was expected"
    )


def test_init_of_a_model_beyond_memory(tmp_path, refused):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(to_google(making.TINY) | {"vocab_size": 2**30 - 1, "embedding_size": 2**30 - 1}))
    message = refused("init", tmp_path / "out", "--model-config", path)
    assert "out of memory" in message or "the disk is full" in message


# --- anything at all

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = st.sampled_from([*to_hf(making.TINY), "share", "hf_hidden_act", "architectures", "dtype", "odd"])


@given(st.dictionaries(_KEYS, _JSON, max_size=3), st.sampled_from(["google", "hf"]))
@settings(max_examples=400, deadline=None)
def test_any_settings_give_a_config_or_our_error(values, dialect):
    base = to_google(making.TINY) if dialect == "google" else to_hf(making.TINY)
    if dialect == "hf":
        values.pop("hf_hidden_act", None)  # a key of the other dialect only
    try:
        config = config_from_json(base | values, "the file", dialect=dialect)
    except ConfigError as error:
        assert str(error).startswith("the file")
    else:
        for into in ("google", "hf"):
            data = to_google(config) if into == "google" else to_hf(config)
            try:
                text = parse_json(dump_json(data), "x")
            except ConfigError:  # NaN or an infinity in an unknown key, which no file can hold
                continue
            assert config_from_json(text, "x", dialect=into) == config


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_json_or_our_error(content):
    try:
        parse_json(content, "the file")
    except CheckpointError as error:
        assert str(error).startswith("the file: is not ")
