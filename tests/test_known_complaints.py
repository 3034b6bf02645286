"""What users of BERT, ELECTRA, RoBERTa and SpanBERT complain about most, each on the samples."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model.loading import load_model
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.choices import Choices
from converters.families import presets


@pytest.fixture(scope="module")
def samples(shared_data):
    return shared_data / "relatives"


@pytest.fixture(scope="module")
def roberta(samples, tmp_path_factory):
    """RoBERTa's sample of fairseq, as a Hugging Face directory."""
    target = tmp_path_factory.mktemp("roberta") / "hf"
    convert.convert(samples / "fairseq-roberta", target)
    return target


def test_weights_are_placed_or_refused_and_never_random(samples, refused, tmp_path):
    shutil.copytree(samples / "hf-roberta", tmp_path / "m")
    tensors = dict(convert.load(tmp_path / "m").tensors)
    found = load_model(tmp_path / "m").state_dict()
    placed = {tuple(np.sort(value.numpy().ravel())[:9]) for value in found.values()}
    for name, tensor in tensors.items():
        assert tuple(np.sort(tensor.read().ravel())[:9]) in placed, name
    spanbert = samples / "spanbert"
    assert refused("fill-mask", "a [MASK]", "--model", spanbert) == (
        f"{spanbert}: has no masked-word head (MLM), so its weights would be random; take a model that has it, "
        "such as bert-base-uncased or spanbert_large_with_head.tar.gz"
    )


def test_a_roberta_takes_512_tokens_of_its_514_positions(samples, albert, refused, tmp_path):
    assert presets()["roberta-base"].max_position_embeddings == 514
    assert presets()["roberta-base"].max_tokens == 512
    model = load_model(samples / "hf-roberta").encoder
    ids = torch.full((1, 60), 7)
    theirs = transformers.AutoModel.from_pretrained(samples / "hf-roberta").eval()
    with torch.no_grad():
        longest = model(ids).sequence_output
        assert (longest - theirs(ids).last_hidden_state).abs().max() < 1e-5
    (tmp_path / "t.txt").write_text("a\n")
    message = refused(
        "embed", "--in", tmp_path / "t.txt", "--out", tmp_path / "v.npy", "--model", samples / "hf-roberta",
        "--max-length", "61",
    )  # fmt: skip
    assert message == (
        "--max-length 61: the model has positions for 60 tokens; albert embed --on-truncate window takes longer texts"
    )


def test_positions_and_tokenizer_agree_on_the_id_of_padding(roberta, refused, tmp_path):
    shutil.copytree(roberta, tmp_path / "words")
    ids = json.loads((roberta / "vocab.json").read_text())
    ids["<pad>"], ids["</s>"] = ids["</s>"], ids["<pad>"]
    (tmp_path / "words/vocab.json").write_text(json.dumps(ids))
    (tmp_path / "words/tokenizer.json").unlink()
    assert refused("init", tmp_path / "m", "--preset", "roberta-base", "--tokenizer", tmp_path / "words") == (
        f"{tmp_path / 'words'}: <pad> has the id 2, but the model counts positions from pad_token_id 1; "
        "take a config with pad_token_id 2, or the model's own tokenizer"
    )


def test_the_dictionary_orders_the_ids(roberta):
    ids = json.loads((roberta / "vocab.json").read_text())
    assert len(ids) == 337
    assert [ids[piece] for piece in ("<s>", "<pad>", "</s>", "<unk>", "e", "Ġ", "<mask>")] == [0, 1, 2, 3, 4, 5, 336]


def test_the_two_models_of_an_electra_are_never_mixed(samples, tmp_path, refused):
    convert.convert(samples / "tf1-electra", tmp_path / "d", choices=Choices(heads=4))
    convert.convert(samples / "tf1-electra", tmp_path / "g", choices=Choices(heads=1, part="generator"))
    kinds = {"d": transformers.ElectraForPreTraining, "g": transformers.ElectraForMaskedLM}
    for name, hidden in (("d", 24), ("g", 12)):
        model, report = kinds[name].from_pretrained(tmp_path / name, output_loading_info=True)
        assert model.config.hidden_size == hidden
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
    assert refused("fill-mask", "a [MASK]", "--model", tmp_path / "d") == (
        f"{tmp_path / 'd'}: has no masked-word head (MLM), so its weights would be random (this is the discriminator); "
        "take a generator, such as electra-small-generator; of Google's checkpoint, albert convert SOURCE TARGET "
        "--part generator; or ask this one which words were replaced: albert score"
    )


