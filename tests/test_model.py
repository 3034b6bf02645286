"""Our encoder and heads against transformers, against the reference graph's own outputs, and against formulas."""

import dataclasses
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from albert_cli.model.encoder import Encoder
from albert_cli.model.loading import assign, load_model, to_checkpoint
from albert_cli.model.pretraining_heads import PreTrainingModel
from converters import roles, spec
from converters.activations import ACTIVATIONS
from converters.checkpoint import Checkpoint, Tensor
from converters.config import EncoderConfig
from converters.dialects import to_hf
from converters.errors import SpecError
from converters.families.albert import PRESETS
from converters.tokenizers.files import TokenizerFiles

TINY = EncoderConfig(
    vocab_size=97,
    embedding_size=12,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
    type_vocab_size=3,
    initializer_range=0.3,
)
SHAPES = {
    "one group": TINY,
    "two groups of two": dataclasses.replace(TINY, num_hidden_groups=2, inner_group_num=2),
    "layers not divisible by groups": dataclasses.replace(TINY, num_hidden_layers=7, num_hidden_groups=3),
    "22 groups": dataclasses.replace(TINY, num_hidden_layers=22, num_hidden_groups=22),
    "E = H": dataclasses.replace(TINY, embedding_size=32),
    "large epsilon": dataclasses.replace(TINY, layer_norm_eps=1e-3),
}
LAYERS = "albert.encoder.albert_layer_groups."


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def config(request):
    return request.param


def build(config, seed=0, **parts):
    """A model whose every parameter is random: fresh biases and LayerNorms would hide a mix-up."""
    torch.manual_seed(seed)
    model = PreTrainingModel(config, **parts).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def canonical(model, named=None):
    """Its state, or what is `named` by attributes, under canonical names."""
    names = spec.canonical_names(model.config)
    return {names[name]: item for name, item in (named or model.state_dict().items())}


def oracle(model, config):
    """transformers' model with the same weights. No padding_idx, which would blank the gradient of id 0."""
    theirs = transformers.AlbertForPreTraining(
        transformers.AlbertConfig(**(to_hf(config) | {"pad_token_id": None, "classifier_dropout_prob": 0.0}))
    )
    result = theirs.load_state_dict(canonical(model), strict=False)
    assert set(result.missing_keys) <= {"predictions.decoder.weight", "predictions.decoder.bias"}
    assert not result.unexpected_keys
    theirs.tie_weights()
    return theirs.eval()


def inputs(config, batch=3, tokens=17, seed=1):
    torch.manual_seed(seed)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, 1:] = 0
    return {
        "input_ids": torch.randint(0, config.vocab_size, (batch, tokens)),
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, config.type_vocab_size, (batch, tokens)),
        "position_ids": torch.randint(0, config.max_position_embeddings, (batch, tokens)),
    }


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours.float() - theirs.float()).abs().max().item()


def tokens_file(config):
    lines = ["<unk>\t0\n", *(f"▁{number}\t-{number}\n" for number in range(1, config.vocab_size))]
    return TokenizerFiles(vocab="".join(lines).encode(), origin="test")


@pytest.mark.parametrize("given", [(), ("attention_mask",), ("token_type_ids",), ("position_ids",), "all"])
def test_outputs_equal_transformers(config, given):
    most = 2e-5 if config.num_hidden_layers > 20 else 1e-5  # rounding adds up over the layers
    everything = inputs(config)
    batch = {k: v for k, v in everything.items() if given == "all" or k == "input_ids" or k in given}
    model = build(config)
    theirs = oracle(model, config)
    with torch.no_grad():
        ours = model(**batch, output_hidden_states=True)
        expected = theirs(**batch, output_hidden_states=True)
        expected_base = theirs.albert(**batch)
    assert error(ours.encoder.sequence_output, expected_base.last_hidden_state) <= most
    assert error(ours.encoder.pooled_output, expected_base.pooler_output) <= most
    for logits, wanted in (
        (ours.prediction_logits, expected.prediction_logits),
        (ours.pair_logits, expected.sop_logits),
    ):
        assert error(logits.log_softmax(-1), wanted.log_softmax(-1)) <= 2e-5
    assert len(ours.encoder.hidden_states) == config.num_hidden_layers * config.inner_group_num + 1
    assert len(ours.encoder.hidden_states) == len(expected.hidden_states)
    for state, wanted in zip(ours.encoder.hidden_states, expected.hidden_states, strict=True):
        assert error(state, wanted) <= most
    assert ours.encoder.hidden_states[-1] is ours.encoder.sequence_output


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_transformers(name):
    config = dataclasses.replace(TINY, hidden_act=name, initializer_range=0.1)
    model, batch = build(config), inputs(config)
    with torch.no_grad():
        ours, theirs = model(**batch), oracle(model, config)(**batch)
    assert error(ours.prediction_logits, theirs.prediction_logits) <= 1e-5


