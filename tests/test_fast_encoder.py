"""The fast encoder against the plain one and transformers, its kernels against formulas, and its fallbacks."""

import dataclasses
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model import kernels
from albert_cli.model import packed as fast
from albert_cli.model.encoder import ACTIVATIONS, Encoder, activation
from albert_cli.model.packed import FastEncoder
from albert_cli.model.pretraining_heads import PreTrainingModel
from converters import spec
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
    lengths = [1, config.max_position_embeddings, 1, *generator.integers(1, 24, number - 3)]
    return tuple(
        [generator.integers(0, size, length) for length in lengths]
        for size in (config.vocab_size, config.type_vocab_size)
    )


def one_by_one(model, ids, types):
    """Hidden states of the plain encoder, each (tokens of all sequences, H)."""
    with torch.no_grad():
        outputs = [
            model(torch.tensor(i[None]), token_type_ids=torch.tensor(t[None]), output_hidden_states=True).hidden_states
            for i, t in zip(ids, types, strict=True)
        ]
    return [torch.cat([states[0] for states in layer]) for layer in zip(*outputs, strict=True)]


def error(a, b):
    return (a - b).abs().max().item()


def means(output):
    spans = zip(output.offsets[:-1], output.offsets[1:], strict=True)
    return torch.stack([output.hidden_states[0][start:stop].mean(0) for start, stop in spans])


def test_every_layer_equals_the_plain_encoder(config):
    model = build(config)
    ids, types = sequences(config)
    encoder = FastEncoder(model)
    output = encoder.encode(ids, types, layers=range(encoder.layers))
    expected = one_by_one(model, ids, types)
    assert output.offsets.tolist() == [0, *np.cumsum([len(i) for i in ids])]
    assert len(output.hidden_states) == len(expected) == 1 + config.num_hidden_layers * config.inner_group_num
    for ours, plain in zip(output.hidden_states, expected, strict=True):
        assert error(ours, plain) < 1e-5


def test_equals_transformers():
    config = dataclasses.replace(TINY, num_hidden_groups=2, inner_group_num=2)
    model = build(config)
    theirs = transformers.AlbertModel(transformers.AlbertConfig(**(to_hf(config) | {"pad_token_id": None}))).eval()
    names = theirs.state_dict().keys()
    canonical = spec.canonical_names(config)
    state = {canonical[f"encoder.{name}"].removeprefix("albert."): item for name, item in model.state_dict().items()}
    theirs.load_state_dict({name: state[name] for name in names})
    ids, types = sequences(config)
    output = FastEncoder(model).encode(ids, types).hidden_states[0]
    with torch.no_grad():
        expected = [
            theirs(torch.tensor(i[None]), token_type_ids=torch.tensor(t[None])).last_hidden_state[0]
            for i, t in zip(ids, types, strict=True)
        ]
    assert error(output, torch.cat(expected)) < 1e-5


def test_equals_the_plain_encoder_at_base_shape_and_512_tokens():
    model = Encoder(dataclasses.replace(PRESETS["base"], vocab_size=500, num_hidden_layers=3), pooler=False).eval()
    generator = np.random.default_rng(4)
    ids = [generator.integers(0, 500, length) for length in (512, 3, 40, 512, 38)]
    output = FastEncoder(model, "fp32").encode(ids)
    with torch.inference_mode():
        for number, row in enumerate(ids):
            expected = model(torch.from_numpy(row)[None]).sequence_output[0]
            got = output.hidden_states[0][output.offsets[number] : output.offsets[number + 1]]
            assert (got - expected).abs().max() < 1e-5


