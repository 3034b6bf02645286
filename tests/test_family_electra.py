"""ELECTRA: published counts, the outputs of Google's own code, and its two models in one checkpoint and apart."""

import json
import math
import re
import shutil

import bert_modules
import making
import numpy as np
import pytest
import torch
from conftest import tree

from albert_cli.model.loading import load_model
from converters import convert, parts, spec
from converters.choices import Choices
from converters.families import presets
from converters.tensorflow.bundle import read_bundle

HEADS = ("--heads", "4")  # of the sample's discriminator; its generator's one follows from the size
NAMES = ("discriminator", "generator")


@pytest.fixture(scope="module")
def sample(shared_data):
    return shared_data / "relatives/tf1-electra"


@pytest.fixture(scope="module")
def apart(sample, tmp_path_factory):
    """The sample's two models, each a Hugging Face directory, with slots and step."""
    target = tmp_path_factory.mktemp("apart") / "both"
    return target, parts.convert_each(sample, target, heads=4, keep_optimizer=True)


def arrays(path):
    prefix = next(path.glob("*.index")).with_suffix("")
    return {name: tensor.read() for name, tensor in read_bundle(prefix).items()}


def same_arrays(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].shape, found[name].tobytes()) == (array.shape, array.tobytes()), name


# --- known answers


@pytest.mark.parametrize(
    ("preset", "count"),
    [("electra-small", 13_549_057), ("electra-base", 109_483_009), ("electra-large", 335_142_913)],
)
def test_published_counts_of_parameters(preset, count):
    wanted = spec.spec(presets()[preset])
    parts_of = ("embeddings", "projection", "encoder", "rtd")
    assert sum(math.prod(item.shape) for item in wanted.values() if item.component in parts_of) == count


def test_the_discriminator_computes_what_googles_code_does(sample, shared_data):
    with np.load(shared_data / "relatives/tf1-electra.expected.npz") as file:
        expected = dict(file)
    keys = ("discriminator_input_ids", "input_mask", "segment_ids")
    ids, mask, types = (torch.tensor(expected[key]).long() for key in keys)
    model = load_model(convert.load(sample, choices=Choices(heads=4)))
    with torch.no_grad():
        out = model(ids, mask, types, output_hidden_states=True)
    real = mask.bool().numpy()
    states = out.encoder.hidden_states
    assert np.abs(states[0].numpy() - expected["discriminator/embedding_output"])[real].max() < 1e-5
    for number, state in enumerate(states[1:]):
        assert np.abs(state.numpy() - expected["discriminator/all_layer_outputs"][number])[real].max() < 1e-5
    logits = out.replaced_logits
    assert np.abs(torch.sigmoid(logits).numpy() - expected["discriminator/probs"])[real].max() < 1e-5
    assert np.abs(torch.sigmoid(logits)[0, :4].numpy() - [0.37493, 0.44148, 0.41332, 0.42005]).max() < 1e-5
    fake = torch.tensor(expected["is_fake"]).float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, fake, reduction="none")
    assert abs(each[mask.bool()].mean().item() - 0.56077) < 1e-5


def test_the_generator_computes_what_googles_code_does(sample, shared_data):
    with np.load(shared_data / "relatives/tf1-electra.expected.npz") as file:
        expected = dict(file)
    ids, mask, types = (torch.tensor(expected[key]).long() for key in ("input_ids", "input_mask", "segment_ids"))
    places, words = (torch.tensor(expected[key]).long() for key in ("masked_lm_positions", "masked_lm_ids"))
    found = convert.load(sample, choices=Choices(part="generator"))
    assert (found.config.hidden_size, found.config.num_attention_heads, found.config.embedding_size) == (12, 1, 16)
    with torch.no_grad():
        out = load_model(found)(ids, mask, types, masked_positions=places)
    real = mask.bool().numpy()
    assert np.abs(out.encoder.sequence_output.numpy() - expected["generator/sequence_output"])[real].max() < 1e-5
    assert np.abs(out.prediction_logits.numpy() - expected["generator/mlm_logits"]).max() < 1e-5
    assert np.abs(out.prediction_logits[0, 0, :4].numpy() - [-0.51984, -0.21039, -0.72620, -1.13218]).max() < 1e-5
    each = -torch.log_softmax(out.prediction_logits, -1).gather(-1, words[..., None])[..., 0]
    assert abs(each[words != 0].mean().item() - 6.87815) < 1e-4