def test_hidden_states_only_on_request():
    assert build(TINY)(inputs(TINY)["input_ids"]).encoder.hidden_states is None


@pytest.mark.parametrize("masked", [True, False])
def test_gradients_equal_transformers(config, masked):
    """The loss of pre-training; without a mask the padding's own gradient counts too. In double precision, as single
    ones' rounding grows with every layer and differs with the number of threads."""
    batch = inputs(config)
    batch["input_ids"][1, 9:] = 0
    if not masked:
        del batch["attention_mask"]
    labels = torch.randint(0, config.vocab_size, batch["input_ids"].shape)
    order = torch.tensor([0, 1, 1])
    model = build(config)
    theirs = oracle(model, config).double()
    model.double()
    ours = model(**batch)
    loss = F.cross_entropy(ours.prediction_logits.flatten(0, 1), labels.flatten())
    loss = loss + F.cross_entropy(ours.pair_logits, order)
    loss.backward()
    expected = theirs(**batch, labels=labels, sentence_order_label=order).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    wanted = dict(theirs.named_parameters())
    for name, parameter in canonical(model, model.named_parameters()).items():
        scale = max(1.0, wanted[name].grad.abs().max().item())
        assert error(parameter.grad, wanted[name].grad) <= 1e-11 * scale, name


def test_a_mask_hides_exactly_the_padding():
    """Masked text gives what the same text gives alone; an example of padding only stays finite, gradients too."""
    model, batch = build(TINY), inputs(TINY)
    del batch["position_ids"]
    with torch.no_grad():
        padded = model(**batch).encoder.sequence_output[1, :9]
        alone = model(batch["input_ids"][1:2, :9], token_type_ids=batch["token_type_ids"][1:2, :9])
    assert error(padded, alone.encoder.sequence_output[0]) <= 1e-5
    batch["attention_mask"][2] = 0
    output = model(**batch).encoder.sequence_output
    assert output.isfinite().all()
    output[:2].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.encoder.layers.parameters())


def test_too_many_tokens():
    with pytest.raises(ValueError, match="input has 41 tokens, the model takes at most 40; truncate or split it"):
        build(TINY)(torch.zeros(1, 41, dtype=torch.long))


def test_masked_positions_give_the_full_logits_there(config):
    model, batch = build(config), inputs(config)
    positions = torch.tensor([[3, 0, 16, 3], [8, 1, 2, 0], [0, 0, 0, 0]])
    with torch.no_grad():
        full = model(**batch).prediction_logits
        few = model(**batch, masked_positions=positions).prediction_logits
    assert error(few, torch.stack([row[at] for row, at in zip(full, positions, strict=True)])) <= 1e-5


def layer_norm(x, norm):
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def test_hidden_dropout_stands_where_google_has_it():
    """With everything dropped, only what passes around the dropouts is left: biases, residuals and LayerNorms."""
    config = dataclasses.replace(SHAPES["two groups of two"], hidden_dropout_prob=1.0)
    model = build(config).train()
    output = model(**inputs(config)).encoder
    assert not output.embedding_output.any()
    state = model.encoder.projection.bias
    for number in config.layer_uses:
        layer = model.encoder.layers[number]
        state = layer_norm(layer_norm(state, layer.attention_norm), layer.output_norm)
    assert error(output.sequence_output, state.expand_as(output.sequence_output)) <= 1e-5
    pooled = torch.tanh(F.linear(state, model.encoder.pooler.weight, model.encoder.pooler.bias))
    assert error(output.pooled_output, pooled.expand_as(output.pooled_output)) <= 1e-5


def test_attention_dropout_is_on_the_probabilities():
    config = dataclasses.replace(TINY, num_hidden_layers=1, attention_probs_dropout_prob=1.0)
    model, batch = build(config).train(), inputs(config)
    layer = model.encoder.layers[0]
    projected, output = model(**batch, output_hidden_states=True).encoder.hidden_states
    attended = layer_norm(projected + layer.attention_output.bias, layer.attention_norm)
    ffn = layer.output(F.gelu(layer.intermediate(attended), approximate="tanh"))
    assert error(output, layer_norm(ffn + attended, layer.output_norm)) <= 1e-5


