"""fairseq's checkpoints: the samples against fairseq's own numbers, every spelling and layout, and what is refused."""

import io
import json
import subprocess
import sys
import tarfile

import fairseq_models as fairseq
import making
import numpy as np
import pytest
import torch
import transformers
from fairseq_models import NEW, namespace, old, state, trained, write

from albert_cli.model.loading import load_model, load_task_model
from converters import convert
from converters.checkpoint import same_bits
from converters.choices import Choices
from converters.errors import CheckpointError, UsageError

HEAD = "classification_heads.mnli"
WORDS = f"{NEW}embed_tokens.weight"


@pytest.fixture(scope="module")
def roberta(shared_data):
    return shared_data / "relatives/fairseq-roberta", np.load(shared_data / "relatives/roberta.expected.npz")


@pytest.fixture(scope="module")
def spanbert(shared_data):
    return shared_data / "relatives/spanbert-with-head", np.load(shared_data / "relatives/spanbert.expected.npz")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of the old layout, and what is read of it."""
    path = write(tmp_path_factory.mktemp("tiny") / "roberta.tiny", {"args": namespace(), "model": old(state())})
    return path, convert.load(path)


def gap(found, expected, mask):
    return np.abs(found.numpy() - expected)[mask == 1].max()


# --- the samples


def test_roberta_computes_what_fairseq_does(roberta):
    path, expected = roberta
    checkpoint = convert.load(path)
    assert checkpoint.components == ["embeddings", "encoder", "mlm", "first_token"]
    assert dict(checkpoint.dropped) == {"tied decoder copies": 1}
    ids, mask = torch.tensor(expected["input_ids"]), torch.tensor(expected["attention_mask"])
    with torch.no_grad():
        found = load_model(checkpoint)(ids, mask, output_hidden_states=True)
        labels = load_task_model(checkpoint)(ids, mask)
    assert gap(found.encoder.sequence_output, expected["sequence_output"], expected["attention_mask"]) < 1e-5
    assert np.abs(labels.numpy() - expected["classification_logits"]).max() < 1e-5
    # Logits reach 12, and fairseq's own, in float32, are 1.7e-5 from those that float64 gives; transformers' 1.4e-5.
    logits = expected["lm_logits"]
    assert gap(found.prediction_logits[-5:], logits, expected["attention_mask"][-5:]) < 2e-6 * np.abs(logits).max()


def test_fairseqs_own_logits_are_as_far_from_exact_ones(roberta):
    path, expected = roberta
    model = load_model(convert.load(path)).double()
    ids, mask = torch.tensor(expected["input_ids"])[-5:], expected["attention_mask"][-5:]
    with torch.no_grad():
        exact = model(ids, torch.tensor(mask)).prediction_logits
    assert 1e-5 < gap(exact, expected["lm_logits"], mask) < 2e-6 * np.abs(expected["lm_logits"]).max()


def test_spanbert_computes_what_its_code_does(spanbert):
    path, expected = spanbert
    checkpoint = convert.load(path, choices=Choices(heads=4))
    assert checkpoint.components == ["embeddings", "encoder", "mlm", "sbo"]
    assert dict(checkpoint.dropped) == {"tied decoder copies": 2}
    assert not [name for name in checkpoint.tensors if name.startswith("decoder.") or name.endswith("gamma")]
    ids, mask = torch.tensor(expected["input_ids"]), torch.tensor(expected["attention_mask"])
    model = load_model(checkpoint)
    with torch.no_grad():
        found = model(ids, mask)
        words, pairs = model.encoder.embeddings.words.weight, torch.tensor(expected["sbo_pairs"])
        spans = model.sbo(found.encoder.sequence_output, pairs, words)
    assert gap(found.encoder.sequence_output, expected["sequence_output"], expected["attention_mask"]) < 1e-5
    assert gap(found.prediction_logits, expected["mlm_logits"], expected["attention_mask"]) < 1e-5
    assert np.abs(spans[:, :, :5].numpy() - expected["sbo_logits"]).max() < 1e-5


def test_spanbert_has_the_weights_of_the_published_directory(spanbert, shared_data):
    """Those of the encoder, which is all that directory has."""
    mine = convert.load(spanbert[0], choices=Choices(config=shared_data / "relatives/spanbert/config.json"))
    theirs = convert.load(shared_data / "relatives/spanbert")
    assert mine.config.num_attention_heads == 4
    for name, tensor in theirs.tensors.items():
        assert same_bits(mine.tensors[name].read(), tensor.read().astype(np.float32)), name


def test_spanberts_archive_with_a_list_of_words(spanbert, shared_data, tmp_path, albert):
    """The archive has none; one that is put beside the model is cased."""
    words = (shared_data / "relatives/spanbert/vocab.txt").read_bytes()
    held = [("spanbert/model.pt", (spanbert[0] / "model.pt").read_bytes()), ("spanbert/vocab.txt", words)]
    with tarfile.open(tmp_path / "spanbert_large_with_head.tar.gz", "w:gz") as archive:
        for name, content in held:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    code, out, err = albert("convert", tmp_path / "spanbert_large_with_head.tar.gz", tmp_path / "hf", "--heads", 4)
    assert (code, err) == (0, "")
    assert "the tokenizer is taken as cased, as those of all SpanBERTs are; tokenizer_config.json may say other" in out
    assert json.loads((tmp_path / "hf/tokenizer_config.json").read_text())["do_lower_case"] is False
    found = convert.load(tmp_path / "hf")
    assert (found.components[2:], found.tokenizer.wordpiece) == (["mlm", "sbo"], words)


def test_the_heads_of_attention_that_nothing_says_are_assumed(spanbert):
    notes = convert.load(spanbert[0]).notes
    assert "num_attention_heads 1 is assumed (64 values a head); --heads N overrides" in notes


@pytest.mark.parametrize("form", [name for name in convert.writable() if name not in ("tf", "saved-model")])
def test_every_format_gets_the_weights_that_hugging_faces_directory_has(roberta, shared_data, tmp_path, form):
    wanted = convert.load(shared_data / "relatives/hf-roberta").tensors
    report = convert.convert(roberta[0], tmp_path / f"out{'.npz' if form == 'npz' else ''}", target_as=form)
    found = convert.load(report.target).tensors
    assert wanted.keys() - found.keys() == {f"roberta.pooler.dense.{part}" for part in ("weight", "bias")}
    assert all(name.startswith("classifier.") for name in found.keys() - wanted.keys())
    for name in wanted.keys() & found.keys():
        assert same_bits(found[name].read(), wanted[name].read()), name


# --- what users ask for


@pytest.mark.parametrize(
    ("kind", "heads"), [("RobertaForMaskedLM", ()), ("RobertaForSequenceClassification", ("mnli",))]
)
def test_transformers_loads_it_clean(tmp_path, kind, heads):
    made = {name: value for name, value in state(heads=heads).items() if not (heads and "lm_head" in name)}
    convert.convert(write(tmp_path / "in", {"args": namespace(), "model": made}), tmp_path / "hf")
    assert json.loads((tmp_path / "hf/config.json").read_text())["architectures"] == [kind]
    model, report = getattr(transformers, kind).from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    assert (model.roberta.embeddings.token_type_embeddings.weight == 0).all()
    assert model.config.layer_norm_eps == 1e-5
    query = made[f"{NEW}layers.1.self_attn.q_proj.weight"].float()
    assert torch.equal(model.roberta.encoder.layer[1].attention.self.query.weight, query)


def test_a_converter_that_needs_only_torch(tiny, tmp_path):
    """Not even that: without fairseq, omegaconf, transformers and PyTorch."""
    code = (
        "import sys\n"
        "for name in ('torch', 'fairseq', 'omegaconf', 'hydra', 'transformers'): sys.modules[name] = None\n"
        "from converters import convert\n"
        "print(len(convert.convert(sys.argv[1], sys.argv[2]).digests))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny[0], tmp_path / "hf"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "46\n"
    assert making.same(convert.load(tmp_path / "hf"), tiny[1]) is True


def test_half_precision(tiny, tmp_path, albert):
    """Is read as float32, exactly; and --dtype float16 gives the file's own bits again."""
    path, checkpoint = tiny
    assert {tensor.dtype.name for tensor in checkpoint.tensors.values()} == {"float32"}
    assert checkpoint.notes == ["45 tensors in float16 read as float32, which changes no value"]
    code, out, err = albert("convert", path, tmp_path / "half", "--dtype", "float16")
    assert (code, err) == (0, "")
    assert "cast       46 tensors to float16, no value changed" in out
    words = convert.load(tmp_path / "half").tensors["roberta.embeddings.word_embeddings.weight"].read()
    assert same_bits(words, state()[WORDS].numpy())


