"""Every family against transformers: names, shapes, outputs; its table against the roles and the columns of formats."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model.loading import load_model, load_task_model
from albert_cli.runs.checkpointing import trained_tensors
from converters import convert, spec
from converters.checkpoint import same_bits
from converters.config import EncoderConfig
from converters.dialects import config_from_json, to_hf
from converters.errors import AlbertError, ConfigError
from converters.families import families, family_of
from converters.family import pattern_of
from converters.initialize import initialize
from converters.names import NameTable
from converters.roles import PARTS, REQUIRED, ROLES
from converters.tokenizers.files import TokenizerFiles

FAMILIES = families()


def tiny(family, **settings):
    """A small config of a family: every size differs from the others where the family allows it."""
    table = FAMILIES[family].config
    layers = settings.get("num_hidden_layers", 3)
    sizes = {
        "vocab_size": 37,
        "embedding_size": 16 if "embedding_size" in table.derived else 12,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_hidden_groups": layers if "num_hidden_groups" in table.derived else 1,
        "num_attention_heads": 4,
        "intermediate_size": 20,
        "max_position_embeddings": 14,
        "initializer_range": 0.3,
        "family": family,
    }
    if table.positions_follow_pad:
        sizes |= {"position_offset": 2, "type_vocab_size": 1, "extra": {"pad_token_id": 1}}
    return EncoderConfig(**sizes | dict(table.defaults) | settings)


def parts_of(family, head):
    """The components of a class of transformers beside the encoder."""
    return family.classes.get(head, ("pooler",) if has_pooler(family) else ())


def has_pooler(family):
    return any(entry.role == "pooler" for entry in family.entries)


HEADS = [(name, head) for name, family in FAMILIES.items() for head in [*family.classes, family.bare]]
# The class with the heads of pre-training.
PRETRAINED = {
    name: next(head for head, parts in family.classes.items() if {*family.fresh} == {*parts})
    for name, family in FAMILIES.items()
}


def transformers_model(name, config):
    """A class of transformers, fresh and without dropout."""
    settings = getattr(transformers, name).config_class(**(to_hf(config) | {"classifier_dropout_prob": 0.0}))
    return getattr(transformers, name)(settings).eval()


def model_of(name, head, seed=3, **settings):
    """A model of ours with the heads of a class of transformers."""
    family = FAMILIES[name]
    config = tiny(name, **settings)
    reads = family.reads_classifier.get(head)
    parts = ["classifier" if part == reads else part for part in parts_of(family, head)]
    config = dataclasses.replace(config, extra={**config.extra, "architectures": [head]})
    return initialize(config, TokenizerFiles(), seed=seed, heads=parts, free=1 if reads == "choice" else 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_entry_has_a_role_and_each_required_component_has_entries(name):
    family = FAMILIES[name]
    roles = [entry.role for entry in family.entries]
    assert len(roles) == len(set(roles))
    assert set(roles) <= ROLES.keys()
    assert {ROLES[role].component for role in roles} >= set(REQUIRED) - {"projection"}


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_names_and_shapes_are_those_of_transformers(name, head):
    config = tiny(name)
    family = FAMILIES[name]
    theirs = transformers_model(head, config).state_dict()
    wanted = {key: item for key, item in spec.spec(config).items() if not item.optional}
    tied = {key for key in theirs if key in family.tied}
    shapes = {}
    for key, tensor in theirs.items():
        canonical = key if head != family.bare else f"{family.prefix}{key}"
        if key not in tied and family.hf.dropped(canonical) is None:
            shapes[canonical] = tuple(tensor.shape)
    parts = {*parts_of(family, head), *REQUIRED}
    reads = family.reads_classifier.get(head)
    components = {"classifier" if part == reads else part for part in parts}
    expected = {key: item.shape for key, item in wanted.items() if item.component in components}
    assert shapes.keys() == expected.keys()
    for key, shape in shapes.items():
        assert all(size in (None, found) for size, found in zip(expected[key], shape, strict=True)), key


def inputs(config, choices=False):
    """Rows of every length up to the limit, padded, the second half of each of type 1: ids, mask, types."""
    pad = config.position_offset - 1 if config.position_offset else 0
    limit = config.max_tokens
    random = np.random.default_rng(5)
    ids = np.full((limit, limit), pad)
    types = np.zeros((limit, limit), int)
    for length in range(1, limit + 1):
        ids[length - 1, :length] = random.integers(2, config.vocab_size, length)
        types[length - 1, length // 2 : length] = config.type_vocab_size - 1
    mask = (ids != pad).astype(int)
    tensors = (torch.tensor(ids), torch.tensor(mask), torch.tensor(types))
    return tuple(x[:12].view(3, 4, -1) for x in tensors) if choices else tensors


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_transformers_loads_and_computes_the_same(name, head, tmp_path):
    """Every head, with padding, pairs and every length; nothing missing, nothing left over."""
    checkpoint = model_of(name, head)
    config, family = checkpoint.config, FAMILIES[name]
    convert.save(checkpoint, tmp_path / "hf")
    assert json.loads((tmp_path / "hf/config.json").read_text())["architectures"] == [head]
    theirs, info = getattr(transformers, head).from_pretrained(
        tmp_path / "hf", output_loading_info=True, attn_implementation="eager"
    )
    assert {key: list(found) for key, found in info.items() if found} == {}
    theirs = theirs.eval()
    choices = family.reads_classifier.get(head) == "choice"
    ids, mask, types = inputs(config, choices)
    real = mask.bool()
    parts = set(parts_of(family, head)) - {"pooler", "summary"}
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types)
        if parts & {"classifier", "first_token", "tokens", "choice", "qa"}:
            found = load_task_model(tmp_path / "hf")(ids, mask, types)
            if "qa" in parts:
                wanted = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
                assert (found - wanted)[real].abs().max() < 1e-5
            else:
                difference = (found - expected.logits).abs()
                assert (difference[real] if "tokens" in parts else difference).max() < 1e-5
            return
        found = load_model(tmp_path / "hf")(ids, mask, types)
    if not parts:
        assert (found.encoder.sequence_output - expected.last_hidden_state)[real].abs().max() < 1e-5
        if has_pooler(family):
            assert (found.encoder.pooled_output - expected.pooler_output).abs().max() < 1e-5
    if "mlm" in parts:
        logits = expected.logits if "logits" in expected else expected.prediction_logits
        assert (found.prediction_logits - logits)[real].abs().max() < 1e-5
    if family.pair in parts:
        key = next(key for key in ("sop_logits", "seq_relationship_logits", "logits") if key in expected)
        assert (found.pair_logits - expected[key]).abs().max() < 1e-5
    if "rtd" in parts:
        assert (found.replaced_logits - expected.logits)[real].abs().max() < 1e-5


FORMATS = {"torch": "out", "npz": "out.npz", "bson": "out.bson", "tf": "out", "saved-model": "out"}


def case(name, head, form):
    """A SavedModel takes seconds, so the quick tests have one for each family."""
    slow = form == "saved-model" and head != PRETRAINED[name]
    return pytest.param(name, head, form, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("name", "head", "format"), [case(*pair, form) for form in FORMATS for pair in HEADS])
def test_every_format_with_a_column_and_back(name, head, format, tmp_path):
    checkpoint = model_of(name, head)
    if unwritable := without_column(checkpoint, format):
        with pytest.raises(AlbertError, match=unwritable):
            convert.save(checkpoint, tmp_path / FORMATS[format], format=format)
        assert not (tmp_path / FORMATS[format]).exists()
        return
    convert.save(checkpoint, tmp_path / FORMATS[format], format=format)
    convert.convert(tmp_path / FORMATS[format], tmp_path / "hf")
    back = convert.load(tmp_path / "hf")
    assert back.tensors.keys() == checkpoint.tensors.keys()
    assert all(same_bits(back.tensors[key].read(), tensor.read()) for key, tensor in checkpoint.tensors.items())
    assert dataclasses.replace(back.config, extra={}) == dataclasses.replace(checkpoint.config, extra={})


def without_column(checkpoint, format):
    """What a format that has no name for a model says; None where it has."""
    family = FAMILIES[checkpoint.config.family]
    if format == "tf" and family.config.google_file is None:
        return "Google's TF1 checkpoints have no names for a roberta; choose another format, such as safetensors"
    if format == "saved-model" and not family.keras(checkpoint.config).rows:
        return f"TF-Hub's modules have no names for a {family.model_type}; choose another format, such as safetensors"
    if format in ("tf", "saved-model"):
        table = family.google(checkpoint.components) if format == "tf" else family.keras(checkpoint.config)
        named = table.expand(checkpoint.config).by_canonical
        lacking = [name for name in checkpoint.tensors if name not in named]
        return f"the target format has no name for {re.escape(lacking[0])}" if lacking else None
    return None


@pytest.mark.parametrize("scheme", ["google", "keras", "fairseq"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_column_leads_back_to_the_same_arrays(name, scheme):
    family = FAMILIES[name]
    shapes = ((3, 1), (4, 2)) if name == "albert" else ((3, 3), (1, 1))
    for layers, groups in shapes:
        config = tiny(name, num_hidden_layers=layers, num_hidden_groups=groups)
        tables = {
            "google": [family.google([part.component]) for part in family.parts] or [family.google()],
            "keras": [family.keras(config)],
            "fairseq": [family.fairseq],
        }
        for table in tables[scheme]:
            names = table.expand(config)
            for key, row in names.by_canonical.items():
                item = spec.spec(config)[key]
                shape = tuple(2 if size is None else size for size in item.shape)
                array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
                stored = row.layout.to_foreign(array, config)
                assert (row.layout.to_canonical(stored, config) == array).all(), key
                assert names.by_foreign[row.foreign] is row
            if table.rows:
                layers_named = [key for key in names.by_canonical if spec.spec(config)[key].component == "encoder"]
                assert len(layers_named) == 16 * len(config.places)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_places_of_layers_are_read_off_foreign_names(name):
    grouped = {"num_hidden_layers": 6, "num_hidden_groups": 3, "inner_group_num": 2}
    config = tiny(name, **(grouped if name == "albert" else {"num_hidden_layers": 6}))
    family = FAMILIES[name]
    for table in (family.google(), family.keras(config), family.fairseq):
        if table.rows:
            found = family.places_in(table.expand(config).by_foreign)
            assert found == {(place["group"], place["inner"]) for place in config.places}
    assert family.places_in(["global_step", "bert/pooler/dense/kernel"]) == set()


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_attributes_are_those_of_the_pytorch_model(name, head):
    """Canonical names and the attributes of our modules are one to one, and a run's state has canonical names."""
    checkpoint = model_of(name, head)
    names = spec.canonical_names(checkpoint.config)
    assert len(set(names.values())) == len(names)
    heads = {*checkpoint.components} & {"classifier", "first_token", "tokens", "choice", "qa"}
    model = load_task_model(checkpoint) if heads else load_model(checkpoint)
    assert {names[key] for key in model.state_dict()} == set(checkpoint.tensors)
    assert trained_tensors(model).keys() == set(checkpoint.tensors)