@pytest.mark.parametrize("kind", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_random_in_training_and_absent_in_eval(kind):
    config = dataclasses.replace(TINY, **{kind: 0.3})
    model, batch = build(config), inputs(config)
    plain = build(TINY)(**batch).encoder.sequence_output
    assert torch.equal(model(**batch).encoder.sequence_output, plain)
    model.train()
    assert error(model(**batch).encoder.sequence_output, model(**batch).encoder.sequence_output) > 1e-3


def test_fresh_weights_are_drawn_as_google_draws_them():
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS["tiny"], initializer_range=0.05)
    for name, values in canonical(PreTrainingModel(config)).items():
        if name.endswith(("LayerNorm.weight", "layer_norm.weight")):
            assert (values == 1).all(), name
        elif name.endswith("bias"):
            assert (values == 0).all(), name
        else:
            assert values.abs().max() <= 0.1, name
            # A normal cut at two standard deviations has 0.8796 of its standard deviation.
            if values.numel() > 10_000:
                assert values.std().item() == pytest.approx(0.05 * 0.8796, rel=0.03), name
    nothing = PreTrainingModel(dataclasses.replace(TINY, initializer_range=0.0))
    assert not nothing.encoder.pooler.weight.any()


def model_spec(config):
    parts = (*roles.REQUIRED, "pooler", "mlm", "sop")
    found = spec.spec(config).items()
    return {name: item.shape for name, item in found if item.component in parts and not item.optional}


@pytest.mark.parametrize("share", ["all", "attention", "ffn", "none"])
@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_shapes_are_those_of_the_spec(preset, share):
    config = PRESETS[preset].sharing(share)
    with torch.device("meta"):
        model = PreTrainingModel(config)
    assert {name: tuple(tensor.shape) for name, tensor in canonical(model).items()} == model_spec(config)


def test_names_with_groups(config):
    assert {name: tuple(tensor.shape) for name, tensor in canonical(build(config)).items()} == model_spec(config)


def test_absent_parts():
    model = build(TINY, pooler=False, mlm=False, pair=False)
    output = model(**inputs(TINY))
    assert output.prediction_logits is None
    assert output.pair_logits is None
    assert output.encoder.pooled_output is None
    assert {name.split(".")[1] for name in model.state_dict()} == {"embeddings", "projection", "layers"}
    with pytest.raises(ValueError, match="pair=True needs pooler=True"):
        PreTrainingModel(TINY, pooler=False)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("layers", [1, 5])
@pytest.mark.parametrize(
    ("share", "attentions", "ffns"), [("all", 1, 1), ("attention", 1, "L"), ("ffn", "L", 1), ("none", "L", "L")]
)
def test_sharing_parameter_counts(share, attentions, ffns, layers):
    config = dataclasses.replace(TINY, num_hidden_layers=layers).sharing(share)
    E, H, I, V = config.embedding_size, config.hidden_size, config.intermediate_size, config.vocab_size  # noqa: E741
    attention = 4 * (H * H + H) + 2 * H
    ffn = 2 * H * I + I + H + 2 * H
    embeddings = (V + config.max_position_embeddings + config.type_vocab_size + 2) * E
    heads = (H * E + E) + 2 * E + V + (2 * H + 2)
    times = {1: 1, "L": layers}
    layers_total = times[attentions] * attention + times[ffns] * ffn
    expected = embeddings + (E * H + H) + layers_total + (H * H + H) + heads
    assert parameters(PreTrainingModel(config)) == expected


@pytest.mark.parametrize(
    ("embedding_size", "share", "millions"),
    [
        (768, "all", 31),
        (768, "attention", 83),
        (768, "ffn", 57),
        (768, "none", 108),
        (128, "all", 12),
        (128, "attention", 64),
        (128, "ffn", 38),
        (128, "none", 89),
    ],
)
def test_parameters_of_the_papers_table_4(embedding_size, share, millions):
    with torch.device("meta"):
        model = Encoder(dataclasses.replace(PRESETS["base"], embedding_size=embedding_size).sharing(share))
    # Google's code has no projection where E = H; Hugging Face's, and so ours, always has one.
    unprojected = parameters(model.projection) if embedding_size == 768 else 0
    assert (parameters(model) - unprojected) / 1e6 == pytest.approx(millions, abs=1.1)


