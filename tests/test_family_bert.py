"""BERT: published names and counts, the outputs of Google's code, its checkpoints, TF-Hub's modules, Julia's files."""

import dataclasses
import json
import math
import re
import shutil

import bert_modules
import making
import numpy as np
import pytest
import torch
from bert_modules import BERT, WORDS, erf_gelu, google_variables, tanh_gelu

from albert_cli.model.loading import load_model
from converters import convert, spec
from converters.families import presets
from converters.family import Family
from converters.tensorflow.bundle import read_bundle
from converters.tokenizers.files import TokenizerFiles

TOKENIZER = TokenizerFiles.of("test", wordpiece=WORDS, settings={"do_lower_case": False}, origin="test")
SLOTS = ("adam_m", "adam_v")


def google_files(directory, variables, config=BERT, name="bert_config.json"):
    """A checkpoint of Google's, by hand, as its archives hold it."""
    directory.mkdir()
    settings = {
        key: getattr(config, key)
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    }
    settings |= {"hidden_act": "gelu", "max_position_embeddings": 10, "type_vocab_size": 2, "directionality": "bidi"}
    (directory / name).write_text(json.dumps(settings))
    (directory / "vocab.txt").write_bytes(WORDS)
    making.write_bundle(directory / "bert_model.ckpt", {key: np.asarray(item) for key, item in variables.items()})
    return directory


def arrays(prefix):
    return {name: tensor.read() for name, tensor in read_bundle(prefix).items()}


def same_arrays(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].shape, found[name].tobytes()) == (np.shape(array), np.asarray(array).tobytes()), name


# --- known answers


@pytest.mark.parametrize(
    ("preset", "encoder", "pretraining", "qa"),
    [
        ("bert-tiny", 4_385_920, 4_433_468, None),
        ("bert-mini", 11_170_560, 11_267_900, None),
        ("bert-small", 28_763_648, 29_058_876, None),
        ("bert-medium", 41_373_184, 41_668_412, None),
        ("bert-base", 109_482_240, 110_106_428, 108_893_186),
        ("bert-base-cased", 108_310_272, 108_932_934, 107_721_218),
        ("bert-large", 335_141_888, 336_226_108, None),
        ("bert-large-cased", 333_579_264, 334_661_958, 332_531_714),
    ],
)
def test_published_counts_of_parameters(preset, encoder, pretraining, qa):
    wanted = spec.spec(presets()[preset])
    sizes = {name: math.prod(size or 0 for size in item.shape) for name, item in wanted.items() if not item.optional}
    counts = {}
    for name, size in sizes.items():
        counts[wanted[name].component] = counts.get(wanted[name].component, 0) + size
    assert sum(counts[part] for part in ("embeddings", "encoder", "pooler")) == encoder
    assert encoder + counts["mlm"] + counts["nsp"] == pretraining
    if qa:
        assert counts["embeddings"] + counts["encoder"] + counts["qa"] == qa


def test_names_are_those_of_googles_index():
    """All of them, and no others."""
    found = Family.google(convert.family_of(BERT)).expand(BERT).by_foreign
    ours = [name for name in found if not re.match(r"cls/pair_target|output_|cls/squad", name)]
    assert sorted(ours) == sorted(bert_modules.google_names())


@pytest.mark.parametrize("name", ["tf1-bert-uncased", "tf1-bert-cased"])
def test_outputs_and_losses_are_those_of_googles_code(shared_data, name):
    with np.load(shared_data / f"relatives/{name}.expected.npz") as file:
        expected = dict(file)
    for act, kind in (("gelu", "erf"), ("gelu_new", "tanh")):
        found = convert.load(shared_data / "relatives" / name)
        found = dataclasses.replace(found, config=dataclasses.replace(found.config, hidden_act=act))
        model = load_model(found)
        ids, mask, types = (torch.tensor(expected[key]).long() for key in ("input_ids", "input_mask", "segment_ids"))
        places = torch.tensor(expected["masked_lm_positions"]).long()
        with torch.no_grad():
            out = model(ids, mask, types, masked_positions=places)
        real = expected["input_mask"].astype(bool)
        words = torch.log_softmax(out.prediction_logits, -1)
        pair = torch.log_softmax(out.pair_logits, -1).numpy()
        assert np.abs(out.encoder.sequence_output.numpy() - expected[f"{kind}/sequence_output"])[real].max() < 1e-5
        assert np.abs(out.encoder.pooled_output.numpy() - expected[f"{kind}/pooled_output"]).max() < 1e-5
        shape = expected[f"{kind}/mlm_log_probs"].shape
        assert np.abs(words.numpy().reshape(shape) - expected[f"{kind}/mlm_log_probs"]).max() < 1e-5
        assert np.abs(pair - expected[f"{kind}/nsp_log_probs"]).max() < 1e-5
        labels = expected["next_sentence_labels"]
        assert abs(-pair[np.arange(len(labels)), labels].mean() - expected[f"{kind}/nsp_loss"]) < 1e-5
        targets = torch.tensor(expected["masked_lm_ids"]).long()
        per_word = -words.reshape(*targets.shape, -1).gather(-1, targets[..., None])[..., 0].numpy()
        wanted = targets.numpy() != 0  # padded places have no weight
        assert abs(per_word[wanted].mean() - expected[f"{kind}/mlm_loss"]) < 1e-5


