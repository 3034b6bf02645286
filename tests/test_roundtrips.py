"""From every format to every other and back, bit for bit: weights, optimizer slots, config, tokenizer, step."""

import dataclasses
import hashlib
import json
import shutil

import making
import numpy as np
import pytest
from conftest import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from making import GROUPED, TINY

from converters import convert
from converters.cast import DTYPES
from converters.config import EncoderConfig
from converters.tokenizers.files import TokenizerFiles

FORMATS = convert.formats()
READABLE = [name for name, module in FORMATS.items() if hasattr(module, "read")]
WRITABLE = [name for name, module in FORMATS.items() if hasattr(module, "write")]
BOTH = [name for name in READABLE if name in WRITABLE]
LIGHT = [name for name in BOTH if name not in making.BY_TENSORFLOW]  # without its import

SHAPES = {
    "1 group": TINY,
    "2 groups of 2": GROUPED,
    "3 groups of 1, 7 layers": dataclasses.replace(TINY, num_hidden_groups=3, num_hidden_layers=7),
    "12 groups": dataclasses.replace(TINY, num_hidden_groups=12, num_hidden_layers=12),
    "5 groups of 2, 12 layers": dataclasses.replace(TINY, num_hidden_groups=5, num_hidden_layers=12, inner_group_num=2),
    "1 group of 3": dataclasses.replace(TINY, inner_group_num=3),
    "unshared attention": TINY.sharing("ffn"),
    "E = H": dataclasses.replace(TINY, embedding_size=8),
    "E > H": dataclasses.replace(TINY, embedding_size=11),
    "exact gelu": dataclasses.replace(TINY, hidden_act="gelu", layer_norm_eps=1e-5, classifier_dropout_prob=0.5),
    "one of each": EncoderConfig(
        vocab_size=1,
        embedding_size=1,
        hidden_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=1,
        max_position_embeddings=1,
        type_vocab_size=1,
    ),
}


HEADS = [(), ("pooler",), ("mlm",), ("pooler", "sop"), ("pooler", "classifier"), ("pooler", "mlm", "sop", "classifier")]


def target(folder, form, number=0):
    return folder / {"npz": f"{number}.npz"}.get(form, f"{number}-{form}")


