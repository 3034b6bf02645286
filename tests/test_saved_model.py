"""TF-Hub's modules: read with their layers counted in the graph, written so that TensorFlow alone computes the same."""

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import bert_modules
import making
import numpy as np
import pytest
import torch
from conftest import tree
from making import GROUPED, TINY, field, keras_module, keras_variables, node, saved_model_pb

from albert_cli.model.loading import load_model
from converters import convert
from converters.config import EncoderConfig
from converters.tokenizers.files import TokenizerFiles

# --- what others wrote


@pytest.fixture(scope="module")
def hub_output(shared_data, tmp_path_factory):
    """The sample module of Model Garden's as a Hugging Face directory."""
    target = tmp_path_factory.mktemp("hub") / "hf"
    report = convert.convert(shared_data / "checkpoints/tfhub2-saved-model", target)
    return target, report


def test_a_module_of_model_garden_gives_its_outputs(shared_data, hub_output):
    """Its three layers are found in the graph; transformers and our own core compute what the module did."""
    import transformers

    with np.load(shared_data / "checkpoints/tfhub2-saved-model.expected.npz") as file:
        expected = dict(file)
    ids, mask, types = (torch.tensor(expected[name]).long() for name in ("input_ids", "input_mask", "token_type_ids"))
    theirs, info = transformers.AlbertModel.from_pretrained(hub_output[0], output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    with torch.no_grad():
        one = theirs.eval()(ids, mask, types)
        other = load_model(hub_output[0]).encoder(ids, mask, types)
    real = expected["input_mask"].astype(bool)
    for sequence, pooled in (
        (one.last_hidden_state, one.pooler_output),
        (other.sequence_output, other.pooled_output),
    ):
        assert np.abs(sequence.numpy() - expected["sequence_output"])[real].max() < 1e-5
        assert np.abs(pooled.numpy() - expected["pooled_output"]).max() < 1e-5


def test_what_was_read_off_a_module_is_reported(shared_data, hub_output, tmp_path, albert):
    source = shared_data / "checkpoints/tfhub2-saved-model"
    told = (
        "the module holds no config; read off its variables and graph: num_hidden_layers 3, num_attention_heads 3, "
        "hidden_act gelu_new, layer_norm_eps 1e-12"
    )
    assert hub_output[1].notes == [told]
    assert json.loads(albert("convert", source, tmp_path / "x.npz", "--json")[1])["notes"] == [told]
    facts = json.loads(albert("inspect", source, "--json")[1])
    assert facts["notes"] == [told]
    assert (facts["format"], facts["tokenizer"]) == ("saved-model", "30k-clean.model, copied")
    # The settings of its Keras encoder are in the module.
    assert facts["config"]["hidden_dropout_prob"] == facts["config"]["attention_probs_dropout_prob"] == 0.1
    code, out, _ = albert("inspect", source)
    assert (code, out.splitlines()[-1].startswith("note ")) == (0, True)


def googles_module(directory, config, variables, *, resource, module=True, with_config=False):
    """Export as google-research/albert's export_to_tfhub.py does: a graph of TF1, assets, the signature `tokens`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    H, A = config.hidden_size, config.num_attention_heads
    scope = "module/" if module else ""
    graph = tf.Graph()
    files = making.tf1_files(directory.parent / f"{directory.name}-files", config)
    with graph.as_default(), v1.Session(graph=graph) as session:
        made = {
            name: v1.get_variable(scope + name, initializer=array, use_resource=resource)
            for name, array in variables.items()
        }

        def norm(x, name):
            mean, variance = tf.nn.moments(x, [-1], keepdims=True)
            return tf.nn.batch_normalization(
                x, mean, variance, made[f"{name}/beta"], made[f"{name}/gamma"], variance_epsilon=1e-12
            )

        def by_head(x, name):
            kernel = tf.reshape(made[f"{name}/kernel"], [H, A, H // A])
            return tf.einsum("BFH,HND->BFND", x, kernel) + tf.reshape(made[f"{name}/bias"], [A, H // A])

        def dense(x, name):
            return tf.einsum("BFH,HO->BFO", x, made[f"{name}/kernel"]) + made[f"{name}/bias"]

        ids, mask, types = (v1.placeholder(tf.int32, [None, None], name) for name in ("ids", "mask", "types"))
        x = tf.gather(made["bert/embeddings/word_embeddings"], ids)
        x += tf.gather(made["bert/embeddings/token_type_embeddings"], types)
        x += made["bert/embeddings/position_embeddings"][: tf.shape(ids)[1]]
        x = dense(norm(x, "bert/embeddings/LayerNorm"), "bert/encoder/embedding_hidden_mapping_in")
        for number in range(config.num_hidden_layers):
            for inner in range(config.inner_group_num):
                layer = f"bert/encoder/transformer/group_{config.group_of(number)}/inner_group_{inner}"
                query, key, value = (
                    by_head(x, f"{layer}/attention_1/self/{part}") for part in ("query", "key", "value")
                )
                scores = tf.einsum("BFND,BTND->BNFT", query, key) / np.sqrt(H // A).astype(np.float32)
                scores -= (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * 10000.0
                context = tf.einsum("BNFT,BTND->BFND", tf.nn.softmax(scores), value)
                context = tf.reshape(context, [tf.shape(ids)[0], tf.shape(ids)[1], H])
                x = norm(dense(context, f"{layer}/attention_1/output/dense") + x, f"{layer}/LayerNorm")
                hidden = dense(x, f"{layer}/ffn_1/intermediate/dense")
                hidden *= 0.5 * (
                    1.0 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (hidden + 0.044715 * tf.pow(hidden, 3)))
                )
                x = norm(dense(hidden, f"{layer}/ffn_1/intermediate/output/dense") + x, f"{layer}/LayerNorm_1")
        pooled = tf.tanh(tf.matmul(x[:, 0], made["bert/pooler/dense/kernel"]) + made["bert/pooler/dense/bias"])
        for name in ("30k-clean.model", "30k-clean.vocab", *(["albert_config.json"] if with_config else [])):
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, tf.constant(str(files / name)))
        session.run(v1.global_variables_initializer())
        inputs = {"input_ids": ids, "input_mask": mask, "segment_ids": types}
        tokens = v1.saved_model.predict_signature_def(inputs, {"sequence_output": x, "pooled_output": pooled})
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [],
            signature_def_map={"tokens": tokens},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )
        builder.save()
        (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
        fed = np.arange(14).reshape(2, 7) % config.vocab_size
        seen = np.array([[1] * 7, [1] * 4 + [0] * 3])
        return fed, seen, session.run(x, {ids: fed, mask: seen, types: np.zeros_like(fed)})


@pytest.mark.parametrize("config", [TINY, GROUPED], ids=["1 group", "2 groups of 2"])
@pytest.mark.parametrize("resource", [True, False], ids=["resources", "references"])
@pytest.mark.parametrize("module", [True, False], ids=["module/", "bare"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_module_of_tensorflow_1(tmp_path, config, resource, module):
    """Layers and heads are counted in a graph that TensorFlow made; the outputs are its own."""
    wanted = making.google_variables(config)
    ids, mask, sequence = googles_module(tmp_path / "m", config, wanted, resource=resource, module=module)
    report = convert.convert(tmp_path / "m", tmp_path / "hf", target_as="safetensors")
    read_off, assumed = report.notes
    assert read_off == (
        f"the module holds no config; read off its variables and graph: num_hidden_layers {config.num_hidden_layers}, "
        "num_attention_heads 2, hidden_act gelu_new, layer_norm_eps 1e-12"
    )
    assert assumed == (
        "assumed, as the module does not say: hidden_dropout_prob 0.0, attention_probs_dropout_prob 0.0, "
        "initializer_range 0.02; --model-config FILE overrides"
    )
    found = convert.load(tmp_path / "m")
    assert found.config == dataclasses.replace(config, extra={})
    assert found.tokenizer.spiece == making.spiece()
    convert.convert(tmp_path / "hf", tmp_path / "tf", target_as="tf")
    from converters.tensorflow.bundle import read_bundle

    back = read_bundle(tmp_path / "tf" / "model.ckpt-best")
    assert {name: tensor.read().tobytes() for name, tensor in back.items()} == {
        name: array.tobytes() for name, array in wanted.items()
    }
    with torch.no_grad():
        ours = load_model(tmp_path / "hf").encoder(torch.tensor(ids), torch.tensor(mask)).sequence_output.numpy()
    assert np.abs(ours - sequence)[mask.astype(bool)].max() < 1e-5


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_module_with_its_config_among_the_assets(tmp_path):
    googles_module(tmp_path / "m", TINY, making.google_variables(TINY), resource=True, with_config=True)
    found = convert.load(tmp_path / "m")
    assert found.notes == []
    assert found.config.extra == {"down_scale_factor": 1}


def test_names_of_googles_checkpoint_as_a_module(shared_data, tmp_path):
    """The variables of the sample checkpoint of Google's code, heads and step included, in a module without config."""
    source = convert.load(shared_data / "checkpoints/tf1-google")
    from converters.tensorflow.bundle import read_bundle

    read = read_bundle(shared_data / "checkpoints/tf1-google/model.ckpt-best")
    arrays = {name: tensor.read() for name, tensor in read.items()}
    for module in ("", "module/"):
        path = making.hub_module(tmp_path / f"m{len(module)}", source.config, variables=arrays, module=module)
        (path / "assets/30k-clean.model").write_bytes(source.tokenizer.spiece)
        found = convert.load(path)
        wanted = dataclasses.replace(source, config=dataclasses.replace(source.config, extra={}))
        found = dataclasses.replace(
            found, config=dataclasses.replace(found.config, initializer_range=wanted.config.initializer_range)
        )
        assert making.same(found, wanted) is True


# --- --model-config FILE


@pytest.fixture
def bare(tmp_path):
    """A module whose graph tells nothing of layers and heads."""
    graph = making.saved_model_pb([making.node("out", "Placeholder")])
    return making.hub_module(tmp_path / "module", graph=graph)


def test_layers_that_cannot_be_found_are_asked_for(bare, tmp_path, refused):
    message = (
        f"{bare}: neither its variables nor its graph give num_hidden_layers, num_attention_heads; give it with "
        "--model-config FILE (the model's albert_config.json, or a JSON object of just that)"
    )
    assert refused("convert", bare, tmp_path / "out") == message
    assert refused("inspect", bare) == message


@pytest.mark.parametrize(
    ("settings", "act"),
    [
        ({"num_hidden_layers": 7, "num_attention_heads": 4}, "gelu_new"),
        (
            {"num_hidden_layers": 7, "num_attention_heads": 4, "hidden_act": "gelu", "initializer_range": 0.5},
            "gelu_new",
        ),
        ({"num_hidden_layers": 7, "num_attention_heads": 4, "hidden_act": "gelu", "model_type": "albert"}, "gelu"),
    ],
)
def test_config_says_what_the_module_does_not(bare, tmp_path, albert, settings, act):
    """A few keys or all, in Google's terms or (with model_type) in Hugging Face's; the rest is still told."""
    (tmp_path / "some.json").write_text(json.dumps(settings))
    code, out, err = albert("convert", bare, tmp_path / "out", "--model-config", tmp_path / "some.json", "--json")
    assert (code, err) == (0, "")
    found = convert.load(tmp_path / "out").config
    assert (found.num_hidden_layers, found.num_attention_heads, found.hidden_act) == (7, 4, act)
    (note,) = json.loads(out)["notes"]
    assert note.startswith("assumed, as the module does not say: ")
    assert ("hidden_act" in note) == ("hidden_act" not in settings)
    assert ("initializer_range" in note) == ("initializer_range" not in settings)
    facts = json.loads(albert("inspect", bare, "--model-config", tmp_path / "some.json", "--json")[1])
    assert facts["config"]["num_hidden_layers"] == 7


def test_config_overrides_what_the_graph_reports(tmp_path, albert):
    path = making.hub_module(tmp_path / "module")
    full = making.tf1_files(tmp_path / "files", dataclasses.replace(TINY, num_hidden_layers=9)) / "albert_config.json"
    code, out, _ = albert("inspect", path, "--model-config", full, "--json")
    facts = json.loads(out)
    assert (code, facts["config"]["num_hidden_layers"], facts["config"]["down_scale_factor"]) == (0, 9, 1)
    assert facts["notes"] == ["the module holds no config; read off its variables and graph: layer_norm_eps 1e-12"]


def test_config_that_does_not_fit(tmp_path, refused):
    path = making.hub_module(tmp_path / "module")
    (tmp_path / "c.json").write_text('{"intermediate_size": 13}')
    assert "ffn.weight is [12, 8], the config asks for [13, 8]" in refused(
        "inspect", path, "--model-config", tmp_path / "c.json"
    )
    (tmp_path / "c.json").write_text("[1]")
    assert refused("inspect", path, "--model-config", tmp_path / "c.json") == (
        f"{tmp_path / 'c.json'}: holds a JSON list, not an object of settings"
    )
    (tmp_path / "c.json").write_text('{"num_hidden_layers": -1}')
    assert refused("inspect", path, "--model-config", tmp_path / "c.json").startswith(
        f"{tmp_path / 'c.json'}: num_hidden_layers is -1, not a whole number"
    )
    assert refused("inspect", path, "--model-config", tmp_path / "none.json") == (
        f"{tmp_path / 'none.json'}: no such file or directory"
    )


def test_config_is_for_formats_without_one(tmp_path, refused):
    making.tf1(tmp_path / "tf")
    (tmp_path / "c.json").write_text("{}")
    assert refused("inspect", tmp_path / "tf", "--model-config", tmp_path / "c.json") == (
        f"{tmp_path / 'tf'}: tf has a config of its own, so it takes no --model-config; edit that one"
    )


# --- what we write: TensorFlow alone computes it

WORDS = TokenizerFiles.of("test", wordpiece=bert_modules.WORDS, settings={"do_lower_case": False}, origin="test")
ELECTRA = dataclasses.replace(bert_modules.BERT, family="electra", embedding_size=6, hidden_dropout_prob=0.0)
MODELS = {
    "1 group": {"config": TINY},
    "2 groups of 2": {"config": GROUPED},
    "unshared, exact gelu": {
        "config": dataclasses.replace(TINY.sharing("none"), hidden_act="gelu", layer_norm_eps=1e-5),
    },
    "no projection, relu, WordPiece": {
        "config": dataclasses.replace(TINY, embedding_size=8, hidden_act="relu"),
        "files": TokenizerFiles.of(
            "test", wordpiece=b"[PAD]\n[UNK]\nthe\n", settings={"do_lower_case": False}, origin="test"
        ),
    },
    "no pooler, float16": {"config": TINY, "without": ("qa", "pooler", "sop", "classifier"), "dtype": np.float16},
    "dropout": {"config": dataclasses.replace(TINY, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)},
    "BERT": {"config": bert_modules.BERT, "files": WORDS},
    "ELECTRA's discriminator": {
        "config": ELECTRA,
        "files": WORDS,
        "without": ("mlm", "first_token", "summary", "classifier", "qa"),
    },
    "ELECTRA's generator without projection": {
        "config": dataclasses.replace(ELECTRA, embedding_size=8),
        "files": WORDS,
        "without": ("rtd", "first_token", "summary", "classifier", "qa"),
    },
}

# Runs without our packages: not installed ones either, for site-packages' .pth files are not processed under -S.
ALONE = """
import json, sys
sys.path.append(sys.argv[1])
sys.modules["converters"] = sys.modules["albert_cli"] = None
try:
    import converters
except ImportError:
    pass
else:
    sys.exit("converters can be imported")
import numpy as np
import tensorflow as tf

facts = {}
for number, path in enumerate(sys.argv[4:]):
    module = tf.saved_model.load(path)
    signature = module.signatures["serving_default"]
    arrays = {}
    for case, (batch, tokens) in enumerate([(1, 1), (3, 10)]):
        ids = (np.arange(batch * tokens).reshape(batch, tokens) * 7 % 23).astype(np.int32)
        mask = (np.arange(tokens) < np.arange(batch)[:, None] + tokens - batch + 1).astype(np.int32)
        types = (np.arange(tokens) > tokens // 2)[None].repeat(batch, 0).astype(np.int32)
        inputs = dict(input_word_ids=tf.constant(ids), input_mask=tf.constant(mask), input_type_ids=tf.constant(types))
        served = signature(**inputs)
        arrays |= {f"{case} {name}": value.numpy() for name, value in served.items()}
        arrays |= {f"{case} ids": ids, f"{case} mask": mask, f"{case} types": types}
    called = module(inputs)
    for name, value in served.items():
        assert np.allclose(value, called[name], atol=1e-6), name
    assert np.array_equal(called["encoder_outputs"][-1], called["sequence_output"])
    listed = module(list(inputs.values()))
    assert [item.shape for item in listed] == [served[name].shape for name in sorted(served)]
    specs = signature.structured_input_signature[1].values()
    assets = [getattr(module, name, None) for name in ("sp_model_file", "vocab_file")]
    facts[number] = {
        "signature": sorted([spec.name, spec.shape.as_list(), spec.dtype.name] for spec in specs),
        "outputs": sorted(served),
        "called": sorted(called),
        "layers": len(called["encoder_outputs"]),
        "dtypes": sorted({value.dtype.name for value in served.values()}),
        "variables": {v.name: v.shape.as_list() for v in module.variables},
        "losses": len(list(module.regularization_losses)),
        "lower": bool(module.do_lower_case.numpy()),
        "asset": [asset.asset_path.numpy().decode() for asset in assets if asset is not None],
    }
    if path in sys.argv[3].split(":"):  # making gradients takes seconds
        with tf.GradientTape() as tape:
            trained = module(inputs, training=True)["sequence_output"]
            loss = tf.reduce_sum(trained**2)
        gradients = tape.gradient(loss, list(module.trainable_variables))
        facts[number] |= {
            "without gradient": [v.name for v, g in zip(module.trainable_variables, gradients) if g is None],
            "noise": float(tf.reduce_max(tf.abs(trained - called["sequence_output"]))),
        }
    np.savez(f"{sys.argv[2]}/{number}.npz", **arrays)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Every model of MODELS, written and then computed by TensorFlow in a process that has nothing of ours."""
    folder = tmp_path_factory.mktemp("alone")
    made = {name: making.model(seed=number, **options) for number, (name, options) in enumerate(MODELS.items())}
    paths = {name: folder / f"module {number}" for number, name in enumerate(MODELS)}
    for name, model in made.items():
        convert.save(model, paths[name], format="saved-model")
    (folder / "elsewhere").mkdir()
    trained = ":".join(str(paths[name]) for name in ("1 group", "dropout"))
    arguments = [sysconfig.get_path("purelib"), str(folder), trained, *map(str, paths.values())]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder / "elsewhere",
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    return {
        name: (made[name], paths[name], facts[str(number)], dict(np.load(folder / f"{number}.npz")))
        for number, name in enumerate(MODELS)
    }


@pytest.mark.parametrize("name", MODELS)
def test_tensorflow_alone_computes_the_same(alone, name):
    """Batches and lengths of several sizes, with padding: within 1e-5 of our PyTorch model."""
    model, _, _, arrays = alone[name]
    ours = load_model(model)
    for case in range(2):
        ids, mask, types = (torch.tensor(arrays[f"{case} {part}"]).long() for part in ("ids", "mask", "types"))
        with torch.no_grad():
            wanted = ours.encoder(ids, mask, types)
        real = arrays[f"{case} mask"].astype(bool)
        found = arrays[f"{case} sequence_output"]
        assert np.abs(found - wanted.sequence_output.numpy())[real].max() < 1e-5
        if "pooler" not in model.components:
            assert f"{case} pooled_output" not in arrays
        else:
            assert np.abs(arrays[f"{case} pooled_output"] - wanted.pooled_output.numpy()).max() < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_what_a_written_module_offers(alone, name):
    """The signature of TF-Hub's modules, the attributes that hub.KerasLayer uses, and assets."""
    model, path, facts, _ = alone[name]
    pooled = "pooler" in model.components
    ones = [None, None]
    assert facts["signature"] == [[f"input_{part}", ones, "int32"] for part in ("mask", "type_ids", "word_ids")]
    assert facts["outputs"] == [*(["pooled_output"] if pooled else []), "sequence_output"]
    assert set(facts["called"]) == {*facts["outputs"], "encoder_outputs", *(["default"] if pooled else [])}
    assert facts["layers"] == model.config.num_hidden_layers
    assert facts["dtypes"] == ["float32"]
    assert facts["losses"] == 0
    assert facts["lower"] == model.tokenizer.lowercase
    (asset,) = facts["asset"]
    assert Path(asset).parent == path / "assets"
    assert Path(asset).read_bytes() == (model.tokenizer.model() or model.tokenizer.wordpiece)


def test_a_written_module_can_be_trained(alone):
    """Every variable has a gradient; dropout is there in training, where the config has it."""
    for name, drops in (("1 group", False), ("dropout", True)):
        facts = alone[name][2]
        assert facts["without gradient"] == []
        assert (facts["noise"] > 1e-3) == drops


def test_variables_have_the_hubs_names_and_shapes(alone, shared_data):
    """Those of the sample module, which Model Garden wrote, at our sizes."""
    found = alone["1 group"][2]["variables"]
    sizes = {30000: 30, 48: 6, 144: 8, 3: 2, 288: 12, 512: 10, 2: 2}
    from converters.formats.saved_model import _variables

    theirs = _variables(shared_data / "checkpoints/tfhub2-saved-model")
    wanted = {
        f"{name}:0": [
            4 if at and tensor.shape[at - 1 : at + 1] == (3, 48) else sizes[size]
            for at, size in enumerate(tensor.shape)
        ]
        for name, tensor in theirs.items()
        if len(tensor.shape)
    }
    assert found == wanted


def test_a_written_module_holds_everything_and_nothing_is_guessed(alone):
    for model, path, _, _ in alone.values():
        found = convert.load(path)
        assert (path / f"assets/{model.config.family}_config.json").exists()
        assert making.same(found, model) is True
        assert found.notes == []
        assert found.tokenizer.settings == model.tokenizer.settings


def test_a_written_module_reports_its_shape_without_its_config(alone):
    """As when TensorFlow saved it again elsewhere and only graph and variables are left."""
    for name in ("1 group", "2 groups of 2", "unshared, exact gelu", "BERT", "ELECTRA's discriminator"):
        model, path, _, _ = alone[name]
        config = path / f"assets/{model.config.family}_config.json"
        config.rename(path / "aside.json")
        try:
            found = convert.load(path)
        finally:
            (path / "aside.json").rename(config)
        assert found.config.family == model.config.family
        for key in ("num_hidden_layers", "num_hidden_groups", "inner_group_num", "num_attention_heads"):
            assert getattr(found.config, key) == getattr(model.config, key), key
        assert found.config.hidden_act == model.config.hidden_act
        assert found.config.layer_norm_eps == model.config.layer_norm_eps
        assert len(found.notes) == 2


def test_notes_on_what_a_module_cannot_say(tmp_path):
    save = convert.formats()["saved-model"].notes
    assert save(making.model()) == []
    assert save(making.model(without=("qa", "pooler", "sop", "classifier"))) == [
        "the model has no pooler, so the module has no pooled_output"
    ]
    assert save(making.model(TINY.sharing("ffn"), dtype=np.float16)) == [
        "share 'ffn': trained in TensorFlow, the layers' copies go their own ways",
        "weights stay float16; the module computes in float32",
    ]


# --- places


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp("module") / "module"
    convert.save(making.model(), path, format="saved-model")
    return path


def test_files_of_a_written_module(module):
    assert sorted(name for name, kind in tree(module).items() if kind != "directory") == [
        "assets/30k-clean.model",
        "assets/30k-clean.vocab",
        "assets/albert_config.json",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]


def test_named_by_its_graph(module, albert):
    assert albert("diff", module, module / "saved_model.pb")[0] == 0


def test_existing_module_is_refused_and_replaced_by_force(module, tmp_path, albert, refused):
    """Our files in its directories are replaced, the user's in them stay; what the new model lacks goes."""
    import shutil

    target = tmp_path / "out"
    shutil.copytree(module, target)
    for name in ("README.md", "assets/mine.txt", "variables/mine.txt"):
        (target / name).write_text("mine")
    convert.save(making.model(seed=5, files=TokenizerFiles()), tmp_path / "hf")
    assert refused("convert", tmp_path / "hf", target, "--to", "saved-model") == (
        f"{target}: exists already; --force replaces the model in it"
    )
    for number in (1, 2):
        if number == 2:  # a directory of the user's, so that the files are renamed one by one
            (target / "notes").mkdir()
        assert albert("convert", tmp_path / "hf", target, "--force")[::2] == (0, "")
        assert making.same(convert.load(target), convert.load(tmp_path / "hf")) is True
        for name in ("README.md", "assets/mine.txt", "variables/mine.txt"):
            assert (target / name).read_text() == "mine"
        assert sorted(path.name for path in (target / "assets").iterdir()) == ["albert_config.json", "mine.txt"]
    assert not [path for path in tmp_path.rglob("*") if ".albert-" in path.name]


def test_a_module_over_itself(module, tmp_path, refused):
    import shutil

    shutil.copytree(module, tmp_path / "m")
    message = refused("convert", tmp_path / "m", tmp_path / "m", "--to", "saved-model", "--force")
    assert message.startswith(f"{tmp_path / 'm'}: the target is the source itself (")
    target = tmp_path / "m/assets/albert_config.json"
    assert refused("convert", tmp_path / "m", target, "--to", "npz", "--force") == (
        f"{target}: the target is the source itself ({target}); name another target"
    )


def test_other_directories_named_like_ours_are_no_model(module, tmp_path, albert):
    for name in ("assets", "variables"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "theirs.js").write_text("mine")
    code, _, err = albert("convert", module, tmp_path / "out", "--to", "saved-model")
    assert (code, err) == (0, "")
    assert (tmp_path / "out/assets/theirs.js").read_text() == "mine"
    assert making.same(convert.load(tmp_path / "out"), convert.load(module)) is True


def test_a_bare_directory_is_still_a_hugging_face_one(module, tmp_path):
    assert convert.convert(module, tmp_path / "out").target_format == "safetensors"


def test_reading_a_module_needs_no_tensorflow(module, tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['torch'] = None\n"
        "from converters.convert import convert\n"
        f"convert({str(module)!r}, {str(tmp_path / 'hf')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
    assert making.same(convert.load(tmp_path / "hf"), convert.load(module)) is True


def test_published_shapes_keep_their_config(tmp_path):
    """Nothing of the config is lost, whatever keys it has."""
    config = EncoderConfig(**{**dataclasses.asdict(TINY), "extra": {"net_structure_type": 0, "мой": ["ключ", None]}})
    convert.save(making.model(config), tmp_path / "m", format="saved-model")
    assert convert.load(tmp_path / "m").config == config


# --- modules written by hand, as those that `corruptions` damages


@pytest.fixture
def source(tmp_path):
    return making.hub_module(tmp_path / "module")


def test_the_hand_written_modules_are_sound(source, tmp_path):
    """The base of all that follows: what is broken below is sound here."""
    assert convert.load(source).config.num_hidden_layers == 4
    found = convert.load(keras_module(tmp_path / "keras"))
    assert (found.config.num_hidden_layers, found.config.num_attention_heads, len(found.tensors)) == (4, 2, 25)
    kernel = keras_variables()["transformer/self_attention/key/kernel"]
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention"
    assert found.tensors[f"{layer}.key.weight"].read().tobytes() == kernel.reshape(8, 8).T.tobytes()
    kernel = keras_variables()["transformer/self_attention/attention_output/kernel"]
    assert found.tensors[f"{layer}.dense.weight"].read().tobytes() == kernel.reshape(8, 8).T.tobytes()


def test_another_file(source, refused):
    path = source / "tfhub_module.pb"
    assert refused("inspect", path, "--from", "saved-model") == (
        f"{path}: not a SavedModel; name its directory, or the saved_model.pb in it"
    )


def test_training_graph_is_not_the_one_looked_at(source):
    """A module of TF1 may have a second graph, tagged for training."""
    training = saved_model_pb([node("out", "Placeholder")], tags=("train",))
    graph = source / "saved_model.pb"
    graph.write_bytes(training + graph.read_bytes())
    assert convert.load(source).config.num_hidden_layers == 4


def test_layers_from_keras_where_the_graph_reports_none(tmp_path):
    source = keras_module(tmp_path / "m", graph=saved_model_pb([node("out", "Placeholder")]))
    inner = {
        "num_layers": 6,
        "num_attention_heads": 2,
        "dropout_rate": 0.1,
        "attention_dropout_rate": 0.2,
        "initializer": {"config": {"stddev": 0.5}},
    }
    settings = {"config": {"layers": [{"class_name": "AlbertEncoder", "config": inner}]}}
    (source / "keras_metadata.pb").write_bytes(field(1, field(5, json.dumps(settings).encode())))
    found = convert.load(source)
    config = found.config
    assert (config.num_hidden_layers, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (6, 0.1, 0.2)
    assert config.initializer_range == 0.5
    assumed = "hidden_act gelu_new, layer_norm_eps 1e-12"
    assert found.notes[1:] == [f"assumed, as the module does not say: {assumed}; --model-config FILE overrides"]


def test_counters_of_keras_are_left_out_and_reported(tmp_path, albert):
    source = keras_module(tmp_path / "m", keras_variables() | {"save_counter": np.asarray(3, np.int64)})
    facts = json.loads(albert("inspect", source, "--json")[1])
    assert facts["dropped"] == {"counter of checkpoints": 1}