@pytest.mark.parametrize("share", ["attention", "ffn", "none"])
def test_sharing_variants_equal_transformers(share):
    """transformers knows no tying across groups: the copies in our state_dict give it the same model."""
    config = TINY.sharing(share)
    model, batch = build(config), inputs(config)
    theirs = oracle(model, dataclasses.replace(config, share="none"))
    with torch.no_grad():
        ours, expected = model(**batch), theirs(**batch)
    assert error(ours.prediction_logits.log_softmax(-1), expected.prediction_logits.log_softmax(-1)) <= 2e-5
    assert error(ours.pair_logits, expected.sop_logits) <= 1e-5
    a, b = (model.encoder.layers[number] for number in (0, 3))
    assert (a.query is b.query) == (a.attention_norm is b.attention_norm) == (share == "attention")
    assert (a.intermediate is b.intermediate) == (a.output is b.output) == (share == "ffn")
    assert (a.output_norm is b.output_norm) == (share == "ffn")


@pytest.mark.parametrize("share", ["all", "attention", "ffn", "none"])
def test_sharing_survives_saving_and_loading(share, tmp_path):
    from converters import convert

    config = TINY.sharing(share)
    model = build(config)
    convert.save(to_checkpoint(model, config, tokens_file(config), global_step=7), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert parameters(loaded) == parameters(model)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.config == config
    for name, values in loaded.state_dict().items():
        assert torch.equal(values, model.state_dict()[name]), name
    batch = inputs(config)
    assert torch.equal(loaded(**batch).prediction_logits, model(**batch).prediction_logits)
    assert convert.load(tmp_path / "model").global_step == 7


def checkpoint_of(config, **parts):
    return to_checkpoint(build(config, **parts), config, TokenizerFiles())


def test_checkpoint_lists_the_spec_in_its_order(config):
    assert list(checkpoint_of(config).tensors) == list(model_spec(config))


@pytest.mark.parametrize(
    ("share", "part"), [("attention", "attention.query.bias"), ("ffn", "ffn_output.weight"), ("ffn", "ffn.bias")]
)
def test_differing_copies_are_refused(share, part):
    checkpoint = checkpoint_of(TINY.sharing(share))
    name = f"{LAYERS}2.albert_layers.0.{part}"
    changed = checkpoint.tensors[name].read().copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
    tensors = {**checkpoint.tensors, name: Tensor.of(changed)}
    expected = f"share is {share!r}, yet {name} differs from {LAYERS}0.albert_layers.0.{part}; set share to 'none'"
    with pytest.raises(SpecError) as caught:
        load_model(dataclasses.replace(checkpoint, tensors=tensors))
    assert expected in str(caught.value)
    unshared = dataclasses.replace(checkpoint, tensors=tensors, config=TINY.sharing("none"))
    assert np.array_equal(canonical(load_model(unshared))[name].detach().numpy(), changed)


def test_equal_copies_with_nan_are_accepted():
    checkpoint = checkpoint_of(TINY.sharing("attention"))
    values = np.full(TINY.hidden_size, np.nan, np.float32)
    names = [f"{LAYERS}{group}.albert_layers.0.attention.LayerNorm.weight" for group in range(4)]
    checkpoint = dataclasses.replace(
        checkpoint, tensors={**checkpoint.tensors, **{name: Tensor.of(values) for name in names}}
    )
    assert canonical(load_model(checkpoint))[names[3]].isnan().all()


@pytest.mark.parametrize("parts", [{"mlm": False}, {"pair": False}, {"mlm": False, "pair": False, "pooler": False}])
def test_heads_are_those_of_the_checkpoint(parts):
    model = load_model(checkpoint_of(TINY, **parts))
    assert (model.mlm is None) == ("mlm" in parts)
    assert (model.pair is None) == ("pair" in parts)
    assert (model.encoder.pooler is None) == ("pooler" in parts)


def test_sop_head_without_pooler_is_refused():
    checkpoint = checkpoint_of(TINY)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if "pooler" not in name}
    with pytest.raises(SpecError, match=r"the sentence-order head \(SOP\) reads the pooler, which is missing"):
        load_model(dataclasses.replace(checkpoint, tensors=tensors))