def test_tied_decoder(tmp_path, refused):
    """lm_head.weight is left out once it is shown to be the word embeddings; one that is not is never dropped."""
    made = state()
    made["encoder.lm_head.weight"] = made[WORDS] + 1
    path = write(tmp_path / "in", {"args": namespace(), "model": made})
    assert refused("convert", path, tmp_path / "hf") == (
        f"{path}/model.pt: lm_head.decoder.weight differs from roberta.embeddings.word_embeddings.weight, which "
        "fairseq ties it to; one is damaged"
    )
    del made["encoder.lm_head.weight"]
    assert dict(convert.load(write(path, {"args": namespace(), "model": made})).dropped) == {"buffers": 2}


def test_514_of_512_positions(tmp_path, refused):
    """The table has two rows more than there are tokens, in fairseq and in transformers' config."""
    path = write(tmp_path / "in", {"args": namespace(), "model": state()})
    config = convert.load(path).config
    assert (config.max_position_embeddings, config.max_tokens, config.position_offset) == (14, 12, 2)
    write(path, {"args": namespace(max_positions=14), "model": state()})
    assert refused("inspect", path) == f"{path}/model.pt: max_positions is 14, but its tensors have 12 + 2"


# --- spellings and layouts


def layouts():
    yield "old", lambda forged: ({"args": namespace(), "model": old(state())}, False)
    yield "old in a zip", lambda forged: ({"args": namespace(), "model": old(state())}, True)
    yield "new", lambda forged: ({"args": namespace(), "model": state()}, False)
    yield "cfg", lambda forged: (trained(state(), namespace()), True)
    yield "cfg as a dictionary", lambda forged: (trained(state(), dict(fairseq.ARGS)), True)
    yield "omegaconf", lambda forged: (trained(state(), fairseq.omegaconf(forged, fairseq.ARGS)), True)
    yield "omegaconf before 1.6", lambda forged: (trained(old(state()), fairseq.omegaconf(forged, fairseq.ARGS)), False)
    yield (
        "module",
        lambda forged: (
            {"args": namespace(), "model": {f"module.{name}": value for name, value in state().items()}},
            True,
        ),
    )