# --- both at once, and back


def test_both_models_of_a_checkpoint(sample, apart):
    """Each complete, nothing said to be left out or absent; their embeddings are the same."""
    target, reports = apart
    assert list(reports) == ["discriminator", "generator"]
    assert [report.dropped for report in reports.values()] == [{}, {}]
    assert [report.absent for report in reports.values()] == [[], []]
    note = "num_attention_heads 1 is assumed (64 values a head); --heads N overrides"
    assert [report.notes for report in reports.values()] == [[], [note]]
    for name in NAMES:
        wanted = convert.load(sample, choices=Choices(heads=4 if name == "discriminator" else None, part=name))
        assert making.same(convert.load(target / name), wanted) is True
    one, other = (convert.load(target / name).everything() for name in NAMES)
    shared = [name for name in one if name.startswith("electra.embeddings.")]
    assert len(shared) == 15  # with their slots
    assert all(one[name].read().tobytes() == other[name].read().tobytes() for name in shared)


def test_googles_code_restores_both_that_are_joined(sample, apart, tmp_path, albert):
    """All 247 variables of the training checkpoint, bit for bit, by TensorFlow's own saver; and apart again."""
    import tensorflow as tf

    v1 = tf.compat.v1
    code, out, err = albert("convert", apart[0], tmp_path / "tf", "--to", "tf", "--keep-optimizer", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    wanted = arrays(sample)
    assert (report["out"], report["global_step"], report["notes"]) == (str(tmp_path / "tf"), 3, [])
    assert len(report["digests"]) == len(wanted) - 1
    weights = [array.size for name, array in wanted.items() if not re.search(r"/adam_[mv]|global_step", name)]
    assert report["parameters"] == sum(weights)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        made = {
            name: v1.get_variable(name, initializer=np.zeros_like(array), use_resource=False)
            for name, array in wanted.items()
        }
        v1.train.Saver(made).restore(session, str(tmp_path / "tf/model.ckpt-best"))
        same_arrays(session.run(made), wanted)
    assert v1.train.list_variables(str(tmp_path / "tf")) == v1.train.list_variables(str(sample / "electra_small"))
    # The configs are ours: Google's archives hold none.
    configs = [
        json.loads((tmp_path / "tf" / name).read_text())
        for name in ("electra_config.json", "electra_generator_config.json")
    ]
    assert [config["num_attention_heads"] for config in configs] == [4, 1]
    code, out, err = albert(
        "convert", tmp_path / "tf", tmp_path / "again", "--part", "both", "--keep-optimizer", "--json"
    )
    assert (code, err) == (0, "")
    assert {name: item["notes"] for name, item in json.loads(out).items()} == {name: [] for name in NAMES}
    for name in NAMES:
        assert making.same(convert.load(tmp_path / "again" / name), convert.load(apart[0] / name)) is True


@pytest.mark.parametrize("name", NAMES)
def test_one_model_through_tensorflow(apart, tmp_path, name):
    """Under Google's names, with our config beside it, which is read back."""
    convert.convert(apart[0] / name, tmp_path / "tf", target_as="tf", keep_optimizer=True)
    back = convert.load(tmp_path / "tf")
    assert making.same(back, convert.load(apart[0] / name)) is True
    assert back.notes == []
    own = {
        "discriminator": r"electra/|discriminator_predictions/",
        "generator": r"electra/emb|generator(_predictions)?/",
    }
    assert all(re.match(rf"{own[name]}|global_step", variable) for variable in arrays(tmp_path / "tf"))


@pytest.mark.parametrize("target", ["x.npz", "x.bson", "module"])
@pytest.mark.parametrize("name", NAMES)
def test_other_formats_keep_slots_and_step(apart, tmp_path, name, target):
    form = {"module": "saved-model"}.get(target)
    convert.convert(apart[0] / name, tmp_path / target, target_as=form, keep_optimizer=True)
    assert making.same(convert.load(tmp_path / target), convert.load(apart[0] / name)) is True


def test_julia_holds_vectors_as_they_are(apart, tmp_path, sample):
    convert.convert(apart[0] / "discriminator", tmp_path / "x.npz")
    wanted = {name: array for name, array in arrays(sample).items() if re.match(r"electra/|discriminator_", name)}
    wanted = {name: array.T for name, array in wanted.items() if not re.search(r"/adam_[mv]$", name)}
    with np.load(tmp_path / "x.npz") as file:
        found = {name.removeprefix("weights/"): file[name] for name in file.files if name.startswith("weights/")}
    step = found.pop("global_step")
    assert step == 3
    same_arrays(found, wanted)


def test_both_as_files_of_a_directory(sample, tmp_path, albert):
    """A format of one file writes two; the directory is joined as one of directories is."""
    assert albert("convert", sample, tmp_path / "both", "--part", "both", *HEADS, "--to", "npz")[0] == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["discriminator.npz", "generator.npz"]
    code, out, err = albert("convert", tmp_path / "both", tmp_path / "tf", "--to", "tf")
    assert (code, err) == (0, "")
    assert out.startswith(f"converted  {tmp_path / 'both'} (npz) -> {tmp_path / 'tf'} (tf)\n")
    wanted = {name: array for name, array in arrays(sample).items() if not re.search(r"/adam_[mv]$", name)}
    same_arrays(arrays(tmp_path / "tf"), wanted)


def test_targets_of_both_are_all_or_nothing(sample, tmp_path, albert, refused, monkeypatch):
    """Parents are made, what is there is refused; --force replaces both in one step and leaves the user's files."""
    target = tmp_path / "new/both"
    assert albert("convert", sample, target, "--part", "both", *HEADS)[0] == 0
    assert refused("convert", sample, target, "--part", "both", *HEADS) == (
        f"{target}: exists already; --force replaces the model in it"
    )
    (target / "notes.txt").write_text("mine")
    (target / "generator/README.md").write_text("mine")
    for form in ("tf", "safetensors"):
        assert albert("convert", sample, target, "--part", "both", "--heads", "2", "--force", "--to", form)[0] == 0
        assert convert.load(target / "discriminator", format=form).config.num_attention_heads == 2
        assert (target / "notes.txt").read_text() == (target / "generator/README.md").read_text() == "mine"
    # The second cannot be written: the first is not there either.
    write, written = parts.write_into, []

    def full(checkpoint, place, *rest):
        written.append(place.name)
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(place))
        return write(checkpoint, place, *rest)

    monkeypatch.setattr(parts, "write_into", full)
    assert refused("convert", sample, tmp_path / "other/both", "--part", "both") == (
        f"{tmp_path / 'other/both/generator'}: the disk is full; free some space and try again"
    )
    assert written == ["discriminator", "generator"]
    (tmp_path / "file").write_text("")
    assert refused("convert", sample, tmp_path / "file", "--part", "both") == (
        f"{tmp_path / 'file'}: a file, where this format writes a directory; name a directory"
    )
    assert refused("convert", sample, tmp_path / "file/x", "--part", "both") == (
        f"{tmp_path / 'file'}: a file, so {tmp_path / 'file/x'} cannot be made below it"
    )
    assert refused("convert", sample, tmp_path / "x.npz", "--part", "both") == (
        f"{tmp_path / 'x.npz'}: a file's name, where two models are written; name a directory"
    )