def test_int8_keeps_the_sentence_vectors_of_trained_weights(shared_data):
    from albert_cli.embedding.embedder import Embedder

    lines = (shared_data / "glue/QNLI/dev.tsv").read_text(encoding="utf-8").split("\n")[1:129]
    texts = [line.split("\t")[2] for line in lines]
    fp32, int8 = (Embedder.from_pretrained("built-in", precision=name).embed(texts) for name in ("fp32", "int8"))
    cosines = (fp32 * int8).sum(1) / np.linalg.norm(fp32, axis=1) / np.linalg.norm(int8, axis=1)
    assert cosines.mean() > 0.995


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_any_activation(act):
    model = build(dataclasses.replace(TINY, hidden_act=act, num_hidden_layers=2))
    ids, types = sequences(TINY)
    assert error(FastEncoder(model).encode(ids, types).hidden_states[0], one_by_one(model, ids, types)[-1]) < 1e-5
    exact, steps = (FastEncoder(model, precision).encode(ids, types) for precision in ("fp32", "int8"))
    assert torch.cosine_similarity(means(exact), means(steps)).min() > 0.999


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 100_000])
def test_vectors_do_not_depend_on_the_batch(precision, batch_tokens):
    model = build(TINY)
    ids, types = sequences(TINY)
    encoder = FastEncoder(model, precision, batch_tokens=batch_tokens)
    expected = FastEncoder(model, precision).encode(ids, types)
    order = np.random.default_rng(1).permutation(len(ids))
    output = encoder.encode([ids[n] for n in order], [types[n] for n in order])
    # Sums are taken in another order, and where one falls near the middle of two steps, int8 takes the other step.
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    for place, n in enumerate(order):
        ours = output.hidden_states[0][output.offsets[place] : output.offsets[place + 1]]
        assert error(ours, expected.hidden_states[0][expected.offsets[n] : expected.offsets[n + 1]]) < tolerance


def test_int8_stays_close(config):
    model = build(config)
    ids, types = sequences(config)
    exact, steps = (FastEncoder(model, precision).encode(ids, types) for precision in ("fp32", "int8"))
    cosines = torch.cosine_similarity(means(exact), means(steps))
    assert cosines.mean() > 0.9995
    assert cosines.min() > 0.998


def test_layers_asked_for_in_any_order():
    model = build(TINY)
    ids, types = sequences(TINY)
    encoder = FastEncoder(model)
    every = encoder.encode(ids, types, layers=range(encoder.layers)).hidden_states
    for ours, number in zip(
        encoder.encode(ids, types, layers=(-1, 0, 2, -3, 0)).hidden_states, (4, 0, 2, 2, 0), strict=True
    ):
        assert torch.equal(ours, every[number])


def test_layers_above_the_highest_are_not_computed(monkeypatch):
    model = build(TINY)
    calls = []
    plain = fast._PackedLayer.__call__
    monkeypatch.setattr(fast._PackedLayer, "__call__", lambda self, *a: calls.append(1) or plain(self, *a))
    ids = sequences(TINY)[0]
    FastEncoder(model, batch_tokens=10**6).encode(ids, layers=(1, 2))
    assert len(calls) == 2


def test_types_default_to_zero_and_lists_are_taken():
    model = build(TINY)
    ids = sequences(TINY)[0]
    encoder = FastEncoder(model)
    expected = encoder.encode(ids, [np.zeros_like(i) for i in ids]).hidden_states[0]
    assert torch.equal(encoder.encode([i.tolist() for i in ids]).hidden_states[0], expected)


def test_no_sequences():
    output = FastEncoder(build(TINY)).encode([])
    assert output.hidden_states[0].shape == (0, TINY.hidden_size)
    assert output.offsets.tolist() == [0]


def test_pretraining_models_and_bfloat16_weights():
    torch.manual_seed(0)
    model = PreTrainingModel(TINY).eval()
    ids, types = sequences(TINY)
    output = FastEncoder(model).encode(ids, types).hidden_states[0]
    assert error(output, one_by_one(model.encoder, ids, types)[-1]) < 1e-5
    half = FastEncoder(model.to(torch.bfloat16)).encode(ids, types).hidden_states[0]
    assert error(half, one_by_one(model.encoder.float(), ids, types)[-1]) < 1e-5