@pytest.mark.parametrize(("name", "make"), list(layouts()))
def test_every_layout_is_the_same_model(tiny, tmp_path, monkeypatch, name, make):
    forged = fairseq.Forged(monkeypatch)
    value, zipped = make(forged)
    path = write(tmp_path / "in", value, zipped=zipped)
    forged.gone()
    checkpoint = convert.load(path)
    assert making.same(checkpoint, tiny[1]) is True
    assert checkpoint.config.attention_probs_dropout_prob == 0.2
    assert not forged.modules & sys.modules.keys()
    training = "entries of the training state (optimizer_history, extra_state, last_optimizer_state)"
    assert dict(checkpoint.dropped).get(training) == (3 if "cfg" in value else None)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_without_settings(tiny, tmp_path, wrapped):
    """The heads of attention are the user's to say."""
    write(tmp_path / "in", {"model": old(state())} if wrapped else old(state()))
    checkpoint = convert.load(tmp_path / "in", choices=Choices(heads=4))
    for name, tensor in tiny[1].tensors.items():
        assert same_bits(checkpoint.tensors[name].read(), tensor.read()), name


@pytest.mark.parametrize("name", ["checkpoint_best.pt", "mine.pt", "anything"])
def test_checkpoints_of_other_names(tiny, tmp_path, name, refused):
    path = write(tmp_path / "in", {"args": namespace(), "model": state()})
    (path / "model.pt").rename(path / name)
    assert making.same(convert.load(path / name), tiny[1]) is True
    if name == "checkpoint_best.pt":
        assert making.same(convert.load(path), tiny[1]) is True
    elif name == "mine.pt":
        assert refused("inspect", path) == (
            f"{path}: contains no model under a known name, but mine.pt: name the file, as {path}/mine.pt"
        )