def test_two_models_that_do_not_fit_together(apart, tmp_path, refused):
    both = tmp_path / "both"
    shutil.copytree(apart[0], both)
    to_tf = ("convert", both, tmp_path / "tf", "--to", "tf")
    assert refused("convert", both, tmp_path / "x.npz") == (
        f"{both}: holds a discriminator and a generator, and npz one model: name one of them, or say --to tf"
    )
    assert refused(*to_tf, "--part", "generator") == (
        f"{both}: a directory of two models holds one model, so it takes no --part; leave it out"
    )
    (both / "generator/vocab.txt").write_bytes((both / "generator/vocab.txt").read_bytes().replace(b"the\n", b"eht\n"))
    assert refused(*to_tf).startswith(f"{both}: its discriminator and generator have different tokenizers")
    shutil.rmtree(both / "generator")
    shutil.copytree(both / "discriminator", both / "generator")
    assert refused(*to_tf) == (
        f"{both}: what is called generator in it is none: of model_type electra it holds embeddings, "
        "projection, encoder, rtd; name one model"
    )
    shutil.rmtree(both / "generator")
    found = convert.load(apart[0] / "generator")
    words = "electra.embeddings.word_embeddings.weight"
    found.tensors[words] = making.Tensor.of(found.tensors[words].read() + np.float32(1))
    convert.save(found, both / "generator")
    assert refused(*to_tf) == (
        f"{both}: its discriminator and generator differ in {words}, which one checkpoint of both holds once; "
        "convert them apart"
    )