def test_tensors_are_checked_against_the_config():
    checkpoint = checkpoint_of(TINY)
    smaller = dataclasses.replace(checkpoint, config=dataclasses.replace(TINY, vocab_size=96))
    with pytest.raises(SpecError, match=r"word_embeddings\.weight is \[97, 12\], the config asks for \[96, 12\]"):
        load_model(smaller)
    with pytest.raises(SpecError, match=r"has no predictions\.bias, .*, which the model needs"):
        assign(build(TINY), checkpoint_of(TINY, mlm=False))


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype"),
    [(torch.float32, np.float32), (torch.float16, np.float16), (torch.bfloat16, ml_dtypes.bfloat16)],
)
def test_dtypes_there_and_back(dtype, numpy_dtype):
    model = build(TINY).to(dtype)
    checkpoint = to_checkpoint(model, TINY, TokenizerFiles())
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {np.dtype(numpy_dtype)}
    same = load_model(checkpoint, dtype=dtype).state_dict()
    wide = load_model(checkpoint).state_dict()
    for name, values in model.state_dict().items():
        assert same[name].dtype == dtype
        assert torch.equal(same[name], values)
        assert wide[name].dtype == torch.float32
        assert torch.equal(wide[name], values.float())
    batch = inputs(TINY)
    reference, computed = load_model(checkpoint)(**batch), load_model(checkpoint, dtype=dtype)(**batch)
    assert error(computed.encoder.pooled_output, reference.encoder.pooled_output) <= (
        0 if dtype == torch.float32 else 0.1
    )


def test_arrays_that_are_read_only_or_transposed(recwarn):
    """A format may hand out either; the weights are contiguous and safe to train on."""
    checkpoint = checkpoint_of(TINY)

    def awkward(tensor):
        array = tensor.read()
        array = np.ascontiguousarray(array.T).T
        array.flags.writeable = False
        return Tensor.of(array)

    awkward_checkpoint = dataclasses.replace(
        checkpoint, tensors={name: awkward(tensor) for name, tensor in checkpoint.tensors.items()}
    )
    model = load_model(awkward_checkpoint)
    for name, parameter in canonical(model, model.named_parameters()).items():
        assert parameter.is_contiguous()
        assert np.array_equal(parameter.detach().numpy(), checkpoint.tensors[name].read())
    with torch.no_grad():
        model.encoder.pooler.bias.zero_()
    assert awkward_checkpoint.tensors["albert.pooler.bias"].read().any()
    assert not recwarn.list


@pytest.fixture(scope="module")
def reference(shared_data):
    """The reference graph's inputs and outputs, and what our core makes of the same checkpoint."""
    folder = shared_data / "checkpoints" / "tf1-google"
    expected = dict(np.load(folder / "expected.npz"))
    model = load_model(folder)
    ids, mask, types, positions = (
        torch.from_numpy(expected[name])
        for name in ("input_ids", "input_mask", "token_type_ids", "masked_lm_positions")
    )
    with torch.no_grad():
        output = model(ids, mask, types, masked_positions=positions)
    return SimpleNamespace(output=output, expected=expected, real=mask.bool().numpy(), model=model)


def test_reference_encoder(reference):
    encoder, expected = reference.output.encoder, reference.expected
    for name in ("embedding_output", "sequence_output"):
        difference = getattr(encoder, name).numpy() - expected[name]
        assert np.abs(difference[reference.real]).max() <= 1e-5, name
    assert np.abs(encoder.pooled_output.numpy() - expected["pooled_output"]).max() <= 1e-5


def test_reference_heads(reference):
    expected = reference.expected
    mlm = reference.output.prediction_logits.log_softmax(-1)
    sop = reference.output.pair_logits.log_softmax(-1)
    assert np.abs(mlm[:2, :2].numpy() - expected["mlm_log_probs"]).max() <= 5e-5
    assert np.abs(sop.numpy() - expected["sop_log_probs"]).max() <= 5e-5
    labels = torch.from_numpy(expected["masked_lm_ids"])[..., None]
    losses = -mlm.gather(-1, labels).flatten().numpy()
    assert np.abs(losses - expected["mlm_example_loss"]).max() <= 5e-5
    orders = torch.from_numpy(expected["sentence_order_labels"])[:, None]
    assert np.abs(-sop.gather(-1, orders).flatten().numpy() - expected["sop_example_loss"]).max() <= 5e-5
    assert losses.mean() == pytest.approx(float(expected["mlm_loss"]), abs=5e-5)


def test_reference_checkpoint_has_all_heads(reference):
    assert isinstance(to_checkpoint(reference.model, reference.model.config, TokenizerFiles()), Checkpoint)
    assert reference.model.mlm is not None
    assert reference.model.pair is not None
