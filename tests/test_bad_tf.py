"""Damaged, hostile and foreign TensorFlow checkpoints: each refused in one line that names file and tensor."""

import dataclasses
import json
import re
import struct

import making
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import TINY, bundle_header, field, table, table_block, varint

from converters import convert
from converters.errors import CheckpointError, CorruptError, SpecError

QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"


@pytest.fixture
def source(tmp_path):
    return making.tf1(tmp_path / "tf")


@pytest.fixture
def index(source):
    return source / "model.ckpt-best.index"


@pytest.fixture
def data(source):
    return source / "model.ckpt-best.data-00000-of-00001"


def variables():
    return {name: np.asarray(array) for name, array in making.google_variables(TINY).items()}


# --- the hand-written checkpoints are what TensorFlow takes for its own


@pytest.mark.parametrize("pack", [None, making.snappy, lambda data: making.snappy(data, copy4=True)])
def test_tensorflow_reads_the_hand_written_checkpoints_and_so_do_we(tmp_path, pack):
    import tensorflow as tf

    source = making.tf1(tmp_path / "tf", pack=pack, split=9, shards=3)
    reader = tf.train.load_checkpoint(str(source / "model.ckpt-best"))
    wanted = making.google_variables(TINY)
    assert set(reader.get_variable_to_shape_map()) == {*wanted, "global_step"}
    for name, array in wanted.items():
        assert reader.get_tensor(name).tobytes() == array.tobytes()
    checkpoint = convert.load(source)
    assert checkpoint.global_step == 7
    query = checkpoint.tensors["albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"].read()
    assert query.tobytes() == wanted[QUERY].T.tobytes()


# --- the index


def test_bad_magic(source, index, tmp_path, refused):
    index.write_bytes(index.read_bytes()[:-1] + b"\0")
    assert refused("convert", source, tmp_path / "out") == (
        f"{index}: not a sound TensorFlow checkpoint index "
        "(the magic number at its end is missing: truncated, or another kind of file)"
    )


def test_index_of_another_kind_of_file(source, index, refused):
    index.write_text("nothing of the kind")
    assert "the magic number at its end is missing" in refused("inspect", source)


def test_missing_index(source, index, refused):
    index.unlink()
    assert refused("inspect", source) == f"{index}: no such file or directory"


def test_index_truncated_anywhere(source, index):
    sound = index.read_bytes()
    cuts = {len(sound) * percent // 100 for percent in range(100)} | set(range(len(sound) - 60, len(sound)))
    for cut in sorted(cuts):
        index.write_bytes(sound[:cut])
        with pytest.raises(CorruptError, match=f"^{re.escape(str(index))}: not a sound TensorFlow checkpoint index"):
            convert.load(source)


def test_index_with_any_byte_changed(source, index):
    """Every byte is under a CRC, but for the footer's, of which only the padding may change unnoticed."""
    sound = index.read_bytes()
    for place in {*range(0, len(sound), 5), *range(len(sound) - 48, len(sound))}:
        index.write_bytes(sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :])
        if len(sound) - 48 <= place < len(sound) - 8:
            try:
                assert len(convert.load(source).tensors) == 32
            except CorruptError:
                continue
        else:
            with pytest.raises(CorruptError, match="not a sound TensorFlow checkpoint index"):
                convert.load(source)


def test_block_checksum(source, index, tmp_path, refused):
    damaged = bytearray(index.read_bytes())
    damaged[10] ^= 1
    index.write_bytes(damaged)
    message = refused("convert", source, tmp_path / "out")
    assert message == f"{index}: not a sound TensorFlow checkpoint index (the block at byte 0 is damaged (CRC-32C))"


def entries(**change):
    arrays = variables()
    found, offset = [(b"", bundle_header())], 0
    for name in sorted(arrays):
        found.append((name.encode(), making.bundle_entry(arrays[name], offset=offset, **change)))
        offset += arrays[name].nbytes
    return found


def loop_to_itself(places, end):
    return [(b"~", varint(end) + varint(20))]


def twice_the_same(places, end):
    return [(b"~%d" % number, b"".join(map(varint, places[0]))) for number in range(2)]