# --- Google's checkpoints


def test_a_training_checkpoint_through_every_format(shared_data, tmp_path):
    """Slots and step, bit for bit, to Hugging Face, Julia and TF-Hub and back to TensorFlow."""
    source = shared_data / "relatives/tf1-bert-uncased"
    wanted = arrays(source / "bert_model.ckpt")
    assert sum(name.endswith("/adam_v") for name in wanted) == 46
    for number, target in enumerate(["hf", "x.npz", "x.bson"]):
        convert.convert(source, tmp_path / target, keep_optimizer=True)
        convert.convert(tmp_path / target, tmp_path / f"tf{number}", target_as="tf", keep_optimizer=True)
        same_arrays(arrays(tmp_path / f"tf{number}/model.ckpt-best"), wanted)
    assert convert.convert(source, tmp_path / "plain").dropped == {"optimizer slots": 92}
    assert convert.load(tmp_path / "plain").global_step == 3


def test_googles_code_restores_what_is_written(tmp_path):
    """Every head of Google's scripts, slots and step: its variables, restored by its own saver."""
    import tensorflow as tf

    v1 = tf.compat.v1
    heads = {
        "output_weights": making.values((3, 8), 1),
        "output_bias": making.values((3,), 2),
        "cls/squad/output_weights": making.values((2, 8), 3),
        "cls/squad/output_bias": making.values((2,), 4),
    }
    wanted = making.with_slots(google_variables() | heads, *SLOTS) | {"global_step": np.int64(90)}
    source = google_files(tmp_path / "tf", wanted)
    convert.convert(source, tmp_path / "hf", keep_optimizer=True)
    convert.convert(tmp_path / "hf", tmp_path / "back", target_as="tf", keep_optimizer=True)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        made = {
            name: v1.get_variable(name, initializer=np.zeros_like(np.asarray(array)), use_resource=False)
            for name, array in wanted.items()
        }
        v1.train.Saver(made).restore(session, str(tmp_path / "back/model.ckpt-best"))
        same_arrays(session.run(made), wanted)
    assert dict(v1.train.list_variables(str(tmp_path / "back"))).keys() == wanted.keys()
    config = json.loads((tmp_path / "back/bert_config.json").read_text())
    assert (config["hidden_act"], config["directionality"]) == ("gelu", "bidi")
    assert (tmp_path / "back/vocab.txt").read_bytes() == WORDS