def test_shared_layers_have_one_owner():
    config = tiny("albert").sharing("attention")
    wanted = spec.spec(config)
    layer = "albert.encoder.albert_layer_groups.{}.albert_layers.0."
    assert wanted[layer.format(2) + "attention.LayerNorm.bias"].owner == layer.format(0) + "attention.LayerNorm.bias"
    assert wanted[layer.format(2) + "ffn.weight"].owner == layer.format(2) + "ffn.weight"
    config = tiny("albert").sharing("ffn")
    wanted = spec.spec(config)
    assert (
        wanted[layer.format(1) + "full_layer_layer_norm.bias"].owner == layer.format(0) + "full_layer_layer_norm.bias"
    )
    assert wanted[layer.format(1) + "attention.query.weight"].owner == layer.format(1) + "attention.query.weight"


def test_a_name_in_two_rows_is_refused():
    rows = FAMILIES["albert"].google().rows
    with pytest.raises(ValueError, match=r"canonical name 'albert\.pooler\.bias' stands in two rows"):
        NameTable([*rows, next(row for row in rows if row.canonical == "albert.pooler.bias")])


def test_parts_are_named_for_every_kind():
    assert {role.kind for role in ROLES.values()} <= PARTS.keys()
    for role in ROLES.values():
        shapes = role.shapes(tiny("albert"))
        assert tuple(shapes) == PARTS[role.kind]


