"""Files of BERT's relatives that are incomplete, or that contradict one another: refused or reported in one line."""

import json
import shutil

import pytest

from albert_cli.tokenization.loading import NO_TOKENIZER
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.errors import AlbertError


@pytest.fixture
def copied(shared_data, tmp_path):
    """A function that copies a sample into a directory of its own, changes its config, and replaces files of it."""

    def copied(sample, files=(), **settings):
        folder = tmp_path / sample
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shared_data / "relatives" / sample, folder)
        if settings:
            path = next(folder.glob("*config.json"))
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
