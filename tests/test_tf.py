"""Google's TensorFlow checkpoints: what TensorFlow writes and reads, and which one of a directory is meant."""

import json

import making
import numpy as np
import pytest
from corruptions.tf import QUERY, variables
from making import TINY

from converters import convert


@pytest.fixture
def source(tmp_path):
    return making.tf1(tmp_path / "tf")


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


def save_v2(prefix, names, tensors):
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)


def test_string_variable(tmp_path, refused):
    import tensorflow as tf

    source = making.tf1_files(tmp_path / "tf")
    save_v2(source / "model.ckpt-best", ["remarks"], [tf.constant("a text")])
    assert refused("inspect", source) == (
        f"{source / 'model.ckpt-best.index'}: variable remarks is of type string, which holds no weights"
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


def test_hostile_variable_names_stay_on_one_printable_line(tmp_path, refused):
    name = "bert/\x1b[2J\n\r\u202e" + "x" * 9000
    source = making.tf1(tmp_path / "tf", variables=variables() | {name: making.values((1,), 1)})
    message = refused("inspect", source)
    assert message.isprintable()
    assert len(message) < 4100


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