def test_a_pattern_names_its_indices():
    match = pattern_of("a.{group}/b_{inner}").fullmatch("a.12/b_3")
    assert match.groupdict() == {"group": "12", "inner": "3"}
    assert pattern_of("a.{group}").fullmatch("axb") is None


def test_a_config_knows_its_family():
    config = tiny("albert")
    assert family_of(config) is FAMILIES["albert"]
    assert to_hf(config)["model_type"] == "albert"
    assert "family" not in to_hf(config)
    assert dataclasses.replace(config, hidden_act="relu").family == "albert"


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"albert"}))
def test_the_dropout_of_a_classifier_has_its_key(name):
    data = to_hf(tiny(name)) | {"classifier_dropout": 0.25}
    config = config_from_json(data, "here", dialect="hf")
    assert config.head_dropout_prob == 0.25
    assert to_hf(config)["classifier_dropout"] == 0.25
    assert config_from_json(data | {"classifier_dropout": None}, "here", dialect="hf").head_dropout_prob == 0.1


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"albert"}))
@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention"])
def test_a_decoder_is_refused(name, key):
    data = to_hf(tiny(name))
    assert config_from_json(data | {key: False}, "here", dialect="hf").extra[key] is False
    with pytest.raises(ConfigError, match=f"here: {key} is True: decoders are not supported, only encoders"):
        config_from_json(data | {key: True}, "here", dialect="hf")