def beyond(places, end):
    return [(b"~", varint(10**6) + varint(100))]


def overflowing(places, end):
    return [(b"~", varint(2**64 - 1) + varint(2**64 - 1))]


def endless(places, end):
    return [(b"~", b"\xff" * 20)]


def cut_short(places, end):
    return [(b"~", b"\x80")]


@pytest.mark.parametrize(
    ("handles", "fault"),
    [
        (loop_to_itself, "a block ends at byte"),
        (twice_the_same, "key b'' is out of order"),
        (beyond, "a block ends at byte 1000100, beyond the table"),
        (overflowing, "beyond the table"),
        (endless, "a number of more than 64 bits"),
        (cut_short, "index out of range"),
    ],
)
def test_index_block_that_points_wrong(source, index, refused, handles, fault):
    index.write_bytes(table([table_block(entries())], handles))
    assert fault in refused("inspect", source)


def test_index_block_that_points_to_itself(source, index, refused):
    """A block whose only entry leads back to the block: read once, as entries, never followed again."""
    own = table_block([(b"~", varint(0) + varint(14))])
    index.write_bytes(table([own], lambda places, end: [(b"~", varint(places[0][0]) + varint(places[0][1]))]))
    assert "no header entry" in refused("inspect", source)


BLOCKS = {
    "keys that grow beyond measure": (
        making.sealed(b"".join(varint(n) + b"\1\0a" for n in range(4000)) + struct.pack("<II", 0, 1)),
        "unpack beyond all measure",
    ),
    "an entry beyond its block": (
        making.sealed(varint(0) + varint(5) + varint(2**40) + b"abcde" + struct.pack("<II", 0, 1)),
        "has an entry beyond its end",
    ),
    "more shared bytes than there are": (
        making.sealed(varint(9) + varint(1) + varint(0) + b"a" + struct.pack("<II", 0, 1)),
        "has an entry beyond its end",
    ),
    "restarts beyond the block": (making.sealed(struct.pack("<I", 2**32 - 1)), "counts 4294967295 restarts"),
    "a block of nothing": (making.sealed(b""), "not a sound TensorFlow checkpoint index"),
    "endless number": (making.sealed(b"\xff" * 30 + struct.pack("<II", 0, 1)), "a number of more than 64 bits"),
    "Snappy that claims too much": (making.sealed(b"", lambda _: varint(2**40) + b"\0a"), "claims 1099511627776 bytes"),
    "Snappy from before the start": (
        making.sealed(b"", lambda _: varint(8) + bytes([3 << 2 | 2, 9, 0])),
        "a Snappy copy from before the start",
    ),
    "Snappy with a distance of 0": (
        making.sealed(b"", lambda _: varint(8) + b"\0a" + bytes([3 << 2 | 2, 0, 0])),
        "a Snappy copy from before the start",
    ),
    "Snappy cut short": (making.sealed(b"", lambda _: varint(30) + bytes([20 << 2]) + b"abc"), "another length"),
    "Snappy that goes on": (making.sealed(b"", lambda _: varint(1) + bytes([2 << 2]) + b"abc"), "another length"),
    "unknown compression": (b"abc\7" + making.masked_crc(b"abc\7"), "has compression type 7"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_hostile_blocks(source, index, refused, name):
    block, fault = BLOCKS[name]
    index.write_bytes(table([block]))
    message = refused("inspect", source)
    assert message.startswith(f"{index}: not a sound TensorFlow checkpoint index (")
    assert fault in message


HEADERS = {
    "big-endian": (bundle_header(endianness=1), "big-endian data"),
    "no data files": (field(3, b""), "0 data files"),
    "endless data files": (bundle_header(2**31), "2147483648 data files"),
    "not a message": (b"\x0b\x0c", "a field of wire type 3"),
    "longer than it is": (b"\x0a\x7fab", "a field beyond the end of its message"),
    "text for a number": (field(1, b"one"), "field 1 is no number"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers(source, index, refused, name):
    header, fault = HEADERS[name]
    index.write_bytes(table([table_block([(b"", header), *entries()[1:]])]))
    assert fault in refused("inspect", source)


ENTRIES = {
    "size against shape": ({"size": 5}, "of shape [8, 8] takes 256 bytes, the index says 5"),
    "negative dimension": ({"shape": (2**64 - 1, 8)}, f"tensor {QUERY} has a dimension of 18446744073709551615"),
    "overflowing shape": ({"shape": (2**39, 2**39)}, "takes 1208925819614629174706176 bytes"),
    "empty with endless dimensions": ({"shape": (2**39, 2**39, 0), "size": 0}, f"{QUERY} cannot be of shape"),
    "seventy dimensions": ({"shape": (1,) * 70, "size": 4}, f"{QUERY} cannot be of shape"),
    "far offset": ({"offset": 2**62}, f"truncated; tensor {QUERY} ends at byte {2**62 + 256}"),
    "negative offset": ({"offset": 2**64 - 8}, f"truncated; tensor {QUERY} ends at byte"),
    "another data file": ({"shard": 4}, f"tensor {QUERY} lies in data file 4 of 1"),
    "resource": ({"code": 20}, f"variable {QUERY} is of type resource, which holds no weights of an ALBERT"),
    "complex": ({"code": 8}, f"variable {QUERY} is of type number 8"),
    "slices": ({"extra": field(7, b"")}, f"variable {QUERY} is partitioned into slices; merge it with TensorFlow"),
    "number for a shape": ({"extra": field(2, 5)}, "a number where a message was expected"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_hostile_entries(tmp_path, refused, name):
    change, fault = ENTRIES[name]
    source = making.tf1(tmp_path / "tf", change={QUERY: change})
    assert fault in refused("inspect", source)


def test_whole_numbers_for_weights(tmp_path, refused):
    source = making.tf1(tmp_path / "tf", variables=variables() | {QUERY: np.ones((8, 8), np.int64)})
    message = refused("convert", source, tmp_path / "out")
    assert re.search(r"attention\.query\.weight is int64, not one of float32, float16, bfloat16, float64$", message)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_sound_block_of_any_bytes_gives_our_error(tmp_path_factory, data):
    """Bytes that pass every checksum, so that all the parsing behind it is reached."""
    source = making.tf1_files(tmp_path_factory.mktemp("fuzz"))
    contents = data.draw(st.binary(max_size=80))
    pack = (lambda packed: packed) if data.draw(st.booleans()) else None
    pairs = [(b"", data.draw(st.sampled_from([bundle_header(), contents]))), (b"bert/x", contents)]
    block = data.draw(st.sampled_from([making.sealed(contents, pack), table_block(pairs)]))
    (source / "model.ckpt-best.index").write_bytes(table([block]))
    (source / "model.ckpt-best.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError):
        convert.load(source)


# --- the data


def test_truncated_data(source, data, refused, tmp_path):
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-4])
    assert refused("convert", source, tmp_path / "out") == (
        f"{data}: truncated; tensor global_step ends at byte {size}, the file at {size - 4}"
    )


def test_data_that_shrinks_after_the_index_was_read(source, data):
    checkpoint = convert.load(source)
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(CorruptError, match=r"became shorter while it was read, inside tensor \S+$"):
        [tensor.read() for tensor in checkpoint.tensors.values()]


def test_empty_data(source, data, refused):
    data.write_bytes(b"")
    assert f"{data}: truncated; tensor bert/" in refused("inspect", source)


@pytest.mark.parametrize("number", range(3))
def test_missing_shard(tmp_path, refused, number):
    source = making.tf1(tmp_path / "tf", shards=3)
    shard = source / f"model.ckpt-best.data-0000{number}-of-00003"
    shard.unlink()
    assert refused("inspect", source) == f"{shard}: missing; the index names 3 data files"


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_damaged_tensor_is_named(source, data, refused, tmp_path, command):
    array = making.google_variables(TINY)[QUERY].tobytes()
    content = data.read_bytes()
    at = content.index(array) + 17
    data.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    arguments = [source] if command == "inspect" else [source, tmp_path / "out"]
    assert refused(command, *arguments) == (f"{data}: tensor {QUERY} is damaged (its CRC-32C does not match the index)")


# --- variables that are not weights, written by TensorFlow itself


def save_v2(prefix, names, tensors):
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)


def test_string_variable(tmp_path, refused):
    import tensorflow as tf

    source = making.tf1_files(tmp_path / "tf")
    save_v2(source / "model.ckpt-best", ["remarks"], [tf.constant("a text")])
    assert refused("inspect", source) == (
        f"{source / 'model.ckpt-best.index'}: variable remarks is of type string, which holds no weights of an ALBERT"
    )
    save_v2(source / "model.ckpt-best", ["_CHECKPOINTABLE_OBJECT_GRAPH"], [tf.constant("an object graph")])
    assert refused("inspect", source) == (
        f"{source / 'model.ckpt-best'}: a TF2 object checkpoint (tf.train.Checkpoint, Keras's save_weights), whose "
        "variables have no names of their own; save the model with tf.saved_model.save, which is read"
    )


def test_partitioned_variable(tmp_path, refused):
    import tensorflow as tf

    source = making.tf1_files(tmp_path / "tf")
    words = {"bert/embeddings/word_embeddings": making.values((30, 6), 1)}
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        for name, value in words.items():
            tf.compat.v1.get_variable(
                name, value.shape, partitioner=tf.compat.v1.fixed_size_partitioner(3), use_resource=False
            )
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(source / "model.ckpt-best"))
    assert refused("inspect", source) == (
        f"{source / 'model.ckpt-best.index'}: variable bert/embeddings/word_embeddings is partitioned into slices; "
        "merge it with TensorFlow before converting"
    )


def test_resource_variables_are_plain_ones_on_disk(tmp_path):
    source = making.tf1_files(tmp_path / "tf")
    wanted = making.google_variables(TINY)
    making.tensorflow_saver(wanted, source / "model.ckpt-best", use_resource=True)
    found = convert.load(source).tensors["albert.embeddings.word_embeddings.weight"].read()
    assert found.tobytes() == wanted["bert/embeddings/word_embeddings"].tobytes()


# --- which checkpoint of a directory


def test_absolute_path_in_the_checkpoint_file_is_ignored(tmp_path):
    making.tf1(tmp_path / "elsewhere", variables=making.google_variables(TINY, seed=9))
    source = making.tf1(tmp_path / "tf")
    (source / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/elsewhere/model.ckpt-best"\n')
    words = convert.load(source).tensors["albert.embeddings.word_embeddings.weight"].read()
    assert words.tobytes() == making.google_variables(TINY)["bert/embeddings/word_embeddings"].tobytes()


def several(source):
    for step in (100, 200):
        making.write_bundle(source / f"model.ckpt-{step}", making.google_variables(TINY, seed=step))
    return source


def test_several_checkpoints_need_a_choice(source, refused, tmp_path):
    several(source)
    for state in (None, 'model_checkpoint_path: "/home/else/model.ckpt-300"\n', "not a state \0 file\xff\n"):
        if state:
            (source / "checkpoint").write_bytes(state.encode("latin-1"))
        assert refused("convert", source, tmp_path / "out") == (
            f"{source}: holds several checkpoints (model.ckpt-100, model.ckpt-200, model.ckpt-best); "
            f"name one, as {source / 'model.ckpt-100'}"
        )


@pytest.mark.parametrize("choose", ["state", "absolute state", "prefix", "index"])
def test_one_of_several_checkpoints(source, choose):
    several(source)
    path = source
    if choose == "state":
        (source / "checkpoint").write_text(
            'model_checkpoint_path: "model.ckpt-200"\nall_model_checkpoint_paths: "model.ckpt-100"\n'
        )
    elif choose == "absolute state":
        (source / "checkpoint").write_text('model_checkpoint_path: "/home/else/models/model.ckpt-200"\n')
    else:
        path = source / ("model.ckpt-200" + (".index" if choose == "index" else ""))
    checkpoint = convert.load(path)
    wanted = making.google_variables(TINY, seed=200)["bert/embeddings/word_embeddings"]
    assert checkpoint.tensors["albert.embeddings.word_embeddings.weight"].read().tobytes() == wanted.tobytes()
    assert checkpoint.where == str(source / "model.ckpt-200")


def test_no_config_beside_the_checkpoint(source, refused):
    (source / "albert_config.json").unlink()
    assert refused("inspect", source) == (
        f"{source}: no albert_config.json beside model.ckpt-best; copy the model's one there"
    )


# --- names and shapes


def test_a_scope_around_all_variables(tmp_path, albert):
    """As a TF-Hub module that was fine-tuned is called, with the classifier beside it; and an unknown head."""
    plain = making.google_variables(TINY, heads=())
    head = {"output_weights": making.values((1, 8), 1), "output_bias": making.values((1,), 2)}
    arrays = {f"module/{name}": array for name, array in plain.items()} | head
    arrays |= {"crf/transitions": making.values((2, 2), 3), "beta1_power": making.values((), 4)}
    source = making.tf1(tmp_path / "tf", variables=arrays)
    code, out, err = albert("convert", source, tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["notes"] == ["variables begin with 'module/', which is left off"]
    assert report["dropped"] == {
        "slots of TensorFlow's own Adam": 1,
        "variables of a head that is not known here (crf/transitions)": 1,
    }
    found = convert.load(tmp_path / "out").tensors
    assert found["albert.pooler.weight"].read().tobytes() == plain["bert/pooler/dense/kernel"].T.tobytes()
    assert found["classifier.weight"].read().tobytes() == head["output_weights"].tobytes()


def test_unknown_variables_are_listed(tmp_path, refused):
    extra = {"bert/oddity": making.values((3,), 1), "another/kernel": making.values((2, 2), 2)}
    source = making.tf1(tmp_path / "tf", variables=variables() | extra)
    assert refused("convert", source, tmp_path / "out") == (
        f"{source / 'model.ckpt-best'} holds 2 variables that the config (1 groups of 1) has no place for: "
        "another/kernel, bert/oddity"
    )


def test_more_groups_than_the_config_says(tmp_path, refused):
    two = dataclasses.replace(TINY, num_hidden_groups=2)
    source = making.tf1(tmp_path / "tf", variables=making.google_variables(two))
    message = refused("inspect", source)
    assert "holds 16 variables that the config (1 groups of 1) has no place for: " in message
    assert "bert/encoder/transformer/group_1/inner_group_0/LayerNorm/beta" in message
    assert message.endswith("and 8 more")


def test_missing_variables_are_listed(tmp_path, refused):
    left = {name: array for name, array in variables().items() if name not in (QUERY, "bert/pooler/dense/bias")}
    source = making.tf1(tmp_path / "tf", variables=left)
    assert refused("convert", source, tmp_path / "out") == (
        f"{source / 'model.ckpt-best'} does not match its config: 2 tensors missing: "
        "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight, albert.pooler.bias"
    )


def test_missing_and_misshapen_are_told_together(tmp_path, refused):
    changed = variables() | {"bert/embeddings/position_embeddings": making.values((9, 6), 1)}
    del changed[QUERY]
    source = making.tf1(tmp_path / "tf", variables=changed)
    message = refused("inspect", source)
    assert "1 tensor missing: albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight;" in message
    assert message.endswith(
        "1 tensor of another shape: albert.embeddings.position_embeddings.weight is [9, 6], the config asks for [10, 6]"
    )


@pytest.mark.parametrize(
    "name",
    [
        "bert/encoder/transformer/layer_normalization/gamma",
        "bert/encoder/transformer/group_0/inner_group_0/layer_normalization_23/beta",
        "bert/encoder/transformer/group_0_11/layer_11/inner_group_0/ffn_1/intermediate/dense/kernel",
    ],
)
def test_unshared_layers(tmp_path, refused, name):
    source = making.tf1(tmp_path / "tf", variables=variables() | {name: making.values((8,), 1)})
    assert refused("inspect", source) == (
        f"{source / 'model.ckpt-best'}: written by TF2-migrated training code whose layers no longer share their "
        f"weights (layer_normalization_N), so not an ALBERT; seen in variable {name}"
    )


@pytest.mark.parametrize(
    "name", ["bert/encoder/layer_shared/attention/self/query/kernel", "bert/embeddings/word_embeddings_2"]
)
def test_early_community_checkpoints(tmp_path, refused, name):
    source = making.tf1(tmp_path / "tf", variables=variables() | {name: making.values((8, 8), 1)})
    message = refused("inspect", source)
    assert "an early community albert_zh checkpoint (layer_shared, embeddings added after the projection)" in message
    assert message.endswith(f"seen in variable {name}")


def test_hostile_variable_names_stay_on_one_printable_line(tmp_path, refused):
    name = "bert/\x1b[2J\n\r\u202e" + "x" * 9000
    source = making.tf1(tmp_path / "tf", variables=variables() | {name: making.values((1,), 1)})
    message = refused("inspect", source)
    assert message.isprintable()
    assert len(message) < 4100


# --- optimizer slots, step, NaNs


def test_slots_without_their_variable(tmp_path, refused):
    source = making.tf1(tmp_path / "tf", variables=variables() | {"output_bias/adam_m": making.values((3,), 1)})
    assert refused("convert", source, tmp_path / "out") == (
        f"{source / 'model.ckpt-best'}: optimizer slot classifier.bias/adam_m has no variable"
    )


def test_slots_of_another_shape(tmp_path, refused):
    source = making.tf1(tmp_path / "tf", variables=variables() | {f"{QUERY}/lamb_v": making.values((8, 4), 1)})
    message = refused("convert", source, tmp_path / "out")
    assert message.endswith("attention.query.weight/lamb_v is [4, 8], its variable [8, 8]")


@pytest.mark.parametrize("slots", [("adam_m", "adam_v"), ("lamb_m", "lamb_v")])
def test_optimizer_slots_written_by_tensorflow(tmp_path, albert, slots):
    source = making.tf1_files(tmp_path / "tf", making.GROUPED)
    wanted = making.with_slots(making.google_variables(making.GROUPED), *slots) | {
        "global_step": np.int64(123456789012)
    }
    making.tensorflow_saver(wanted, source / "model.ckpt-best")
    code, out, err = albert("convert", source, tmp_path / "dropped", "--json")
    assert code == 0, err
    report = json.loads(out)
    count = len(making.google_variables(making.GROUPED))
    assert report["dropped"] == {"optimizer slots": 2 * count}
    assert report["global_step"] == 123456789012
    assert not convert.load(tmp_path / "dropped").optimizer
    kept = source
    for target, form in (("hf", "safetensors"), ("x.npz", "npz"), ("back", "tf")):
        code, _, err = albert("convert", kept, tmp_path / target, "--to", form, "--keep-optimizer")
        assert code == 0, err
        kept = tmp_path / target
        assert making.same(convert.load(source), convert.load(kept)) is True
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(tmp_path / "back"))
    assert set(reader.get_variable_to_shape_map()) == set(wanted)
    for name, array in wanted.items():
        assert reader.get_tensor(name).tobytes() == array.tobytes(), name


@pytest.mark.parametrize("step", [np.float32(7), np.zeros(3, np.int64)])
def test_global_step_that_is_no_number(tmp_path, refused, step):
    source = making.tf1(tmp_path / "tf", variables=variables() | {"global_step": np.asarray(step)})
    assert re.search(r"global_step is (float32\[\]|int64\[3\]), not one whole number$", refused("inspect", source))


def test_nans_in_layer_norm_are_kept_bit_for_bit(tmp_path, albert):
    gamma = "bert/encoder/transformer/group_0/inner_group_0/LayerNorm/gamma"
    special = making.SPECIAL[:8].copy()
    source = making.tf1(tmp_path / "tf", variables=variables() | {gamma: special})
    current = source
    for target in ("hf", "x.npz"):
        code, _, err = albert("convert", current, tmp_path / target)
        assert (code, err) == (0, "")
        current = tmp_path / target
        name = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm.weight"
        assert convert.load(current).tensors[name].read().tobytes() == special.tobytes()
    assert albert("diff", source, current)[0] == 0


def test_a_slice_of_the_table_is_no_weight_of_a_classifier(tmp_path):
    """A name that the format has no row for stays unknown even with a slot's ending."""
    source = making.tf1(tmp_path / "tf", variables=variables() | {"bert/oddity/adam_m": making.values((3,), 1)})
    with pytest.raises(SpecError, match="no place for: bert/oddity/adam_m"):
        convert.load(source)
