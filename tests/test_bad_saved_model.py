"""Damaged, hostile and foreign SavedModels: each refused in one line that names the file and the fault."""

import json
import os
import re
import shutil
import struct
import time

import making
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import GROUPED, TINY, call, field, function, node, saved_model_pb, varint

from converters import convert
from converters.errors import CheckpointError, CorruptError

QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
WORDS = "bert/embeddings/word_embeddings"
ASKED = "neither its variables nor its graph tell num_hidden_layers, num_attention_heads; say it with --config FILE"


@pytest.fixture
def source(tmp_path):
    return making.hub_module(tmp_path / "module")


@pytest.fixture
def graph(source):
    return source / "saved_model.pb"


def keras_variables(config=TINY, objects=None):
    """A TF2 module's variables: by number in the bundle, named in its graph of objects."""
    E, H, I, A = config.embedding_size, config.hidden_size, config.intermediate_size, config.num_attention_heads  # noqa: E741
    shapes = {
        "word_embeddings/embeddings": (config.vocab_size, E),
        "position_embedding/embeddings": (config.max_position_embeddings, E),
        "type_embeddings/embeddings": (config.type_vocab_size, E),
        "embeddings/layer_norm/gamma": (E,),
        "embeddings/layer_norm/beta": (E,),
        "embedding_projection/kernel": (E, H),
        "embedding_projection/bias": (H,),
        **{f"transformer/self_attention/{part}/kernel": (H, A, H // A) for part in ("query", "key", "value")},
        **{f"transformer/self_attention/{part}/bias": (A, H // A) for part in ("query", "key", "value")},
        "transformer/self_attention/attention_output/kernel": (A, H // A, H),
        "transformer/self_attention/attention_output/bias": (H,),
        "transformer/intermediate/kernel": (H, I),
        "transformer/intermediate/bias": (I,),
        "transformer/output/kernel": (I, H),
        "transformer/output/bias": (H,),
        **{
            f"transformer/{part}_layer_norm/{item}": (H,)
            for part in ("self_attention", "output")
            for item in ("gamma", "beta")
        },
        "pooler_transform/kernel": (H, H),
        "pooler_transform/bias": (H,),
    }
    return {name: making.values(shape, number) for number, (name, shape) in enumerate(shapes.items())}


def text_entry(data, offset):
    """The bytes of one string as TensorFlow stores it, and its entry in the index (tensor_bundle.cc)."""
    import google_crc32c

    start = making.masked_crc(struct.pack("<I", len(data)))
    crc = google_crc32c.value(struct.pack("<I", len(data)) + start + data)
    masked = struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    stored = varint(len(data)) + start + data
    entry = field(1, 7) + field(2, b"") + field(4, offset) + field(5, len(stored)) + varint(6 << 3 | 5) + masked
    return stored, entry


def keras_module(directory, arrays=None, *, names=None, objects=None, graph=None):
    """A TF2 module by hand; `objects` replaces the bytes of its graph of objects."""
    arrays = keras_variables() if arrays is None else arrays
    keys = {name: f"variables/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number, name in enumerate(arrays)}
    if objects is None:
        objects = b"".join(
            field(
                1,
                field(
                    2,
                    field(1, b"VARIABLE_VALUE")
                    + field(2, (names or {}).get(name, name).encode())
                    + field(3, key.encode()),
                ),
            )
            for name, key in keys.items()
        )
    (directory / "variables").mkdir(parents=True)
    data, entries = bytearray(), [(b"", making.bundle_header())]
    stored, entry = text_entry(objects, 0)
    data += stored
    entries.append((b"_CHECKPOINTABLE_OBJECT_GRAPH", entry))
    for name, key in sorted(keys.items(), key=lambda item: item[1]):
        entries.append((key.encode(), making.bundle_entry(arrays[name], offset=len(data))))
        data += arrays[name].tobytes()
    (directory / "variables/variables.index").write_bytes(making.table([making.table_block(entries)]))
    (directory / "variables/variables.data-00000-of-00001").write_bytes(data)
    if graph is None:
        query = "transformer/self_attention/query/kernel"
        layer = function("layer", ["x", "kernel"], node("read", "ReadVariableOp", "kernel"))
        calls = [call(f"call_{number}", "layer", "x", "kernel") for number in range(4)]
        graph = saved_model_pb(
            [node(query, "VarHandleOp"), call("out", "model", "ids", query)],
            [layer, function("model", ["x", "kernel"], *calls)],
            signature="serving_default",
        )
    (directory / "saved_model.pb").write_bytes(graph)
    return directory


def test_the_hand_written_modules_are_sound(source, tmp_path):
    """The base of all that follows: what is broken below is sound here."""
    assert convert.load(source).config.num_hidden_layers == 4
    found = convert.load(keras_module(tmp_path / "keras"))
    assert (found.config.num_hidden_layers, found.config.num_attention_heads, len(found.tensors)) == (4, 2, 25)
    kernel = keras_variables()["transformer/self_attention/key/kernel"]
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention"
    assert found.tensors[f"{layer}.key.weight"].read().tobytes() == kernel.reshape(8, 8).T.tobytes()
    kernel = keras_variables()["transformer/self_attention/attention_output/kernel"]
    assert found.tensors[f"{layer}.dense.weight"].read().tobytes() == kernel.reshape(8, 8).T.tobytes()


def test_another_file(source, refused):
    path = source / "tfhub_module.pb"
    assert refused("inspect", path, "--from", "saved-model") == (
        f"{path}: not a SavedModel; name its directory, or the saved_model.pb in it"
    )


# --- the graph's file


def test_no_graph(source, graph, tmp_path, refused):
    graph.unlink()
    assert refused("convert", source, tmp_path / "out") == (
        f"{source}: no saved_model.pb beside the variables; copy the whole module"
    )


def test_graph_truncated_anywhere(source, graph):
    sound = graph.read_bytes()
    for cut in {len(sound) * percent // 100 for percent in range(100)} | set(range(40)) | {len(sound) - 1}:
        graph.write_bytes(sound[:cut])
        with pytest.raises(CorruptError, match=f"^{re.escape(str(graph))}: not a sound SavedModel"):
            convert.load(source)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"\xff" * 100, b"PK\3\4 an archive", b"\x12\x02\x0a\x7f"],
    ids=["empty", "zeros", "ones", "archive", "cut short"],
)
def test_graph_of_another_kind_of_file(source, graph, tmp_path, refused, data):
    graph.write_bytes(data)
    assert refused("convert", source, tmp_path / "out").startswith(f"{graph}: not a sound SavedModel (")


def test_huge_graph(source, graph, refused):
    with open(graph, "r+b") as file:
        file.truncate(2**28)
    assert refused("inspect", source) == f"{graph}: larger than 32 MiB, so not the small file it should be"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (field(2, field(2, field(1, b"") * 200_000)), "two nodes of the name ''"),
        (field(2, field(2, b"".join(field(1, field(1, b"%d" % n)) for n in range(140_000)))), "more than 131072 nodes"),
        (field(2, field(2, b"\x08\0" * 2_000_000)), "a message of more than 1048576 fields"),
    ],
)
def test_endless_graphs(source, graph, refused, data, fault):
    """Many times their bytes would they take in memory."""
    graph.write_bytes(data)
    started = time.monotonic()
    assert fault in refused("inspect", source)
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("in_time")
def test_graph_that_is_a_pipe(source, graph, refused):
    graph.unlink()
    os.mkfifo(graph)
    assert refused("inspect", source) == f"{graph}: a pipe or device, not a regular file"


def functions_that_double(levels):
    """Each calls the next one twice: 2**levels reads from a few bytes."""
    calls = [
        function(f"f{level}", ["kernel"], *(call(f"c{number}", f"f{level + 1}", "kernel") for number in range(2)))
        for level in range(levels)
    ]
    return [*calls, function(f"f{levels}", ["kernel"], node("read", "ReadVariableOp", "kernel"))]


def functions_in_a_chain(levels):
    calls = [function(f"f{level}", ["kernel"], call("c", f"f{level + 1}", "kernel")) for level in range(levels)]
    return [*calls, function(f"f{levels}", ["kernel"], node("read", "ReadVariableOp", "kernel"))]


TOP = [node(QUERY, "VarHandleOp"), call("out", "f0", QUERY)]
HOSTILE = {
    "a function that calls itself": ([function("f0", ["kernel"], call("c", "f0", "kernel"))], "without end"),
    "two that call each other": (
        [function("f0", ["k"], call("c", "f1", "k")), function("f1", ["k"], call("c", "f0", "k"))],
        "without end",
    ),
    "a chain of functions": (functions_in_a_chain(5000), "its functions call one another without end"),
    "a function that is missing": ([function("f0", ["k"], call("c", "f9", "k"))], "function f9 is called and missing"),
    "more arguments than it takes": ([function("f0", [])], "function f0 is given more than it takes"),
    "endlessly many reads": (functions_that_double(60), ASKED),
    "a loop": ([function("f0", ["k"], node("while", "While", "k"))], ASKED),
    "no read at all": ([function("f0", ["k"])], ASKED),
    "identities in a ring": ([function("f0", ["k"], node("a", "Identity", "k", "a"))], "without end"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_functions(tmp_path, refused, name):
    functions, fault = HOSTILE[name]
    source = making.hub_module(tmp_path / "module", graph=saved_model_pb(TOP, functions))
    started = time.monotonic()
    assert fault in refused("inspect", source)
    assert time.monotonic() - started < 2


def test_messages_nested_without_end(source, graph, tmp_path, refused):
    """None is followed further than what is looked for there."""
    for tag in (1, 2, 5, 7):
        bomb = b""
        for _ in range(20_000):
            bomb = field(tag, bomb)
        graph.write_bytes(field(2, bomb))
        message = refused("inspect", source)
        assert message.startswith(f"{graph}: not a sound SavedModel (") or ASKED in message


GRAPHS = {
    "no signature": saved_model_pb(making.google_nodes(TINY), signature="__saved_model_init_op"),
    "an output that is no node": saved_model_pb(making.google_nodes(TINY), output="elsewhere"),
    "nodes in a ring": saved_model_pb([node("out", "Mul", "other"), node("other", "Mul", "out")]),
    "another layout of heads": saved_model_pb(
        [
            node(QUERY, "VarHandleOp"),
            node("read", "ReadVariableOp", QUERY),
            making.constant("shape", [8, 3, 2]),
            node("out", "Reshape", "read", "shape"),
        ]
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_tell_nothing(tmp_path, refused, name):
    message = refused("inspect", making.hub_module(tmp_path / "module", graph=GRAPHS[name]))
    assert "num_attention_heads; say it with --config FILE" in message


def test_groups_that_are_applied_unevenly(tmp_path, refused):
    """No ALBERT uses its first group three times and its second once."""
    odd = making.google_nodes(GROUPED)
    kernels = [QUERY, QUERY.replace("group_0/inner", "group_1/inner")]
    odd = [item.replace(kernels[1].encode(), kernels[0].encode()) if b"layer_2/read" in item else item for item in odd]
    source = making.hub_module(tmp_path / "module", GROUPED, graph=saved_model_pb(odd))
    assert "tell num_hidden_layers; say it with --config FILE" in refused("inspect", source)


def test_training_graph_is_not_the_one_looked_at(source, graph):
    """A module of TF1 may have a second graph, tagged for training."""
    training = saved_model_pb([node("out", "Placeholder")], tags=("train",))
    graph.write_bytes(training + graph.read_bytes())
    assert convert.load(source).config.num_hidden_layers == 4


# --- Keras settings


def keras_metadata(data):
    return field(1, field(5, data))


def test_layers_from_keras_where_the_graph_tells_none(tmp_path):
    source = keras_module(tmp_path / "m", graph=saved_model_pb([node("out", "Placeholder")]))
    inner = {
        "num_layers": 6,
        "num_attention_heads": 2,
        "dropout_rate": 0.1,
        "attention_dropout_rate": 0.2,
        "initializer": {"config": {"stddev": 0.5}},
    }
    settings = {"config": {"layers": [{"class_name": "AlbertEncoder", "config": inner}]}}
    (source / "keras_metadata.pb").write_bytes(keras_metadata(json.dumps(settings).encode()))
    found = convert.load(source)
    config = found.config
    assert (config.num_hidden_layers, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (6, 0.1, 0.2)
    assert config.initializer_range == 0.5
    assert found.notes[1:] == [
        "assumed, for the module does not tell: hidden_act gelu_new, layer_norm_eps 1e-12; --config FILE says otherwise"
    ]


def test_keras_and_graph_that_disagree(tmp_path, refused):
    source = keras_module(tmp_path / "m")
    (source / "keras_metadata.pb").write_bytes(keras_metadata(b'{"num_layers": 6, "num_attention_heads": 2}'))
    assert "tell num_hidden_layers; say it with --config FILE" in refused("inspect", source)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\xff", "not a sound SavedModel (index out of range"),
        (keras_metadata(b'"num_layers" "num_attention_heads"'), "not a sound SavedModel (Extra data"),
        (keras_metadata(b"[" * 100_000 + b'"num_layers" "num_attention_heads"'), "not a sound SavedModel ("),
        (
            keras_metadata(b'{"num_layers": "x", "num_attention_heads": 2, "dropout_rate": "much"}'),
            "hidden_dropout_prob is 'much'",
        ),
    ],
)
def test_damaged_keras_settings(tmp_path, refused, data, fault):
    source = keras_module(tmp_path / "m")
    (source / "keras_metadata.pb").write_bytes(data)
    assert fault in refused("inspect", source)


# --- variables


def test_no_variables(source, tmp_path, refused):
    shutil.rmtree(source / "variables")
    assert refused("convert", source, tmp_path / "out") == (
        f"{source}: no variables/variables.index, so a SavedModel without variables, not an ALBERT"
    )


def test_no_variable_in_them(tmp_path, refused):
    source = making.hub_module(tmp_path / "m", variables={})
    assert refused("inspect", source) == f"{source}: a SavedModel without the variables of an ALBERT (it holds none)"


def test_data_file_missing_or_cut(source, tmp_path, refused):
    data = source / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    assert refused("convert", source, tmp_path / "out").startswith(f"{data}: truncated; tensor ")
    data.unlink()
    assert refused("convert", source, tmp_path / "out") == f"{data}: missing; the index names 1 data file"


def test_another_models_variables(tmp_path, refused):
    names = ["EncoderDNN/DNN/ResidualHidden_0/dense/kernel", "Embeddings/sharded_0"]
    source = making.hub_module(tmp_path / "m", variables={name: making.values((3, 4), 1) for name in names})
    assert refused("inspect", source) == (
        f"{source}: a SavedModel without the variables of an ALBERT (it holds {names[1]}, {names[0]})"
    )


@pytest.mark.parametrize("name", ["bert/encoder/layer_0/attention/self/key/kernel", "transformer/layer_0/output/bias"])
def test_a_bert(tmp_path, refused, name):
    source = making.hub_module(tmp_path / "m", variables=making.google_variables(TINY) | {name: making.values((8,), 1)})
    assert refused("inspect", source) == (
        f"{source}: a BERT, whose layers share no weights, not an ALBERT; seen in variable {name}"
    )


def test_an_early_albert_zh(tmp_path, refused):
    name = "bert/embeddings/word_embeddings_2"
    source = making.hub_module(tmp_path / "m", variables=making.google_variables(TINY) | {name: making.values((8,), 1)})
    assert "an early community albert_zh checkpoint" in refused("inspect", source)


@pytest.mark.parametrize("kind", ["TF1", "TF2"])
def test_unknown_variables_are_listed(tmp_path, refused, kind):
    extra = {"something/else": making.values((2, 3), 1), "and/more": making.values((2,), 2)}
    if kind == "TF1":
        source = making.hub_module(tmp_path / "m", variables=making.google_variables(TINY) | extra)
        listed = "and/more, something/else"
    else:
        source = keras_module(tmp_path / "m", keras_variables() | extra)
        listed = "something/else, and/more"
    message = refused("convert", source, tmp_path / "out")
    assert message.startswith(f"{source} holds 2 variables that the config (1 groups of 1) has no place for: ")
    assert set(message.partition("for: ")[2].split(", ")) == set(listed.split(", "))


def test_missing_variables_are_listed(tmp_path, refused):
    arrays = {name: array for name, array in keras_variables().items() if "transformer/output/" not in name}
    assert "2 tensors missing: albert.encoder." in refused("inspect", keras_module(tmp_path / "m", arrays))


def test_missing_variables_that_tell_sizes(tmp_path, refused):
    arrays = making.google_variables(TINY)
    del arrays["bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"]
    arrays[WORDS] = arrays[WORDS].reshape(-1)
    assert "tell embedding_size, intermediate_size; say it" in refused(
        "inspect", making.hub_module(tmp_path / "m", variables=arrays)
    )


WRONG = {
    "heads of another size": (
        "transformer/self_attention/value/kernel",
        (8, 4, 2),
        "transformer/self_attention/value/kernel cannot be of shape [8, 4, 2] (2 heads of 8 make it [8, 2, 4])",
    ),
    "heads in one": (
        "transformer/self_attention/value/bias",
        (8,),
        "transformer/self_attention/value/bias cannot be of shape [8] (2 heads of 8 make it [2, 4])",
    ),
    "output by columns": (
        "transformer/self_attention/attention_output/kernel",
        (8, 2, 4),
        "cannot be of shape [8, 2, 4] (2 heads of 8 make it [2, 4, 8])",
    ),
    "another width": (
        "transformer/output/kernel",
        (12, 9),
        "ffn_output.weight is [9, 12], the config asks for [8, 12]",
    ),
    "a scalar": ("pooler_transform/kernel", (), "albert.pooler.weight is [], the config asks for [8, 8]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes(tmp_path, refused, name):
    variable, shape, fault = WRONG[name]
    arrays = keras_variables() | {variable: making.values(shape, 1)}
    assert fault in refused("inspect", keras_module(tmp_path / "m", arrays))


def test_two_variables_of_one_name(tmp_path, refused):
    names = {"pooler_transform/bias": "transformer/output/bias"}
    source = keras_module(tmp_path / "m", names=names)
    assert refused("inspect", source) == (
        f"{source}: 1 of its variables bear the name of another, so they cannot be told apart"
    )


@pytest.mark.parametrize(
    "objects", [b"\xff", field(1, field(2, field(3, b"\xff\xff") + field(2, b"\xfe"))), field(1, 7)]
)
def test_damaged_graph_of_objects(tmp_path, refused, objects):
    source = keras_module(tmp_path / "m", objects=objects)
    message = refused("inspect", source)
    assert message.startswith(
        f"{source / 'variables/variables'}.index: its _CHECKPOINTABLE_OBJECT_GRAPH is not sound ("
    )


def test_graph_of_objects_with_a_byte_changed(tmp_path, refused):
    source = keras_module(tmp_path / "m")
    data = source / "variables/variables.data-00000-of-00001"
    changed = bytearray(data.read_bytes())
    changed[300] ^= 1
    data.write_bytes(changed)
    assert refused("inspect", source) == (
        f"{data}: tensor _CHECKPOINTABLE_OBJECT_GRAPH is damaged (its CRC-32C does not match the index)"
    )


def test_damaged_config_among_the_assets(source, refused):
    (source / "assets/albert_config.json").write_text("{")
    assert refused("inspect", source).startswith(f"{source / 'assets/albert_config.json'} is not JSON: ")


def test_counters_of_keras_are_left_out_and_said(tmp_path, albert):
    source = keras_module(tmp_path / "m", keras_variables() | {"save_counter": np.asarray(3, np.int64)})
    facts = json.loads(albert("inspect", source, "--json")[1])
    assert facts["dropped"] == {"counter of checkpoints": 1}


# --- anything at all


@given(data=st.data())
@settings(max_examples=150)
def test_any_change_of_the_graph_is_read_or_refused(tmp_path_factory, data):
    """Bytes replaced, cut out or put in anywhere: a checkpoint or our own error, never another."""
    sound = saved_model_pb(making.google_nodes(TINY))
    place = data.draw(st.integers(0, len(sound)))
    length = data.draw(st.integers(0, 8))
    changed = sound[:place] + data.draw(st.binary(max_size=8)) + sound[place + length :]
    folder = tmp_path_factory.mktemp("any")
    try:
        found = convert.load(making.hub_module(folder / "m", graph=changed))
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert len(found.tensors) == 32
    shutil.rmtree(folder)


@given(data=st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_as_a_graph(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    with pytest.raises(CheckpointError):
        convert.load(making.hub_module(folder / "m", graph=data))
    shutil.rmtree(folder)