# --- what Google's archives do not say


def test_heads_and_settings_are_the_users_word(sample, tmp_path, albert, refused):
    code, out, _ = albert("convert", sample, tmp_path / "a", "--json")
    assert code == 0
    assert json.loads(out)["notes"] == ["num_attention_heads 1 is assumed (64 values a head); --heads N overrides"]
    (tmp_path / "c.json").write_text('{"num_attention_heads": 4, "hidden_act": "gelu_new", "layer_norm_eps": 1e-6}')
    code, out, _ = albert("convert", sample, tmp_path / "b", "--model-config", tmp_path / "c.json", "--json")
    config = convert.load(tmp_path / "b").config
    assert (code, json.loads(out)["notes"]) == (0, [])
    assert (config.num_attention_heads, config.hidden_act, config.layer_norm_eps) == (4, "gelu_new", 1e-6)
    (tmp_path / "c.json").write_text('{"hidden_size": 48}')
    assert "of another shape: electra.embeddings_project.weight is [24, 16], the config asks for [48, 16]" in refused(
        "convert", sample, tmp_path / "c", "--model-config", tmp_path / "c.json"
    )
    assert refused("convert", sample, tmp_path / "c", "--heads", "5") == (
        f"{sample / 'electra_small'}: hidden_size 24 is not a multiple of num_attention_heads 5"
    )
    code, _, err = albert("convert", sample, tmp_path / "c", "--part", "both", "--model-config", tmp_path / "c.json")
    assert (code, "holds the settings of one model; convert each with its --part" in err) == (2, True)


def test_the_config_of_one_is_not_taken_for_the_others(sample, tmp_path, refused):
    """Beside both, `electra_config.json` is the discriminator's; a BERT's or an ALBERT's is of no account."""
    source = tmp_path / "tf"
    shutil.copytree(sample, source)
    source.chmod(0o755)
    convert.convert(sample, tmp_path / "one", target_as="tf", choices=Choices(heads=4))
    shutil.copy(tmp_path / "one/electra_config.json", source)
    (source / "bert_config.json").write_text('{"hidden_size": 7}')
    assert convert.load(source).config.num_attention_heads == 4
    note = "bert_config.json, which a BERT has, is not read with ELECTRA weights; --model-config takes its settings"
    assert note in convert.load(source).notes
    generator = convert.load(source, choices=Choices(part="generator"))
    assert (generator.config.hidden_size, generator.config.num_attention_heads) == (12, 1)
    assert (
        refused("inspect", source, *HEADS)
        == f"{source}: tf has a config of its own, so it takes no --heads; edit that one"
    )
    assert refused("convert", tmp_path / "one", tmp_path / "x", "--part", "generator") == (
        f"{tmp_path / 'one/model.ckpt-best'}: holds no generator, but discriminator"
    )