def test_positions_follow_the_padding_of_a_roberta():
    """Whatever its id is: the first token's position is one more, and that many fewer tokens fit."""
    config = config_from_json(to_hf(tiny("roberta")) | {"pad_token_id": 4}, "here", dialect="hf")
    assert (config.position_offset, config.max_tokens) == (5, 9)
    with pytest.raises(ConfigError, match="here: pad_token_id is -1, not an id; positions are counted from it"):
        config_from_json(to_hf(tiny("roberta")) | {"pad_token_id": -1}, "here", dialect="hf")


@pytest.mark.parametrize("mask", [True, False])
def test_padding_of_a_roberta_has_no_position_anywhere(mask, tmp_path):
    """Positions follow the ids, not the mask; without a mask that is made of the ids, as fairseq does."""
    checkpoint = model_of("roberta", "RobertaModel")
    convert.save(checkpoint, tmp_path / "hf")
    ids = torch.tensor([[1, 1, 5, 9, 1, 7, 1], [4, 5, 6, 7, 8, 9, 10]])
    real = ids != 1
    with torch.no_grad():
        found = load_model(tmp_path / "hf")(ids, real if mask else None).encoder.sequence_output
        theirs = transformers.RobertaModel.from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
        expected = theirs(ids, real.long()).last_hidden_state
    assert (found - expected)[real].abs().max() < 1e-5


def test_labels_are_as_many_as_the_head_has(tmp_path):
    """transformers takes two unless the config says otherwise."""
    checkpoint = initialize(tiny("bert"), TokenizerFiles(), seed=1, heads=["pooler", "classifier"], free=3)
    convert.save(checkpoint, tmp_path / "hf")
    data = json.loads((tmp_path / "hf/config.json").read_text())
    assert data["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").num_labels == 3
    assert "id2label" not in convert.load(tmp_path / "hf").config.extra