def test_the_weights_are_copied_and_dropout_is_off():
    model = build(dataclasses.replace(TINY, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5))
    ids = sequences(TINY)[0]
    encoders = [FastEncoder(model.train(), precision) for precision in ("fp32", "int8", "bf16")]
    before = [encoder.encode(ids).hidden_states[0] for encoder in encoders]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert model.training
    for encoder, expected in zip(encoders, before, strict=True):
        assert torch.equal(encoder.encode(ids).hidden_states[0], expected)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    seen = []
    encoder = FastEncoder(build(TINY), threads=before + 1)
    compute = encoder._encoder.hidden_states
    encoder._encoder = SimpleNamespace(hidden_states=lambda *a: seen.append(torch.get_num_threads()) or compute(*a))
    encoder.encode(sequences(TINY)[0])
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


# Elsewhere than on the CPU, and in bf16: padded batches.


@pytest.mark.parametrize("batch_tokens", [1, 50, 100_000])
def test_padded_batches_equal_the_plain_encoder(config, batch_tokens):
    model = build(config)
    ids, types = sequences(config)
    encoder = FastEncoder(model, batch_tokens=batch_tokens)
    encoder._encoder = fast._PaddedEncoder(model, torch.device("cpu"), torch.float32)
    output = encoder.encode(ids, types, layers=range(encoder.layers)).hidden_states
    for ours, plain in zip(output, one_by_one(model, ids, types), strict=True):
        assert error(ours, plain) < 1e-5


def test_bf16_stays_close():
    model = build(TINY)
    ids, types = sequences(TINY)
    exact, half = (FastEncoder(model, precision).encode(ids, types) for precision in ("fp32", "bf16"))
    assert half.hidden_states[0].dtype == torch.float32
    assert torch.cosine_similarity(means(exact), means(half)).min() > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_stays_close():
    model = build(TINY)
    ids, types = sequences(TINY)
    exact, half = (FastEncoder(model, device=device).encode(ids, types) for device in ("cpu", "cuda"))
    assert torch.cosine_similarity(means(exact), means(half)).min() > 0.999


# Kernels


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_linear_equals_the_formula(act):
    torch.manual_seed(0)
    x, weight, bias, residual = torch.randn(33, 40), torch.randn(24, 40) * 0.2, torch.randn(24), torch.randn(33, 24)
    layer = kernels.linear(weight, bias, act)
    expected = activation(act)(x @ weight.T + bias)
    assert error(layer(x, None), expected) < 2e-5
    assert error(layer(x, residual), expected + residual) < 2e-5


@pytest.mark.parametrize("floor", [None, -0.1701, 0.0])
def test_quantize_rounds_to_the_nearest_step(floor):
    torch.manual_seed(0)
    x = torch.randn(50, 64) * torch.logspace(-3, 3, 50)[:, None]
    if floor is not None:
        x = x.clamp(min=floor)
    x[3] = 0
    steps, scale = kernels.quantize(x, floor)
    zero_point, offset = (128, 0) if floor is None else (0, floor)
    assert steps.dtype == torch.uint8
    back = (steps.double() - zero_point) * scale.double() + offset
    assert ((back - x).abs() <= scale * 0.501 + 1e-6).all()
    assert torch.equal(kernels.quantize(x[7:8], floor).steps, steps[7:8])


@pytest.mark.parametrize("floor", [None, -0.1701])
@pytest.mark.parametrize("operators", [True, False])
def test_byte_linear_equals_its_formula(floor, operators, monkeypatch):
    if operators and not kernels._byte_operators_work():
        pytest.skip("this PyTorch or CPU has no exact byte products (VNNI), so they are not used")
    monkeypatch.setattr(kernels, "_byte_operators_work", lambda: operators)
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(33, 40).clamp(min=-9 if floor is None else floor),
        torch.randn(24, 40),
        torch.randn(24),
    )
    weight[5] = 0
    rows = kernels.quantize(x, floor)
    layer = kernels.byte_linear(weight, bias, floor=floor)
    row_scale = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-30).double()
    rounded = (weight / row_scale).round() * row_scale
    back = (rows.steps.double() - (128 if floor is None else 0)) * rows.scale + (floor or 0)
    expected = back @ rounded.T + bias
    assert error(layer(rows, None), expected) < 1e-4
    residual = torch.randn(33, 24)
    assert error(layer(rows, residual.clone()), expected + residual) < 1e-4