def test_variables_of_other_models_than_googles_two(sample, tmp_path, albert, refused):
    held = {name: array for name, array in arrays(sample).items() if not re.search(r"/adam_[mv]$", name)}
    source = tmp_path / "tf"
    source.mkdir()

    def stored(variables):
        making.write_bundle(source / "model.ckpt", variables)
        return "convert", source, tmp_path / "x"

    lacking = {name: array for name, array in held.items() if "/layer_0/" not in name}
    assert "16 tensors missing: electra.encoder.layer.0." in refused(
        *stored(lacking),
        "--heads",
        "4",
        "--model-config",
        written(tmp_path, {"intermediate_size": 40, "hidden_size": 24}),
    )
    # Embeddings of its own, as no published generator has: they count for it, and not for the discriminator.
    own = {name.replace("electra/", "generator/"): array * 2 for name, array in held.items() if "/embeddings/" in name}
    stored(held | own)
    generator = convert.load(source, choices=Choices(part="generator"))
    words = "electra.embeddings.word_embeddings.weight"
    assert generator.tensors[words].read().tobytes() == own["generator/embeddings/word_embeddings"].tobytes()
    assert generator.dropped.keys() == {"variables of the discriminator (--part discriminator converts it)"}
    discriminator = convert.load(source, choices=Choices(heads=4))
    assert discriminator.tensors[words].read().tobytes() == held["electra/embeddings/word_embeddings"].tobytes()
    # Fine-tuned by Google's code: a head of another form.
    tuned = {name: array for name, array in held.items() if not name.startswith(("generator", "discriminator_"))}
    head = {"task_specific/mnli/dense/kernel": making.values((24, 3), 1)}
    code, out, err = albert(*stored(tuned | head), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["dropped"] == {
        "variables of a head that is not known here (task_specific/mnli/dense/kernel)": 1
    }
    shutil.rmtree(tmp_path / "x")
    electric = {"generator_ltr/encoder/layer_0/output/dense/bias": making.values((3,), 1)}
    assert refused(*stored(held | electric)) == (
        f"{source / 'model.ckpt'}: an Electric, which is not supported; seen in variable {next(iter(electric))}"
    )


def test_a_module_of_model_garden_without_projection_is_an_electra_if_it_is_said_to_be(tmp_path):
    """Its encoder is BERT's then, down to the names; the pooler that it always has is left out."""
    bert_modules.module_of_tf2(tmp_path / "m", bert_modules.google_variables(), bert_modules.erf_gelu)
    assert convert.load(tmp_path / "m").config.family == "bert"
    encoder = [f"bert/{part}" for part in ("embeddings", "encoder", "pooler")]
    held = {n: a for n, a in bert_modules.google_variables().items() if n.startswith(tuple(encoder))}
    bert_modules.module_of_tf2(tmp_path / "e", held, bert_modules.erf_gelu)
    found = convert.load(tmp_path / "e", choices=Choices(config=written(tmp_path, {"model_type": "electra"})))
    assert (found.config.family, found.components) == ("electra", ["embeddings", "encoder"])
    assert list(found.dropped.values()) == [2]
    words = "electra.embeddings.word_embeddings.weight"
    assert found.tensors[words].read().tobytes() == held["bert/embeddings/word_embeddings"].tobytes()


def written(folder, settings):
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "settings.json"


def test_nothing_is_left_of_the_work(apart):
    assert not [name for name in tree(apart[0].parent) if ".albert-" in name]
