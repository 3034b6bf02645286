"""The encoders for inference against the model and transformers, their kernels against formulas, and fallbacks."""

import dataclasses
import itertools
import resource
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from encoding import encode

from albert_cli.embedding.encoders import make_encoder
from albert_cli.errors import EmbeddingError
from albert_cli.model import byte_kernels, hidden_states, kernels, packed, passes
from albert_cli.model.chunk_threads import in_order
from albert_cli.model.encoder import Encoder
from albert_cli.model.packed import PackedEncoder
from albert_cli.model.packed_attention import attend
from albert_cli.model.plain import PlainEncoder
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.tokenization.batch import TokenBatch
from converters import spec
from converters.activations import ACTIVATIONS
from converters.config import EncoderConfig
from converters.dialects import to_hf
from converters.families.albert import PRESETS

TINY = EncoderConfig(
    vocab_size=97,
    embedding_size=12,
    hidden_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=80,
    max_position_embeddings=64,
    type_vocab_size=3,
    initializer_range=0.1,
)
SHAPES = {
    "one group": TINY,
    "two groups of two": dataclasses.replace(TINY, num_hidden_groups=2, inner_group_num=2),
    "layers not divisible by groups": dataclasses.replace(TINY, num_hidden_layers=7, num_hidden_groups=3),
    "attention shared": TINY.sharing("attention"),
    "ffn shared": TINY.sharing("ffn"),
    "nothing shared": TINY.sharing("none"),
    "E = H": dataclasses.replace(TINY, embedding_size=48),
    "large epsilon": dataclasses.replace(TINY, layer_norm_eps=1e-3),
    "positions from 2": dataclasses.replace(TINY, position_offset=2),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products gain nothing from a second thread and, on a busy machine, wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def config(request):
    return request.param


@pytest.fixture(params=[PackedEncoder, PlainEncoder], ids=["packed", "plain"])
def encoder_of(request):
    """What makes an encoder in float32 of a model."""
    return request.param


def build(config, seed=0):
    """An encoder whose every parameter is random: fresh biases and LayerNorms would hide a mix-up."""
    torch.manual_seed(seed)
    model = Encoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def sequences(config, number=40, seed=0):
    """Ids and types of mixed lengths: single tokens, the longest there is, and many of the same length."""
    generator = np.random.default_rng(seed)
    lengths = [1, config.max_tokens, 1, *generator.integers(1, 24, number - 3)]
    return tuple(
        [generator.integers(0, size, length) for length in lengths]
        for size in (config.vocab_size, config.type_vocab_size)
    )


def one_by_one(model, ids, types):
    """Hidden states of the model, each (tokens of all sequences, H); no id in a sequence is padding."""
    with torch.no_grad():
        outputs = [
            model(*(torch.tensor(x[None]) for x in (i, np.ones_like(i), t)), output_hidden_states=True).hidden_states
            for i, t in zip(ids, types, strict=True)
        ]
    return [torch.cat([states[0] for states in layer]) for layer in zip(*outputs, strict=True)]


def error(a, b):
    return (a - b).abs().max().item()


def means(output):
    spans = zip(output.offsets[:-1], output.offsets[1:], strict=True)
    return torch.stack([output.hidden_states[0][start:stop].mean(0) for start, stop in spans])


@pytest.mark.parametrize("batch_tokens", [1, 50, 1024, 100_000])
def test_every_layer_equals_the_model(config, encoder_of, batch_tokens):
    model = build(config)
    ids, types = sequences(config)
    layers = range(hidden_states.count(config))
    output = encode(encoder_of(model), ids, types, layers=layers, batch_tokens=batch_tokens)
    expected = one_by_one(model, ids, types)
    assert output.offsets.tolist() == [0, *np.cumsum([len(i) for i in ids])]
    assert len(output.hidden_states) == len(expected) == 1 + config.num_hidden_layers * config.inner_group_num
    for ours, plain in zip(output.hidden_states, expected, strict=True):
        assert error(ours, plain) < 1e-5


def test_equals_transformers(encoder_of):
    config = dataclasses.replace(TINY, num_hidden_groups=2, inner_group_num=2)
    model = build(config)
    theirs = transformers.AlbertModel(transformers.AlbertConfig(**(to_hf(config) | {"pad_token_id": None}))).eval()
    names = theirs.state_dict().keys()
    canonical = spec.canonical_names(config)
    state = {canonical[f"encoder.{name}"].removeprefix("albert."): item for name, item in model.state_dict().items()}
    theirs.load_state_dict({name: state[name] for name in names})
    ids, types = sequences(config)
    output = encode(encoder_of(model), ids, types).hidden_states[0]
    with torch.no_grad():
        expected = [
            theirs(torch.tensor(i[None]), token_type_ids=torch.tensor(t[None])).last_hidden_state[0]
            for i, t in zip(ids, types, strict=True)
        ]
    assert error(output, torch.cat(expected)) < 1e-5


def test_equals_the_model_at_base_shape_and_512_tokens(encoder_of):
    model = Encoder(dataclasses.replace(PRESETS["base"], vocab_size=500, num_hidden_layers=3), pooler=False).eval()
    generator = np.random.default_rng(4)
    ids = [generator.integers(0, 500, length) for length in (512, 3, 40, 512, 38)]
    output = encode(encoder_of(model), ids)
    with torch.inference_mode():
        for number, row in enumerate(ids):
            expected = model(torch.from_numpy(row)[None]).sequence_output[0]
            got = output.hidden_states[0][output.offsets[number] : output.offsets[number + 1]]
            assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_any_activation(act, encoder_of):
    model = build(dataclasses.replace(TINY, hidden_act=act, num_hidden_layers=2))
    ids, types = sequences(TINY)
    exact = encode(encoder_of(model), ids, types)
    assert error(exact.hidden_states[0], one_by_one(model, ids, types)[-1]) < 1e-5
    for precision in ("bf16", "int8"):
        rounded = encode(PackedEncoder(model, precision), ids, types)
        assert torch.cosine_similarity(means(exact), means(rounded)).min() > 0.999


# Sums are taken in another order; near the middle of two steps, int8 and bfloat16 then take the other step.
@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (PackedEncoder, 1e-5),
        (PlainEncoder, 1e-5),
        (lambda model: PackedEncoder(model, "bf16"), 8e-2),
        (lambda model: PackedEncoder(model, "int8"), 2e-2),
    ],
    ids=["packed", "plain", "bf16", "int8"],
)
@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 100_000])
def test_vectors_do_not_depend_on_the_batch(make, tolerance, batch_tokens):
    model = build(TINY)
    ids, types = sequences(TINY)
    encoder = make(model)
    expected = encode(encoder, ids, types)
    order = np.random.default_rng(1).permutation(len(ids))
    output = encode(encoder, [ids[n] for n in order], [types[n] for n in order], batch_tokens=batch_tokens)
    for place, n in enumerate(order):
        ours = output.hidden_states[0][output.offsets[place] : output.offsets[place + 1]]
        assert error(ours, expected.hidden_states[0][expected.offsets[n] : expected.offsets[n + 1]]) < tolerance


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_rounded_precisions_stay_close(config, precision):
    model = build(config)
    ids, types = sequences(config)
    exact, rounded = (encode(PackedEncoder(model, name), ids, types) for name in ("fp32", precision))
    cosines = torch.cosine_similarity(means(exact), means(rounded))
    assert cosines.mean() > 0.9995
    assert cosines.min() > 0.998


