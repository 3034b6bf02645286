"""Files of BERT's relatives that are incomplete, or that contradict one another: refused or reported in one line."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from albert_cli.tokenization.loading import NO_TOKENIZER
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.checkpoint import Tensor
from converters.errors import AlbertError


@pytest.fixture
def copied(shared_data, tmp_path):
    """A function that copies a sample into a directory of its own, changes its config, and replaces files of it."""

    def copied(sample, files=(), **settings):
        folder = tmp_path / sample
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shared_data / "relatives" / sample, folder)
        if settings:
            path = next(path for path in folder.glob("*config.json") if "tokenizer" not in path.name)
            path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        for name, content in dict(files).items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        return folder

    return copied


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_either_file_of_a_bpe_names_both(copied, tmp_path, albert, name):
    model = copied("hf-roberta")
    wanted = Tokenizer.from_pretrained(model).ids(["a lady, <mask>"])
    assert Tokenizer.from_pretrained(model / name).ids(["a lady, <mask>"]) == wanted
    made = tmp_path / "made"
    albert("init", made, "--model-config", model / "config.json", "--tokenizer", model / name)
    assert Tokenizer.from_pretrained(made).ids(["a lady, <mask>"]) == wanted


@pytest.mark.parametrize(("missing", "there"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_one_file_of_a_bpe_is_nothing_alone(copied, refused, missing, there):
    model = copied("hf-roberta", {missing: None})
    fault = f"{model}: holds {there} and no {missing}, of which one is nothing without the other"
    assert refused("tokenize", "a", "--model", model / there) == fault


def test_a_model_without_tokenizer_says_what_to_do(copied, refused):
    model = copied("hf-roberta", dict.fromkeys(("vocab.json", "merges.txt", "tokenizer_config.json")))
    for command in (("tokenize", "a"), ("fill-mask", "a <mask>")):
        assert refused(*command, "--model", model) == f"{model}: {NO_TOKENIZER}"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (b"", "the list has no [UNK] token, so it is not a WordPiece one"),
        (b"[CLS]\n[SEP]\n", "the list has no [UNK] token, so it is not a WordPiece one"),
        (b"[UNK]\n\xff\n", "line 2 of the WordPiece list is not UTF-8"),
    ],
)
@pytest.mark.parametrize("sample", ["tf1-bert-cased", "tf1-electra", "spanbert"])
def test_a_damaged_list_of_words_is_named_with_its_place(copied, sample, words, fault):
    model = copied(sample, {"vocab.txt": words})
    with pytest.raises(AlbertError) as found:
        convert.load(model)
    assert str(found.value) == f"{model}: {fault}"


@pytest.mark.parametrize(("sample", "name"), [("hf-roberta", "BertTokenizer"), ("spanbert", "RobertaTokenizerFast")])
def test_a_class_of_another_kind_of_vocabulary_is_refused(copied, refused, sample, name):
    said = json.dumps({"tokenizer_class": name}).encode()
    model = copied(sample, {"tokenizer_config.json": said})
    file, what = ("vocab.json", "is a") if sample == "hf-roberta" else ("vocab.txt", "is no")
    found = name.removesuffix("Fast")
    assert refused("tokenize", "a", "--model", model) == (
        f"{model}/{file}: {what} byte-level BPE, but tokenizer_class is {found!r}; remove the one that is not the "
        "model's own"
    )


def test_padding_leaves_positions(copied):
    model = copied("hf-roberta", pad_token_id=61)
    with pytest.raises(AlbertError) as found:
        convert.load(model)
    assert str(found.value) == (
        f"{model}/config.json: max_position_embeddings 62 leaves a text no position, for they begin at 62, after that "
        "of padding"
    )


@pytest.mark.parametrize(("sample", "layers"), [("hf-roberta", 2), ("spanbert", 2), ("tf1-bert-cased", 3)])
@pytest.mark.parametrize("said", [1, 12])
def test_the_number_of_layers_is_compared_first(copied, sample, layers, said):
    model = copied(sample, num_hidden_layers=said)
    with pytest.raises(AlbertError) as found:
        convert.load(model)
    text = str(found.value)
    if said < layers and sample.startswith("tf1"):
        assert "that the config (1 layer) has no place for: bert/encoder/layer_1/" in text
    else:
        fault = f"num_hidden_layers is {said}, but the weights have {layers}; take the weights and the config of one"
        assert text.endswith(f": {fault} model")


def test_gamma_and_beta_of_a_roberta(copied):
    model = copied("hf-roberta")
    wanted = {name: tensor.read() for name, tensor in convert.load(model).tensors.items()}
    stored = safetensors.numpy.load_file(model / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {functools.reduce(lambda n, o: n.replace(o, old[o]), old, name): value for name, value in stored.items()}
    assert sum(name.endswith(("gamma", "beta")) for name in renamed) == 10
    safetensors.numpy.save_file(renamed, model / "model.safetensors")
    found = convert.load(model).tensors
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(found[name].read(), value) for name, value in wanted.items())


def test_a_config_without_family_says_what_it_is_taken_for(copied, refused, tmp_path):
    config = copied("spanbert") / "config.json"
    assert refused("init", tmp_path / "new", "--model-config", config) == (
        f"{config}: lacks embedding_size; it has no model_type, so it is read as an ALBERT's; add one of albert, bert, "
        "electra, roberta"
    )


def test_a_part_of_a_checkpoint_names_the_whole(copied, refused, tmp_path):
    part = copied("tf1-bert-cased") / "bert_model.ckpt.data-00000-of-00001"
    assert refused("convert", part, tmp_path / "out") == (
        f"{part}: a part of a TensorFlow checkpoint, which is read by its .index: name that, and copy it there if "
        "it is not"
    )


def test_what_a_format_has_no_name_for_says_what_to_do(copied, refused, tmp_path):
    model = copied("tf1-electra")
    fine = convert.load(model)
    heads = {"qa_outputs.weight": np.ones((2, 24), np.float32), "qa_outputs.bias": np.ones(2, np.float32)}
    made = dataclasses.replace(fine, tensors=dict(fine.tensors) | {n: Tensor.of(a) for n, a in heads.items()})
    convert.save(made, tmp_path / "hf")
    assert refused("convert", tmp_path / "hf", tmp_path / "tf", "--to", "tf") == (
        f"{tmp_path}/hf: the target format has no name for qa_outputs.weight, qa_outputs.bias; choose another format"
    )


def test_a_list_of_more_words_than_rows_is_reported_and_refused(copied, albert, refused, shared_data, tmp_path):
    words = (shared_data / "relatives/tf1-bert-uncased/vocab.txt").read_bytes() + b"more\n"
    model = copied("tf1-bert-uncased", {"vocab.txt": words})
    fault = "the tokenizer has 191 pieces, the model only 190"
    assert f"note          {fault}" in albert("inspect", model)[1]
    assert f"note       {fault}" in albert("convert", model, tmp_path / "hf")[1]
    assert refused("fill-mask", "a [MASK]", "--model", tmp_path / "hf") == f"{tmp_path}/hf: {fault}"


def test_positions_counted_from_another_padding_are_reported_and_refused(copied, albert, refused, tmp_path):
    model = copied("hf-roberta", pad_token_id=0)
    fault = (
        "<pad> has the id 1, but the model counts positions from pad_token_id 0; take a config with pad_token_id 1, or "
        "the model's own tokenizer"
    )
    assert fault in albert("convert", model, tmp_path / "hf")[1]
    assert refused("fill-mask", "a <mask>", "--model", model) == f"{model}: {fault}"