def test_the_blank_before_a_mask_belongs_to_it(roberta):
    text = "you are a beautiful <mask>."
    assert Tokenizer.from_pretrained(roberta).encode(text, special_in_text=("<mask>",)).ids[-4:] == [20, 336, 22, 2]
    assert transformers.AutoTokenizer.from_pretrained(roberta)(text)["input_ids"][-4:] == [20, 336, 22, 2]


def test_a_decoder_is_tied_and_its_bias_added_once(samples, roberta):
    from safetensors import safe_open

    expected = np.load(samples / "roberta.expected.npz")
    with safe_open(roberta / "model.safetensors", "np") as file:
        assert not [name for name in file.keys() if name.startswith("lm_head.decoder")]  # noqa: SIM118
    ids, mask = (torch.tensor(expected[key])[-5:] for key in ("input_ids", "attention_mask"))
    model, report = transformers.RobertaForMaskedLM.from_pretrained(roberta, output_loading_info=True)
    assert not report["missing_keys"]
    with torch.no_grad():
        ours = load_model(roberta)(ids, mask).prediction_logits
        theirs = model.eval()(ids, attention_mask=mask).logits
    for logits in (ours, theirs):
        difference = (logits.numpy() - expected["lm_logits"])[mask.numpy().astype(bool)]
        assert np.abs(difference).max() < 2e-6 * np.abs(expected["lm_logits"]).max()


def test_slots_and_step_are_no_weights(samples, tmp_path):
    report = convert.convert(samples / "tf1-bert-uncased", tmp_path / "hf")
    assert report.dropped == {"optimizer slots": 92}
    assert convert.load(tmp_path / "hf").global_step == 3
    _, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize(
    ("name", "lower"), [("tf1-bert-cased", False), ("tf1-bert-uncased", True), ("spanbert", False)]
)
def test_a_cased_model_keeps_its_capitals(samples, tmp_path, name, lower):
    convert.convert(samples / name, tmp_path / "hf")
    assert json.loads((tmp_path / "hf/tokenizer_config.json").read_text())["do_lower_case"] is lower
    mine, theirs = (
        Tokenizer.from_pretrained(tmp_path / "hf"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "hf"),
    )
    text = "She had the Best of Her"
    assert mine.encode(text).ids == theirs(text)["input_ids"]
    assert (mine.encode(text).ids == mine.encode(text.lower()).ids) is lower


def test_no_pooler_is_invented(samples, refused, tmp_path):
    convert.convert(samples / "spanbert", tmp_path / "hf")
    assert not [name for name in convert.load(tmp_path / "hf").tensors if "pooler" in name]
    (tmp_path / "t.txt").write_text("she\n")
    message = refused(
        "embed", "--in", tmp_path / "t.txt", "--out", tmp_path / "v.npy", "--model", tmp_path / "hf",
        "--pooling", "pooler",
    )  # fmt: skip
    assert message == "--pooling pooler: the model has no pooler; choose mean, cls, max or weighted"


def test_added_tokens_keep_their_ids(samples, tmp_path):
    convert.convert(samples / "tf1-bert-uncased", tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "hf")
    tokenizer.add_tokens(["covfefe"])
    model.resize_token_embeddings(len(tokenizer))
    for part in (tokenizer, model):
        part.save_pretrained(tmp_path / "more")
    convert.convert(tmp_path / "more", tmp_path / "tf", target_as="tf")
    convert.convert(tmp_path / "tf", tmp_path / "back")
    text = "she had covfefe, the best"
    wanted = tokenizer(text)["input_ids"]
    assert len(tokenizer) - 1 in wanted
    for place in ("more", "tf", "back"):
        assert Tokenizer.from_pretrained(tmp_path / place).encode(text).ids == wanted
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "back")(text)["input_ids"] == wanted
