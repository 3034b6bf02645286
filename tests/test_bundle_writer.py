"""Our writer of TensorFlow's checkpoints: TensorFlow reads it bit for bit, and would have written the same bytes."""

import hashlib
import string

import making
import ml_dtypes
import numpy as np
import pytest
from conftest import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.checkpoint import Tensor, same_bits
from converters.formats import tf as tf_format
from converters.tensorflow.bundle import DTYPES, read_bundle
from converters.tensorflow.bundle_writer import write_bundle
from converters.tensorflow.runtime import save_bundle

KINDS = [np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.int64)]
SHAPES = [(), (1,), (3, 5), (2, 3, 4), (0,), (0, 3), (3, 0)]


def random(shape, dtype, seed):
    """Every bit pattern, NaNs with payloads among them."""
    count = int(np.prod(shape)) * dtype.itemsize
    patterns = 2 if dtype.kind == "b" else 256
    return np.random.default_rng(seed).integers(0, patterns, count, np.uint8).view(dtype).reshape(shape)


def kinds():
    return {
        f"{dtype.name}/of_{len(shape)}/{number}": random(shape, dtype, number)
        for dtype in KINDS
        for number, shape in enumerate(SHAPES)
    }


def odd_names():
    """Given in no order; sorted by bytes, not by letters or numbers."""
    names = ["b", "a/b", "a_b", "a.b", "a", "A", "Z", "é", "~", "\x7f", "10", "2", " ", "\U0001f600", "\uffff"]
    names += ["layer_10/kernel", "layer_2/kernel", "global_step", "x" * 300, "x" * 299 + "y"]
    return {name: np.int64(number) for number, name in enumerate(names)}


def many():
    return {f"layer_{number}/kernel": random((number % 5, 3), KINDS[number % 5], number) for number in range(700)}


def several_blocks():
    """An index of 2 MB, whose blocks are of 256 kB; with names that share much and names that share nothing."""
    names = [f"scope/{'x' * (900 + number)}/{number}" for number in range(700)]
    names += [hashlib.sha256(str(number).encode()).hexdigest() * (1 + number % 60) for number in range(700)]
    return {name: random((number % 3,), KINDS[number % 5], number) for number, name in enumerate(names)}


def turned():
    """A view whose memory is not in C order, larger than what is written at a time."""
    return {"kernel": random((1500, 1000), KINDS[0], 1).T, "bias": random((7,), KINDS[0], 2)}


CASES = {case.__name__: case for case in (kinds, odd_names, many, several_blocks, turned)}


def tensors(variables):
    return {name: Tensor.of(np.asarray(array)) for name, array in variables.items()}


@pytest.fixture(params=CASES)
def variables(request):
    return CASES[request.param]()


def test_the_bytes_are_those_of_tensorflow(tmp_path, variables):
    for folder, write in (("ours", write_bundle), ("again", write_bundle), ("tensorflow", save_bundle)):
        (tmp_path / folder).mkdir()
        write(tensors(variables), tmp_path / folder / "model.ckpt")
    assert sorted(tree(tmp_path / "ours")) == ["model.ckpt.data-00000-of-00001", "model.ckpt.index"]
    assert tree(tmp_path / "ours") == tree(tmp_path / "again") == tree(tmp_path / "tensorflow")


def test_tensorflow_reads_every_value(tmp_path, variables):
    import tensorflow as tf

    write_bundle(tensors(variables), tmp_path / "model.ckpt")
    reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    assert set(shapes) == set(variables)
    for name, array in variables.items():
        assert (tuple(shapes[name]), types[name]) == (array.shape, tf.as_dtype(array.dtype)), name
        assert np.asarray(reader.get_tensor(name)).tobytes() == array.tobytes(), name


def test_a_saver_of_tensorflow_1_restores_it(tmp_path):
    import tensorflow as tf

    wanted = kinds()
    write_bundle(tensors(wanted), tmp_path / "model.ckpt")
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        made = {
            name: tf.compat.v1.get_variable(name, initializer=tf.zeros(array.shape, array.dtype))
            for name, array in wanted.items()
        }
        tf.compat.v1.train.Saver().restore(session, str(tmp_path / "model.ckpt"))
        for name, value in session.run(made).items():
            assert value.dtype == wanted[name].dtype
            assert value.tobytes() == wanted[name].tobytes(), name


def test_the_format_writes_what_it_wrote_with_tensorflow(tmp_path):
    """All files of it; the names of the variables, their order and the step too."""
    model = making.model(step=7)
    for folder, options in (("ours", {}), ("tensorflow", {"save": save_bundle})):
        (tmp_path / folder).mkdir()
        tf_format.write(model, tmp_path / folder, **options)
    assert tree(tmp_path / "ours") == tree(tmp_path / "tensorflow")
    assert "checkpoint" in tree(tmp_path / "ours")
    assert read_bundle(tmp_path / "ours" / "model.ckpt-best")["global_step"].read() == 7


def test_no_variables_at_all(tmp_path):
    """TensorFlow writes no such checkpoint, but reads it."""
    import tensorflow as tf

    write_bundle({}, tmp_path / "model.ckpt")
    assert read_bundle(tmp_path / "model.ckpt") == {}
    assert tf.train.list_variables(str(tmp_path / "model.ckpt")) == []


NAMES = st.text(string.ascii_letters + string.digits + "/_.-é\u4e2d\U0001f600", min_size=1, max_size=40)
VALUES = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5).map(
        lambda shape: random(shape, DTYPES[code], sum(shape))
    )
)


@settings(max_examples=80, deadline=None)
@given(variables=st.dictionaries(NAMES, VALUES, max_size=40))
def test_what_is_written_is_read(tmp_path_factory, variables):
    prefix = tmp_path_factory.mktemp("bundle") / "model.ckpt"
    write_bundle(tensors(variables), prefix)
    found = read_bundle(prefix)
    assert list(found) == sorted(variables, key=str.encode)
    assert all(same_bits(found[name].read(), array) for name, array in variables.items())