@pytest.fixture
def no_private_operators(monkeypatch):
    """As on a PyTorch without oneDNN."""
    for check in (kernels._float_operators_work, kernels._byte_operators_work):
        check.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    monkeypatch.setattr(torch.ops, "onednn", SimpleNamespace())
    yield
    for check in (kernels._float_operators_work, kernels._byte_operators_work):
        check.cache_clear()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 2e-2)])
def test_the_same_vectors_without_private_operators(precision, tolerance, request):
    model = build(TINY)
    ids, types = sequences(TINY)
    expected = FastEncoder(model, precision).encode(ids, types).hidden_states[0]
    request.getfixturevalue("no_private_operators")
    output = FastEncoder(model, precision).encode(ids, types).hidden_states[0]
    assert not kernels._float_operators_work("gelu_new")
    assert not kernels._byte_operators_work()
    assert error(output, expected) < tolerance


def test_operators_that_compute_something_else_are_not_used(monkeypatch, no_private_operators):
    wrong = SimpleNamespace(
        _reorder_linear_weight=lambda weight: weight,
        _linear_pointwise=lambda x, weight, bias, *rest: x @ weight.T,
        qlinear_prepack=lambda steps, shape: steps,
        qlinear_pointwise=lambda x, a, zero_point, steps, scale, *rest: (x.float() - zero_point) @ steps.float().T,
    )
    monkeypatch.setattr(torch.ops, "mkldnn", wrong)
    monkeypatch.setattr(torch.ops, "onednn", wrong)
    assert not kernels._float_operators_work("linear")
    assert not kernels._byte_operators_work()


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for precision in ("fp32", "int8", "bf16"):
            packed = FastEncoder(build(TINY), precision).encode(sequences(TINY)[0])
            assert packed.hidden_states[0].isfinite().all()


# What cannot be


@pytest.mark.parametrize(
    ("ids", "types", "message"),
    [
        ([[1], []], None, "input_ids: sequence 1 is empty; give it its special tokens"),
        ([[1], [2, 97]], None, "input_ids: sequence 1 has 97, outside 0 to 96"),
        ([[1], [-1, 2]], None, "input_ids: sequence 1 has -1, outside 0 to 96"),
        ([[1.5]], None, r"input_ids: sequence 0 is float64 of shape \(1,\), not a row of whole numbers"),
        ([[[1]]], None, r"input_ids: sequence 0 is int64 of shape \(1, 1\), not a row of whole numbers"),
        ([[1], [5] * 65], None, "sequence 1 has 65 tokens, the model takes at most 64; truncate or split it"),
        ([[1, 2], [3]], [[0, 3], [0]], "token_type_ids: sequence 0 has 3, outside 0 to 2"),
        ([[1, 2], [3]], [[0], [0, 0]], "token_type_ids and input_ids are not of the same lengths"),
    ],
)
def test_bad_sequences(ids, types, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FastEncoder(build(TINY)).encode(ids, types)


@pytest.mark.parametrize("layers", [(5,), (-6,), ()])
def test_bad_layers(layers):
    with pytest.raises(ValueError, match="the model has hidden states -5 to 4"):
        FastEncoder(build(TINY)).encode([[1]], layers=layers)


def test_bad_options():
    model = build(TINY)
    with pytest.raises(ValueError, match="precision is 'fp8', not one of auto, fp32, bf16, int8"):
        FastEncoder(model, "fp8")
    with pytest.raises(ValueError, match="precision int8 runs on the CPU, not on cuda; take bf16 or fp32 there"):
        FastEncoder(model, "int8", device="cuda")
    with pytest.raises(ValueError, match="threads is 0, not a number from 1 up"):
        FastEncoder(model, threads=0)
    with pytest.raises(ValueError, match=r"model is a Linear, which is no Encoder and holds none as \.encoder"):
        FastEncoder(torch.nn.Linear(2, 2))