def content(path):
    return tree(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


# --- every pair


def pair(start, form):
    """A SavedModel takes seconds to write: it is quickly tried as a source and as a target, and with all in time."""
    slow = "saved-model" in (start, form) and {start, form} != {"saved-model", "tf"}
    return pytest.param(start, form, marks=[pytest.mark.slow] if slow else [])


PAIRS = [pair(start, form) for start in BOTH for form in BOTH]


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """One model of two groups of two inner layers, with optimizer slots, written in each format."""
    folder = tmp_path_factory.mktemp("starts")
    config = dataclasses.replace(GROUPED, extra={"net_structure_type": 0, "мой": ["ключ", None, 1.5]})
    files = dataclasses.replace(making.tokenizer(), lowercase=False, keep_accents=True)
    model = making.model(config, optimizer=True, step=125_000, files=files, special=True)
    for form in BOTH:
        convert.save(model, target(folder, form), format=form)
    return folder, model


@pytest.mark.parametrize(("start", "middle"), PAIRS)
def test_every_pair_and_back(starts, tmp_path, start, middle):
    """A -> B -> A: equal in B, and A again to the byte, every file of it."""
    folder, model = starts
    source = target(folder, start)
    assert making.same(model, convert.load(source)) is True
    there, back = target(tmp_path, middle, 1), target(tmp_path, start, 2)
    report = convert.convert(source, there, target_as=middle, keep_optimizer=True)
    assert len(report.digests) == len(model.everything())
    assert not report.dropped
    convert.convert(there, back, target_as=start, keep_optimizer=True)
    assert making.same(model, convert.load(there)) is True
    assert content(back) == content(source)


@pytest.mark.parametrize("form", BOTH)
def test_the_same_input_twice_gives_the_same_bytes(starts, tmp_path, form):
    folder, _ = starts
    source = target(folder, "safetensors")
    for number in (1, 2):
        convert.convert(source, target(tmp_path, form, number), target_as=form, keep_optimizer=True)
    assert content(target(tmp_path, form, 1)) == content(target(tmp_path, form, 2))
    convert.convert(source, target(tmp_path, form, 1), target_as=form, keep_optimizer=True, force=True)
    assert content(target(tmp_path, form, 1)) == content(target(tmp_path, form, 2))


@pytest.mark.parametrize(("start", "form"), PAIRS)
def test_slots_are_left_out_unless_asked_for(starts, tmp_path, start, form):
    folder, model = starts
    report = convert.convert(target(folder, start), target(tmp_path, form), target_as=form)
    assert report.dropped == {"optimizer slots": len(model.optimizer)}
    left = convert.load(target(tmp_path, form))
    assert not left.optimizer
    assert making.same(left, dataclasses.replace(model, optimizer={})) is True


# --- shapes, heads, dtypes, tokenizers


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(tmp_path, name):
    model = making.model(SHAPES[name])
    assert chain(model, tmp_path) is True


@pytest.mark.slow
@pytest.mark.parametrize("heads", HEADS, ids="+".join)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_with_heads(tmp_path, name, heads):
    without = {"qa", "mlm", "sop", "classifier", "pooler"} - set(heads)
    model = making.model(SHAPES[name], without=without, optimizer=True)
    assert chain(model, tmp_path) is True


def chain(model, folder, forms=BOTH):
    """Save, then convert through all formats and compare with the first; True or what differs."""
    convert.save(model, target(folder, forms[0], 0), format=forms[0])
    for number, form in enumerate([*forms[1:], forms[0]], 1):
        previous = target(folder, [*forms, forms[0]][number - 1], number - 1)
        convert.convert(previous, target(folder, form, number), target_as=form, keep_optimizer=True)
    return making.same(model, convert.load(target(folder, forms[0], len(forms))))


@pytest.mark.parametrize("heads", HEADS, ids="+".join)
def test_heads(tmp_path, heads):
    """A head that is absent stays absent, and the report says so."""
    model = making.model(without={"qa", "mlm", "sop", "classifier", "pooler"} - set(heads))
    assert chain(model, tmp_path) is True
    report = convert.convert(target(tmp_path, BOTH[0]), tmp_path / "again", target_as="safetensors")
    absent = {"mlm": "masked-word head (MLM)", "sop": "sentence-order head (SOP)"}
    assert report.absent == [words for head, words in absent.items() if head not in heads]


def test_question_answering_head_has_a_place_in_every_format(tmp_path):
    model = making.model(without=("classifier", "mlm", "sop"))
    assert "qa_outputs.weight" in model.tensors
    assert chain(model, tmp_path, BOTH) is True


@pytest.mark.parametrize("forms", [LIGHT, BOTH], ids=["light", "all"])
@pytest.mark.parametrize(
    ("without", "also", "architecture"),
    [
        (("qa", "pooler", "mlm", "sop"), (), "AlbertForTokenClassification"),
        (("qa", "classifier", "mlm", "sop"), ("squad2",), "AlbertModel"),
    ],
    ids=["tokens", "squad2"],
)
def test_heads_of_other_origin_have_a_place_in_every_format(tmp_path, without, also, architecture, forms):
    """A classifier of tokens, which reads no pooler; the head of Google's run_squad_v2."""
    model = making.model(without=without, also=also, optimizer=True)
    assert chain(model, tmp_path, forms) is True
    convert.convert(target(tmp_path, forms[0]), tmp_path / "again", target_as="safetensors")
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config["architectures"] == [architecture]


@pytest.mark.parametrize("dtype", [*DTYPES.values(), np.dtype(np.float64)], ids=lambda dtype: dtype.name)
def test_dtypes(tmp_path, dtype):
    forms = [form for form in BOTH if dtype in FORMATS[form].DTYPES]
    assert chain(making.model(dtype=dtype, special=True), tmp_path, forms) is True


def test_mixed_dtypes(tmp_path):
    model = making.model()
    halves = making.model(dtype=np.float16)
    tensors = {name: (halves if number % 2 else model).tensors[name] for number, name in enumerate(model.tensors)}
    assert chain(dataclasses.replace(model, tensors=tensors), tmp_path) is True


@pytest.mark.parametrize("step", [None, 0, 2**40, 2**63 - 1, -1])
def test_steps(tmp_path, step):
    assert chain(making.model(step=step), tmp_path, LIGHT) is True


TOKENIZERS = {
    "none": TokenizerFiles(),
    "model": making.tokenizer(),
    "lines only": TokenizerFiles.of("test", vocab=making.LINES, origin="test"),
    "lines of their own": TokenizerFiles.of(
        "test", spiece=making.spiece(), vocab=making.LINES.replace(b"-1.5", b"-1.50"), origin="test"
    ),
    "WordPiece": TokenizerFiles.of("test", wordpiece="[PAD]\n[UNK]\n中\n##中\n".encode(), origin="test"),
    "cased": dataclasses.replace(making.tokenizer(), lowercase=False),
    "accents": dataclasses.replace(making.tokenizer(), keep_accents=True),
}


def tokenizer_in(start, name):
    slow = start == "saved-model" and name not in ("model", "WordPiece")
    return pytest.param(start, name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("start", "name"), [tokenizer_in(start, name) for start in BOTH for name in TOKENIZERS])
def test_tokenizers(tmp_path, name, start):
    """Model, lines, WordPiece list and preparation flags come back as they were."""
    model = making.model(files=TOKENIZERS[name])
    forms = [start, *(form for form in LIGHT if form != start)]
    assert chain(model, tmp_path, forms) is True
    found = convert.load(target(tmp_path, start, len(forms))).tokenizer
    assert found.settings == model.tokenizer.settings
    assert found.wordpiece == model.tokenizer.wordpiece
    if name != "lines only":  # for which a model is made on the way
        assert content(target(tmp_path, start, 0)) == content(target(tmp_path, start, len(forms)))


# --- casts are told, never silent


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_casts_report_their_largest_error(tmp_path, albert, form, dtype):
    if DTYPES[dtype] not in FORMATS[form].DTYPES:
        dtype = "float16"
    model = making.model(optimizer=True)
    convert.save(model, tmp_path / "source")
    code, out, err = albert(
        "convert", tmp_path / "source", target(tmp_path, form), "--to", form, "--dtype", dtype, "--json"
    )
    assert (code, err) == (0, "")
    cast = json.loads(out)["cast"]
    found = convert.load(target(tmp_path, form))
    gaps = {}
    for name, tensor in model.tensors.items():
        wanted = tensor.read().astype(DTYPES[dtype])
        assert found.tensors[name].read().tobytes() == wanted.tobytes()
        gaps[name] = float(np.abs(wanted.astype(np.float64) - tensor.read().astype(np.float64)).max())
    assert cast["dtype"] == dtype
    assert cast["max_abs_error"] == max(gaps.values())
    if dtype == "float32":
        assert (cast["tensors"], cast["worst"]) == (0, "")
    else:
        assert (cast["tensors"], gaps[cast["worst"]]) == (len(gaps), max(gaps.values()))


def test_cast_there_and_back_is_reported_both_times(tmp_path):
    convert.save(making.model(), tmp_path / "a")
    down = convert.convert(tmp_path / "a", tmp_path / "b", target_as="safetensors", dtype="bfloat16")
    up = convert.convert(tmp_path / "b", tmp_path / "c", target_as="safetensors", dtype="float32")
    assert down.cast.max_abs_error > 0
    assert (up.cast.max_abs_error, up.cast.tensors) == (0, len(making.model().tensors))
    assert making.same(convert.load(tmp_path / "a"), convert.load(tmp_path / "c")) is not True


def test_values_that_do_not_fit_are_refused(tmp_path, refused):
    model = making.model()
    name = "albert.pooler.weight"
    model.tensors[name].read()[3, 5] = -70000
    convert.save(model, tmp_path / "a")
    assert refused("convert", tmp_path / "a", tmp_path / "b", "--to", "safetensors", "--dtype", "float16") == (
        f"{name} holds 70000, beyond the largest float16 (65504); --dtype bfloat16 has the range of float32"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_of_special_values(tmp_path, albert, dtype):
    """NaNs and infinities stay what they are and count for no error."""
    model = making.model()
    words = model.tensors["albert.embeddings.word_embeddings.weight"].read().reshape(-1)
    words[:6] = [np.nan, np.inf, -np.inf, -0.0, 1e-45, np.float32(np.uint32(0x7F800001).view(np.float32))]
    convert.save(model, tmp_path / "a")
    code, out, err = albert(
        "convert", tmp_path / "a", tmp_path / "b", "--to", "safetensors", "--dtype", dtype, "--json"
    )
    assert (code, err) == (0, "")
    assert 0 < json.loads(out)["cast"]["max_abs_error"] < 1
    found = convert.load(tmp_path / "b").tensors["albert.embeddings.word_embeddings.weight"].read().reshape(-1)
    seen = found[:6].astype(np.float32)
    assert np.isnan(seen[[0, 5]]).all()
    assert seen[1:3].tolist() == [np.inf, -np.inf]
    assert np.signbit(seen[3])
    assert seen[3] == 0


# --- anything at all


@st.composite
def configs(draw):
    heads = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    return EncoderConfig(
        vocab_size=draw(st.integers(1, 12)),
        embedding_size=draw(st.integers(1, 7)),
        hidden_size=heads * draw(st.integers(1, 3)),
        num_hidden_layers=groups + draw(st.integers(0, 4)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 7)),
        num_hidden_groups=groups,
        inner_group_num=draw(st.integers(1, 2)),
        max_position_embeddings=draw(st.integers(1, 6)),
        type_vocab_size=draw(st.integers(1, 3)),
        hidden_act=draw(st.sampled_from(["gelu", "gelu_new", "relu", "tanh"])),
        layer_norm_eps=draw(st.sampled_from([1e-12, 1e-5])),
        extra=draw(
            st.dictionaries(
                st.text(max_size=4).filter(lambda key: key != "dtype"),
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(),
                max_size=2,
            )
        ),
    )


def test_a_null_in_the_config_survives_beside_labels_without_names(tmp_path):
    config = dataclasses.replace(making.TINY, extra={"classifier_dropout": None})
    assert chain(making.model(config, without=("qa", "sop")), tmp_path, LIGHT) is True


ANY = {
    "config": configs(),
    "seed": st.integers(0, 2**16),
    "dtype": st.sampled_from([np.float32, np.float16]),
    "without": st.sets(st.sampled_from(["pooler", "mlm", "sop", "classifier"])),
    "step": st.none() | st.integers(0, 2**62),
    "optimizer": st.booleans(),
    "files": st.sampled_from(list(TOKENIZERS.values())),
    "bits": st.binary(min_size=1, max_size=64),
    "order": st.permutations(LIGHT),
}


@given(**ANY)
@settings(max_examples=10, deadline=None)
def test_any_model_survives(tmp_path_factory, **drawn):
    check_survival(tmp_path_factory.mktemp("any"), **drawn)


@pytest.mark.slow
@given(**ANY)
@settings(max_examples=250, deadline=None)
def test_any_of_many_models_survives(tmp_path_factory, **drawn):
    check_survival(tmp_path_factory.mktemp("any"), **drawn)


def check_survival(folder, *, config, seed, dtype, without, step, optimizer, files, bits, order):
    model = making.model(
        config,
        seed=seed,
        dtype=dtype,
        without=without | {"qa"} | ({"sop", "classifier"} if "pooler" in without else set()),
        step=step,
        optimizer=optimizer,
        files=files,
        special=True,
    )
    first = next(iter(model.tensors.values())).read()
    flat = first.reshape(-1).view(np.uint8)
    flat[: len(bits)] = np.frombuffer(bits, np.uint8)[: flat.size]
    assert chain(model, folder, list(order)) is True
    shutil.rmtree(folder)


# --- TensorFlow's own view


@pytest.mark.parametrize("name", [name for name, config in SHAPES.items() if config.share == "all"])
def test_tensorflow_writes_and_reads_the_same(tmp_path, name):
    """Written by TensorFlow under Google's names, carried through all formats, read by TensorFlow: the same bits."""
    import tensorflow as tf

    config = SHAPES[name]
    source = making.tf1_files(tmp_path / "source", config)
    wanted = making.with_slots(making.google_variables(config), "adam_m", "adam_v") | {"global_step": np.int64(7)}
    tf.raw_ops.SaveV2(
        prefix=str(source / "model.ckpt-best"),
        tensor_names=list(wanted),
        shape_and_slices=[""] * len(wanted),
        tensors=[np.asarray(array) for array in wanted.values()],
    )
    current = source
    for number, form in enumerate([*(form for form in LIGHT if form != "tf"), "tf"], 1):
        convert.convert(current, target(tmp_path, form, number), target_as=form, keep_optimizer=True)
        current = target(tmp_path, form, number)
    assert_same_variables(source, current)


def assert_same_variables(source, back):
    import tensorflow as tf

    one, other = (tf.train.load_checkpoint(str(path / "model.ckpt-best")) for path in (source, back))
    assert one.get_variable_to_shape_map() == other.get_variable_to_shape_map()
    assert one.get_variable_to_dtype_map() == other.get_variable_to_dtype_map()
    for name in one.get_variable_to_shape_map():
        assert np.asarray(one.get_tensor(name)).tobytes() == np.asarray(other.get_tensor(name)).tobytes(), name


def test_googles_checkpoint_comes_back_as_it_was(shared_data, tmp_path, albert):
    source = shared_data / "checkpoints" / "tf1-google"
    current = source
    for number, form in enumerate(["safetensors", "npz", "tf"], 1):
        code, _, err = albert("convert", current, target(tmp_path, form, number), "--to", form)
        assert (code, err) == (0, "")
        current = target(tmp_path, form, number)
    assert albert("diff", source, current)[:2] == (0, "equal: 32 tensors bit for bit, config and tokenizer\n")
    assert_same_variables(source, current)
    for name in ("30k-clean.model", "30k-clean.vocab", "checkpoint"):
        assert (current / name).read_bytes() == (source / name).read_bytes()
    google, ours = (json.loads((folder / "albert_config.json").read_text()) for folder in (source, current))
    assert google == ours


def test_googles_checkpoint_is_restored_by_tensorflow_1(shared_data, tmp_path):
    """The TF1 saver, as Google's own code uses it: by variable names, in a graph."""
    import tensorflow as tf

    source = shared_data / "checkpoints" / "tf1-google"
    convert.convert(source, tmp_path / "out", target_as="tf")
    shapes = tf.train.load_checkpoint(str(source)).get_variable_to_shape_map()
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        for name, shape in shapes.items():
            dtype = tf.int64 if name == "global_step" else tf.float32
            tf.compat.v1.get_variable(name, shape, dtype)
        saver = tf.compat.v1.train.Saver()
        prefix = tf.train.latest_checkpoint(str(tmp_path / "out"))
        assert prefix == str(tmp_path / "out" / "model.ckpt-best")
        saver.restore(session, prefix)
        reader = tf.train.load_checkpoint(str(source))
        for variable in tf.compat.v1.global_variables():
            name = variable.op.name
            assert session.run(variable).tobytes() == np.asarray(reader.get_tensor(name)).tobytes(), name


@pytest.mark.parametrize(
    "start", ["safetensors", *(pytest.param(form, marks=pytest.mark.slow) for form in BOTH if form != "safetensors")]
)
def test_diff_and_inspect_agree_across_formats(starts, albert, start):
    folder, _ = starts
    sums = set()
    for form in BOTH:
        assert albert("diff", target(folder, start), target(folder, form))[0] == 0
        sums.add(json.loads(albert("inspect", target(folder, form), "--json")[1])["weights_sha256"])
    assert len(sums) == 1