def test_layers_asked_for_in_any_order(encoder_of):
    ids, types = sequences(TINY)
    encoder = encoder_of(build(TINY))
    every = encode(encoder, ids, types, layers=range(5)).hidden_states
    for ours, number in zip(
        encode(encoder, ids, types, layers=(-1, 0, 2, -3, 0)).hidden_states, (4, 0, 2, 2, 0), strict=True
    ):
        assert torch.equal(ours, every[number])


def test_layers_above_the_highest_are_not_computed(monkeypatch):
    calls = []
    compute = packed._PackedLayer.__call__
    monkeypatch.setattr(packed._PackedLayer, "__call__", lambda self, *a: calls.append(1) or compute(self, *a))
    encode(PackedEncoder(build(TINY)), sequences(TINY)[0], layers=(1, 2), batch_tokens=10**6)
    assert len(calls) == 2


def test_types_default_to_zero_and_lists_are_taken(encoder_of):
    ids = sequences(TINY)[0]
    encoder = encoder_of(build(TINY))
    expected = encode(encoder, ids, [np.zeros_like(i) for i in ids]).hidden_states[0]
    assert torch.equal(encode(encoder, [i.tolist() for i in ids]).hidden_states[0], expected)


def test_no_sequences(encoder_of):
    output = encode(encoder_of(build(TINY)), [])
    assert output.hidden_states[0].shape == (0, TINY.hidden_size)
    assert output.offsets.tolist() == [0]