def test_a_coreference_checkpoint_is_its_encoder(tmp_path, albert):
    """As SpanBERT's for coreference: heads of its own and the slots of TensorFlow's Adam are left out, and named."""
    encoder = {name: array for name, array in google_variables().items() if re.match("bert/(emb|enc)", name)}
    slots = {f"{name}/{slot}": array for name, array in encoder.items() for slot in ("Adam", "Adam_1")}
    heads = {
        "coref_layer/width_scores/output_weights": making.values((1, 8), 1),
        "span_width_prior": making.values((3,), 2),
    }
    heads |= {"coref_layer/width_scores/output_weights/Adam": making.values((1, 8), 3), "beta1_power": np.float32(0.9)}
    source = google_files(tmp_path / "tf", encoder | slots | heads)
    code, out, err = albert("convert", source, tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["dropped"] == {
        "slots of TensorFlow's own Adam": len(slots) + 2,
        "variables of a head that is not known here (coref_layer/width_scores/output_weights, span_width_prior)": 2,
    }
    found = convert.load(tmp_path / "out")
    assert found.components == ["embeddings", "encoder"]
    assert len(found.tensors) == len(encoder)


def test_what_any_training_kept_of_a_weight_is_left_out(tmp_path, albert, refused):
    encoder = {name: array for name, array in google_variables().items() if name.startswith("bert/")}
    kept = ("ExponentialMovingAverage", "Momentum", "AdamWeightDecayOptimizer", "AdamWeightDecayOptimizer_1")
    slots = {f"{name}/{slot}": array for name, array in encoder.items() for slot in kept}
    source = google_files(tmp_path / "tf", encoder | slots)
    code, out, err = albert("convert", source, tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    wanted = {f"what training kept of each weight ({slot})": len(encoder) for slot in kept}
    assert json.loads(out)["dropped"] == wanted
    assert len(convert.load(tmp_path / "out").tensors) == len(encoder)
    name = next(iter(encoder))
    other = google_files(tmp_path / "other", encoder | {f"{name}/adapter": np.ones((2, 2), np.float32)})
    assert f"has no place for: {name}/adapter" in refused("inspect", other)


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, refused):
    source = google_files(tmp_path / "tf", google_variables())
    config = (source / "bert_config.json").read_bytes()
    assert refused("convert", source, tmp_path / "o", "--part", "generator") == (
        f"{source / 'bert_model.ckpt'}: a checkpoint of bert holds one model, so it takes no --part; leave it out"
    )
    assert refused("convert", source, tmp_path / "o", "--heads", "4") == (
        f"{source}: tf has a config of its own, so it takes no --heads; edit that one"
    )
    (source / "bert_config.json").rename(source / "albert_config.json")
    assert refused("convert", source, tmp_path / "o") == (
        f"{source}: no bert_config.json beside bert_model.ckpt; copy the model's one there"
    )
    # Beside its own, a config of another family is of no account.
    (source / "bert_config.json").write_bytes(config)
    assert convert.load(source).config.family == "bert"
    (source / "bert_config.json").write_bytes(config.replace(b'"num_hidden_layers": 3', b'"num_hidden_layers": 2'))
    assert "holds 16 variables that the config (2 layers) has no place for: bert/encoder/layer_2/" in refused(
        "convert", source, tmp_path / "o"
    )
    lacking = {name: array for name, array in google_variables().items() if "/layer_1/" not in name}
    shutil.rmtree(source)
    google_files(source, lacking)
    message = refused("convert", source, tmp_path / "o")
    assert "16 tensors missing: bert.encoder.layer.1.attention.self.query.weight" in message


# --- TF-Hub's modules


@pytest.fixture
def bert_in_hf(tmp_path):
    """What the modules hold, in a Hugging Face directory made from Google's checkpoint of the same variables."""
    convert.convert(google_files(tmp_path / "tf", google_variables()), tmp_path / "hf")
    return convert.load(tmp_path / "hf")


def check_module(path, outputs, reference, act, *, without=()):
    """The module at `path` holds the reference's tensors, and what is read of it computes the module's outputs."""
    found = convert.load(path)
    wanted = {name: item for name, item in reference.tensors.items() if not name.startswith(tuple(without))}
    same_arrays(
        {name: item.read() for name, item in found.tensors.items()},
        {name: item.read() for name, item in wanted.items()},
    )
    settings = {"hidden_act": act, "extra": {}, "classifier_dropout_prob": found.config.classifier_dropout_prob}
    assert found.config == dataclasses.replace(reference.config, **settings)
    ids, mask, types = (torch.tensor(item).long() for item in bert_modules.examples())
    with torch.no_grad():
        ours = load_model(found).encoder(ids, mask, types)
    real = mask.bool().numpy()
    assert np.abs(ours.sequence_output.numpy() - outputs["sequence_output"])[real].max() < 1e-5
    assert np.abs(ours.pooled_output.numpy() - outputs["pooled_output"]).max() < 1e-5
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("scope", ["", "module/"])
def test_modules_of_tensorflow_1(tmp_path, bert_in_hf, scope):
    """Heads, activation, epsilon and do_lower_case are found in the graph; layers are counted."""
    act, name = (erf_gelu, "gelu") if scope else (tanh_gelu, "gelu_new")
    outputs = bert_modules.module_of_tf1(tmp_path / "m", google_variables(), act, scope=scope)
    found = check_module(tmp_path / "m", outputs, bert_in_hf, name)
    read_off, assumed = found.notes
    assert read_off == (
        "the module holds no config; read off its variables and graph: num_hidden_layers 3, num_attention_heads 2, "
        f"hidden_act {name}, layer_norm_eps 1e-12"
    )
    assert assumed == (
        "assumed, as the module does not say: hidden_dropout_prob 0.1, attention_probs_dropout_prob 0.1, "
        "initializer_range 0.02; --model-config FILE overrides"
    )
    assert found.tokenizer.wordpiece == WORDS
    assert found.tokenizer.lowercase is False


@pytest.mark.parametrize("options", [{}, {"first": True}, {"first": True, "plain_output": True}], ids=str)
def test_modules_of_model_garden(tmp_path, bert_in_hf, options):
    """Versions 3 and 4 and, with other names and output kernels of two kinds, 1 and 2; the heads of pre-training."""
    held = google_variables()
    if options:
        held = {name: array for name, array in held.items() if not name.startswith("cls/")}
    outputs = bert_modules.module_of_tf2(tmp_path / "m", held, tanh_gelu, lowercase=True, **options)
    found = check_module(tmp_path / "m", outputs, bert_in_hf, "gelu_new", without=["cls."] if options else [])
    assert "num_hidden_layers 3, num_attention_heads 2, hidden_act gelu_new" in found.notes[0]
    assert found.tokenizer.wordpiece == WORDS
    assert found.tokenizer.lowercase is True


def test_heads_that_a_module_does_not_tell_are_assumed(tmp_path, albert):
    """Without the graph's reshapes: 64 values a head, and a note."""
    (tmp_path / "m/variables").mkdir(parents=True)
    making.write_bundle(tmp_path / "m/variables/variables", google_variables())
    (tmp_path / "m/saved_model.pb").write_bytes(making.saved_model_pb([making.node("out", "Placeholder")]))
    facts = json.loads(albert("inspect", tmp_path / "m", "--json")[1])
    assert facts["config"]["num_attention_heads"] == 1
    assert "assumed, as the module does not say: num_attention_heads 1, hidden_act gelu, layer" in facts["notes"][1]
    facts = json.loads(albert("inspect", tmp_path / "m", "--heads", "4", "--json")[1])
    assert facts["config"]["num_attention_heads"] == 4


# --- Julia


def julia_arrays(variables):
    """As Transformers.jl 0.1's writer for BERT had them: vectors as they are, matrices turned, one of them not."""
    kept = "cls/seq_relationship/output_weights"
    return {name: array.T if array.ndim == 2 and name != kept else array for name, array in variables.items()}


def julia_members(variables):
    members = making.julia_members()
    kind = members["weights"]["type"]["params"][1]
    settings = {
        "hidden_act": "gelu",
        "filename": "uncased_L-3",
        **{
            key: getattr(BERT, key)
            for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        },
        "max_position_embeddings": 10,
    }
    held = {name: making.julia_array(array, ("Main",)) for name, array in julia_arrays(variables).items()}
    return members | {
        "vocab": WORDS.decode().splitlines(),
        "weights": making.julia_dict(held, kind, ("Main",)),
        "config": making.julia_dict(settings, members["config"]["type"]["params"][1], ("Main",)),
    }


def test_a_model_saved_by_transformers_jl(tmp_path, bert_in_hf):
    making.write_bson(tmp_path / "bert.tfbson", julia_members(google_variables()))
    found = convert.load(tmp_path / "bert.tfbson")
    same_arrays(
        {name: item.read() for name, item in found.tensors.items()},
        {name: item.read() for name, item in bert_in_hf.tensors.items()},
    )
    assert found.tokenizer.wordpiece == WORDS
    assert found.config == dataclasses.replace(bert_in_hf.config, extra={"filename": "uncased_L-3"})


def test_what_julia_gets(tmp_path, bert_in_hf):
    from bson import decode

    for name in ("x.npz", "x.bson"):
        convert.save(bert_in_hf, tmp_path / name)
        assert making.same(convert.load(tmp_path / name), bert_in_hf) is True
    wanted = julia_arrays(google_variables())
    with np.load(tmp_path / "x.npz") as file:
        found = {name.removeprefix("weights/"): file[name] for name in file.files if name.startswith("weights/")}
    same_arrays(found, wanted)
    document = decode((tmp_path / "x.bson").read_bytes())
    assert document["vocab"] == WORDS.decode().splitlines()
    names, values = document["weights"]["data"]
    shapes = dict(zip(names, (value["size"] for value in values), strict=True))
    assert shapes == {name: list(array.shape) for name, array in wanted.items()}
