"""Every family against transformers: names, shapes, outputs; its table against the roles and the columns of formats."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model.encoder import Encoder
from albert_cli.model.loading import load_model
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.runs.checkpointing import trained_tensors
from converters import spec
from converters.config import EncoderConfig
from converters.dialects import to_hf
from converters.families import families, family_of
from converters.family import pattern_of
from converters.initialize import initialize
from converters.names import NameTable
from converters.roles import PARTS, REQUIRED, ROLES
from converters.tokenizers.files import TokenizerFiles

FAMILIES = families()


def tiny(family, **settings):
    """A small config of a family: every size differs from the others where the family allows it."""
    return EncoderConfig(
        **{
            "vocab_size": 37,
            "embedding_size": 12,
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 20,
            "max_position_embeddings": 14,
            "initializer_range": 0.3,
            "family": family,
        }
        | settings
    )


def transformers_model(name, config):
    """A class of transformers, fresh and without dropout."""
    settings = getattr(transformers, name).config_class(
        **(to_hf(config) | {"classifier_dropout_prob": 0.0, "pad_token_id": None})
    )
    return getattr(transformers, name)(settings).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_each_entry_has_a_role_and_each_required_component_has_entries(name):
    family = FAMILIES[name]
    roles = [entry.role for entry in family.entries]
    assert len(roles) == len(set(roles))
    assert set(roles) <= ROLES.keys()
    assert {ROLES[role].component for role in roles} >= set(REQUIRED) - {"projection"}


@pytest.mark.parametrize(
    ("name", "head"), [(name, head) for name, family in FAMILIES.items() for head in [*family.classes, family.bare]]
)
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
    parts = {*family.classes.get(head, ("pooler",)), *REQUIRED}
    reads = family.reads_classifier.get(head)
    components = {"classifier" if part == reads else part for part in parts}
    expected = {key: item.shape for key, item in wanted.items() if item.component in components}
    assert shapes.keys() == expected.keys()
    for key, shape in shapes.items():
        assert all(size in (None, found) for size, found in zip(expected[key], shape, strict=True)), key


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_computes_what_transformers_computes(name):
    config = tiny(name)
    family = FAMILIES[name]
    checkpoint = initialize(config, TokenizerFiles(), seed=3)
    ours = load_model(checkpoint)
    head = next(key for key, parts in family.classes.items() if {"mlm", family.pair} <= set(parts))
    theirs = transformers_model(head, config)
    tensors = {key: torch.from_numpy(tensor.read().copy()) for key, tensor in checkpoint.tensors.items()}
    missing, unexpected = theirs.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert {key for key in missing if key not in family.tied and family.hf.dropped(key) is None} == set()
    theirs.tie_weights()
    ids = torch.tensor([[2, 5, 7, 9, 3, 0, 0], [2, 30, 31, 3, 36, 11, 3]])
    mask, types = (ids != 0).long(), torch.tensor([[0] * 7, [0, 0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        found = ours(ids, mask, types)
        expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
    real = mask.bool()
    assert (found.encoder.sequence_output - expected.hidden_states[-1])[real].abs().max() < 1e-5
    assert (found.prediction_logits - expected.prediction_logits)[real].abs().max() < 2e-5
    assert (found.pair_logits - expected.sop_logits).abs().max() < 1e-5


@pytest.mark.parametrize("scheme", ["google", "keras"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_column_leads_back_to_the_same_arrays(name, scheme):
    family = FAMILIES[name]
    for layers, groups in ((3, 1), (4, 2)):
        config = tiny(name, num_hidden_layers=layers, num_hidden_groups=groups)
        table = family.google if scheme == "google" else family.keras(config)
        names = table.expand(config)
        for key, item in spec.spec(config).items():
            row = names.by_canonical.get(key)
            if row is None:
                assert item.role == "mlm.decoder", key
                continue
            shape = tuple(2 if size is None else size for size in item.shape)
            array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            stored = row.layout.to_foreign(array, config)
            assert (row.layout.to_canonical(stored, config) == array).all(), key
            assert names.by_foreign[row.foreign] is row


@pytest.mark.parametrize("name", FAMILIES)
def test_the_places_of_layers_are_read_off_foreign_names(name):
    config = tiny(name, num_hidden_layers=6, num_hidden_groups=3, inner_group_num=2)
    family = FAMILIES[name]
    for table in (family.google, family.keras(config)):
        found = family.places_in(table.expand(config).by_foreign)
        assert found == {(place["group"], place["inner"]) for place in config.places}
    assert family.places_in(["global_step", "bert/pooler/dense/kernel"]) == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_attributes_are_those_of_the_pytorch_model(name):
    config = tiny(name)
    names = spec.canonical_names(config)
    assert len(set(names.values())) == len(names)
    state = PreTrainingModel(config).state_dict()
    assert state.keys() <= names.keys()
    assert {f"encoder.{key}" for key in Encoder(config).state_dict()} == {
        key for key in names if key.startswith("encoder.")
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_the_state_of_a_run_has_canonical_names(name):
    """So that a run can be resumed whatever the attributes of the PyTorch model are called."""
    model = PreTrainingModel(tiny(name))
    assert trained_tensors(model).keys() == {spec.canonical_names(model.config)[key] for key in model.state_dict()}


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
    rows = FAMILIES["albert"].google.rows
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