def test_pretraining_models_and_bfloat16_weights(encoder_of):
    torch.manual_seed(0)
    model = PreTrainingModel(TINY).eval()
    ids, types = sequences(TINY)
    output = encode(encoder_of(model.encoder), ids, types).hidden_states[0]
    assert error(output, one_by_one(model.encoder, ids, types)[-1]) < 1e-5
    half = encode(encoder_of(model.to(torch.bfloat16).encoder), ids, types).hidden_states[0]
    assert error(half, one_by_one(model.encoder.float(), ids, types)[-1]) < 1e-5


def every_kind(model):
    return [
        *(make_encoder(model, device="cpu", precision=precision) for precision in ("fp32", "int8", "bf16")),
        PlainEncoder(model),
    ]


def test_the_weights_are_copied_and_dropout_is_off():
    model = build(dataclasses.replace(TINY, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5))
    ids = sequences(TINY)[0]
    encoders = every_kind(model.train())
    before = [encode(encoder, ids).hidden_states[0] for encoder in encoders]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert model.training
    for encoder, expected in zip(encoders, before, strict=True):
        assert torch.equal(encode(encoder, ids).hidden_states[0], expected)


def test_bf16_stays_close():
    model = build(TINY)
    ids, types = sequences(TINY)
    exact, half = (
        encode(make_encoder(model, device="cpu", precision=precision), ids, types) for precision in ("fp32", "bf16")
    )
    assert torch.cosine_similarity(means(exact), means(half)).min() > 0.999
    assert error(exact.hidden_states[0], half.hidden_states[0]) > 1e-5  # it is computed in bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_stays_close():
    model = build(TINY)
    ids, types = sequences(TINY)
    exact = encode(PackedEncoder(model), ids, types)
    for precision, least in (("fp32", 0.99999), ("bf16", 0.999)):
        there = encode(make_encoder(model, device="cuda", precision=precision), ids, types)
        assert torch.cosine_similarity(means(exact), means(there)).min() > least


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 8e-2), ("int8", 2e-2)])
def test_the_same_vectors_without_private_operators(precision, tolerance, request):
    model = build(TINY)
    ids, types = sequences(TINY)
    expected = encode(PackedEncoder(model, precision), ids, types).hidden_states[0]
    request.getfixturevalue("no_private_operators")
    output = encode(PackedEncoder(model, precision), ids, types).hidden_states[0]
    assert not kernels._operators_work("gelu_new", torch.float32)
    assert not kernels._operators_work("gelu_new", torch.bfloat16)
    assert not byte_kernels._int8_operators_work()
    assert not byte_kernels._fused_rows_work()
    assert error(output, expected) < tolerance


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for encoder in every_kind(build(TINY)):
            assert encode(encoder, sequences(TINY)[0]).hidden_states[0].isfinite().all()


def test_int8_with_and_without_the_compiled_passes(config):
    model = build(dataclasses.replace(config, hidden_size=64, num_attention_heads=4))
    ids, types = sequences(config)
    fused, plain = PackedEncoder(model, "int8"), PackedEncoder(model, "int8")
    if not passes.work():
        pytest.skip("passes.c was not compiled at installation")
    assert all(layer._fused for layer in fused._layers)
    for layer in plain._layers:
        layer._fused = False
    ours, expected = (encode(encoder, ids, types) for encoder in (fused, plain))
    assert error(ours.hidden_states[0], expected.hidden_states[0]) < 0.1
    assert torch.cosine_similarity(means(ours), means(expected)).min() > 0.9995


# Threads


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 8e-2), ("int8", 2e-2)])
def test_chunks_on_several_threads(precision, tolerance):
    encoder = PackedEncoder(build(TINY), precision)
    ids, types = sequences(TINY)
    expected = encode(encoder, ids, types).hidden_states[0]
    torch.set_num_threads(3)
    for batch_tokens in (64, 100_000):
        output = encode(encoder, ids, types, batch_tokens=batch_tokens).hidden_states[0]
        assert error(output, expected) < tolerance
    assert torch.get_num_threads() == 3


def test_each_chunk_is_computed_by_one_thread():
    torch.set_num_threads(3)
    seen = []

    def compute(chunk):
        seen.append((torch.get_num_threads(), threading.current_thread().name))
        return chunk * 10

    assert list(in_order(compute, iter(range(20)), 3)) == [chunk * 10 for chunk in range(20)]
    assert {threads for threads, _ in seen} == {1}
    assert len({name for _, name in seen}) <= 3
    assert torch.get_num_threads() == 3