@pytest.mark.parametrize("packed", ["roberta.tiny.tar.gz", "roberta.tiny.zip"])
def test_archives(tiny, tmp_path, albert, packed):
    path = tmp_path / packed
    if packed.endswith(".zip"):
        making.write_zip(path, [(f"roberta.tiny/{item.name}", item.read_bytes()) for item in tiny[0].iterdir()])
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tiny[0], "roberta.tiny")
    code, out, err = albert("convert", path, tmp_path / "hf", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["source_format"] == "fairseq"
    assert albert("diff", path, tmp_path / "hf")[0] == 0
    assert making.same(convert.load(tmp_path / "hf"), tiny[1]) is True


def test_a_state_dict_of_transformers_is_none_of_fairseqs(tmp_path):
    """Also where a dictionary lies beside it."""
    path = write(tmp_path / "hf", {"bert.embeddings.word_embeddings.weight": torch.ones(2, 2)})
    assert convert.source_format(path / "model.pt").NAME == "torch"


# --- several heads


def test_several_heads(tmp_path, refused, albert):
    path = write(tmp_path / "in", {"args": namespace(), "model": state(heads=("mnli", "rte"))})
    several = f"{path}/model.pt: holds 2 classification heads: mnli, rte; say which with --classification-head NAME"
    assert refused("inspect", path) == several
    assert refused("convert", path, tmp_path / "hf", "--classification-head", "cola") == (
        f"{path}/model.pt: holds no classification head 'cola', but mnli, rte"
    )
    code, out, err = albert("convert", path, tmp_path / "hf", "--classification-head", "rte", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["dropped"] == {
        "tied decoder copies": 1,
        "buffers": 2,
        "tensors of the classification head mnli (--classification-head mnli converts it)": 4,
    }
    assert json.loads(out)["heads"] == ["mlm", "first_token"]
    out = albert("convert", tmp_path / "hf", tmp_path / "hf.npz")[1]
    assert "heads      masked-word head (MLM), classification head on the first token\n" in out
    wanted = state(heads=("mnli", "rte"))["classification_heads.rte.out_proj.weight"].float().numpy()
    assert same_bits(convert.load(tmp_path / "hf").tensors["classifier.out_proj.weight"].read(), wanted)


def test_other_formats_take_no_head(tiny, tmp_path, refused):
    convert.convert(tiny[0], tmp_path / "hf")
    assert refused("inspect", tmp_path / "hf", "--classification-head", "mnli") == (
        f"{tmp_path}/hf: safetensors holds no heads of one kind under several names, so it takes no "
        "--classification-head; leave it out"
    )


# --- read only


def test_it_is_read_only(tiny, tmp_path, albert):
    known = " or --to ".join(convert.writable())
    assert albert("convert", tiny[0], tmp_path / "out", "--to", "fairseq") == (
        2,
        "",
        f"albert: fairseq is read and not written; say --to {known}\n",
    )
    with pytest.raises(UsageError, match="fairseq is read and not written; say --to bson or "):
        convert.save(tiny[1], tmp_path / "out", format="fairseq")
    assert "fairseq" not in convert.writable()


# --- refused


def without(name):
    return {key: value for key, value in state().items() if key != name}


def faults():
    layer = f"{NEW}layers.0."
    one = torch.ones(8, dtype=torch.float16)
    yield (
        {"model": state() | {f"{layer}self_attn.bias_k": one, f"{layer}adapter.weight": one}},
        (
            "holds 2 variables that the config (2 layers) has no place for: "
            f"{layer}self_attn.bias_k, {layer}adapter.weight"
        ),
    )
    yield (
        {"model": without(f"{layer}fc2.bias")},
        (
            "does not match its config: 1 tensor missing: roberta.encoder.layer.0.output.dense.bias; fetch every "
            "weight file of the model again, and its own config: a download may be incomplete"
        ),
    )
    yield (
        {"model": state() | {"decoder.sentence_encoder.embed_tokens.weight": one}},
        (f"holds both {WORDS}, decoder.sentence_encoder.embed_tokens.weight, names of one tensor; remove one"),
    )
    yield (
        {"model": state() | {f"{layer}self_attn.in_proj_bias": torch.ones(24)}},
        (
            f"holds {layer}self_attn.k_proj.bias, {layer}self_attn.q_proj.bias, {layer}self_attn.v_proj.bias twice, "
            "apart and in one tensor with others; remove one"
        ),
    )
    yield (
        {"model": old(state()) | {"decoder.sentence_encoder.layers.0.self_attn.in_proj_bias": torch.ones(25)}},
        "encoder.sentence_encoder.layers.0.self_attn.in_proj_bias of shape [25] is not 3 matrices below one another",
    )
    yield (
        {"model": {"encoder.embed_tokens.weight": one, "decoder.embed_tokens.weight": one}},
        (
            "no model of fairseq's that is read here (RoBERTa, SpanBERT); it holds encoder.embed_tokens.weight, "
            "decoder.embed_tokens.weight"
        ),
    )
    yield {"model": state() | {"epoch": 3}}, "'epoch' of the model is a int, not a tensor"
    yield (
        {"args": namespace(encoder_layers=3, encoder_embed_dim="wide")},
        "encoder_layers is 3, but its tensors have 2; encoder_embed_dim is 'wide', but its tensors have 8",
    )
    yield (
        {"args": namespace(activation_fn="swish")},
        "activation_fn is 'swish', not one of gelu, gelu_accurate, gelu_fast, relu, tanh",
    )
    yield {"args": namespace(pooler_activation_fn="relu")}, "pooler_activation_fn is 'relu', and only tanh is supported"
    yield (
        {"args": namespace(encoder_attention_heads=3)},
        "hidden_size 8 is not a multiple of num_attention_heads 3",
    )
    yield (
        {"args": namespace(encoder_attention_heads=[[[4]]])},
        "num_attention_heads is 'a list', not a whole number from 1 to 1073741823",
    )


@pytest.mark.parametrize(("change", "message"), list(faults()))
def test_what_is_refused(tmp_path, refused, change, message):
    path = write(tmp_path / "in", {"args": namespace(), "model": state()} | change)
    assert refused("inspect", path) == f"{path}/model.pt: {message}"


@pytest.mark.parametrize(("words", "fits"), [(3, False), (19, False), (20, True), (24, True), (29, True), (30, False)])
def test_the_dictionary_has_the_rows_of_the_table(tmp_path, refused, words, fits):
    """29 rows: 24 words, 4 special ones before them and <mask>; padded, as many as 8 divides."""
    path = write(tmp_path / "in", {"args": namespace(), "model": state()}, dictionary=words)
    if fits:
        assert convert.load(path).config.vocab_size == 29
        return
    most = -(-(words + 5) // 8) * 8
    assert refused("inspect", path) == (
        f"{path}/dict.txt: {words} entries, which make {words + 5} rows (at most {most}, padded), and the model's word "
        "embeddings have 29; copy the model's own dictionary there"
    )


def test_settings_of_the_user_count_first(tmp_path):
    (tmp_path / "more.json").write_text('{"num_attention_heads": 2, "layer_norm_eps": 0.001}')
    path = write(tmp_path / "in", {"args": namespace(), "model": state()})
    config = convert.load(path, choices=Choices(config=tmp_path / "more.json")).config
    assert (config.num_attention_heads, config.layer_norm_eps) == (2, 0.001)
    assert convert.load(path, choices=Choices(heads=8)).config.num_attention_heads == 8


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_anywhere(tmp_path, zipped):
    path = write(tmp_path / "in", {"args": namespace(), "model": old(state())}, zipped=zipped)
    content = (path / "model.pt").read_bytes()
    for size in [*range(0, 400, 37), *range(400, len(content), len(content) // 40)]:
        (path / "model.pt").write_bytes(content[:size])
        with pytest.raises(CheckpointError) as caught:
            convert.load(path)
        assert str(caught.value).startswith(f"{path}/model.pt: "), size
        assert "\n" not in str(caught.value)