def test_an_error_in_a_chunk_reaches_the_caller_and_ends_the_work():
    done = []

    def compute(chunk):
        if chunk == 3:
            raise RuntimeError("chunk 3")
        done.append(chunk)
        return chunk

    found = in_order(compute, itertools.count(), 2)
    with pytest.raises(RuntimeError, match=r"^chunk 3$"):
        list(found)
    assert max(done) < 8


def test_no_more_chunks_are_taken_than_are_worked_on():
    taken = []
    results = in_order(lambda chunk: chunk, (taken.append(n) or n for n in itertools.count()), 2)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 5
    results.close()


# What cannot be


@pytest.mark.parametrize(
    ("ids", "types", "message"),
    [
        ([[1], []], None, "input_ids: sequence 1 is empty; give it its special tokens"),
        ([[1], [2, 97]], None, "input_ids: sequence 1 has 97, outside 0 to 96"),
        ([[1], [-1, 2]], None, "input_ids: sequence 1 has -1, outside 0 to 96"),
        ([[1], [2**40]], None, f"input_ids: sequence 1 has {2**40}, outside -2147483648 to 2147483647"),
        ([[1.5]], None, r"input_ids: sequence 0 is float64 of shape \(1,\), not a row of whole numbers"),
        ([[[1]]], None, r"input_ids: sequence 0 is int64 of shape \(1, 1\), not a row of whole numbers"),
        ([[1], [5] * 65], None, "sequence 1 has 65 tokens, the model takes at most 64; truncate or split it"),
        ([[1, 2], [3]], [[0, 3], [0]], "token_type_ids: sequence 0 has 3, outside 0 to 2"),
        ([[1, 2], [3]], [[0, 0], [-1]], "token_type_ids: sequence 1 has -1, outside 0 to 255"),
        ([[1, 2], [3]], [[0], [0, 0]], "token_type_ids and input_ids are not of the same lengths"),
    ],
)
def test_bad_sequences(ids, types, message, encoder_of):
    with pytest.raises(ValueError, match=f"^{message}$"):
        encode(encoder_of(build(TINY)), ids, types)


def test_positions_that_begin_later_leave_room_for_fewer_tokens(encoder_of):
    config = dataclasses.replace(TINY, position_offset=2)
    assert (TINY.max_tokens, config.max_tokens) == (64, 62)
    with pytest.raises(
        ValueError, match=r"^sequence 0 has 63 tokens, the model takes at most 62; truncate or split it$"
    ):
        encode(encoder_of(build(config)), [[1] * 63])


@pytest.mark.parametrize("layers", [(5,), (-6,), ()])
def test_bad_layers(layers, encoder_of):
    with pytest.raises(ValueError, match="the model has hidden states -5 to 4"):
        encode(encoder_of(build(TINY)), [[1]], layers=layers)


def test_bad_precisions():
    model = build(TINY)
    with pytest.raises(ValueError, match=r"^precision is 'fp8', not one of fp32, bf16, int8$"):
        PackedEncoder(model, "fp8")
    with pytest.raises(EmbeddingError, match=r"^--precision int8 is for the CPU; on cuda choose fp32 or bf16$"):
        make_encoder(model, device="cuda", precision="int8")


def test_products_are_of_a_few_numbers_of_tokens(monkeypatch):
    """oneDNN keeps a megabyte for each product of another number of rows, so these are few whatever the texts are."""
    seen = set()
    linear = kernels.linear

    def watched(*parts):
        layer = linear(*parts)
        return lambda x, residual: seen.add(len(x)) or layer(x, residual)

    monkeypatch.setattr(kernels, "linear", watched)
    encoder = PackedEncoder(build(TINY))
    random = np.random.default_rng(0)
    for _ in range(300):
        lengths = np.sort(random.integers(1, 64, random.integers(1, 32)))
        batch = TokenBatch.of_rows([random.integers(0, 97, length) for length in lengths])
        (states,) = encoder(batch, [1])
        assert states.shape == (lengths.sum(), 48)
    assert len(seen) <= 32 + 8
    assert {packed.computed_tokens(n) for n in (1, 33, 1000, 1024, 1025, 2000)} == {32, 64, 1024, 1152, 2048}
    assert all(n <= packed.computed_tokens(n) <= max(n + 32, n * 9 / 8) for n in range(1, 9000))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of this process is read from /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_keeps_nothing_for_a_length_and_number_of_sequences(dtype):
    def attended(length, sequences):
        attend(torch.zeros(length * sequences, 3 * 256, dtype=dtype), [length] * sequences, 32)
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = attended(75, 16)
    assert max(attended(length, sequences) for length in range(17, 75, 2) for sequences in range(1, 17)) - before < 60e6
