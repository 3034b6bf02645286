"""Vectors of Sentence-Transformers directories against the library itself: every family, pooling, layer and prompt."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from converters.errors import ConfigError, CorruptError
from converters.sentence_keys import DENSE, MODEL, MODULES, POOLING

# Loading models through the libraries leaves warnings of theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog, the end.", "Who are you? 42!", "b"]
QUERY = "ask: "
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!:"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
FAMILIES = ("albert", "bert", "electra", "roberta")
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def make(family, target):
    """A small random model of a family whose pieces are characters."""
    import transformers
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    torch.manual_seed(0)
    target.mkdir()
    if family == "roberta":
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *bytes_to_unicode().values()]
        (target / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
        (target / "merges.txt").write_text("#version: 0.2\n")
        config = transformers.RobertaConfig(
            vocab_size=len(words), max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **SIZES
        )
        transformers.RobertaModel(config).save_pretrained(target)
        (target / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
        return target
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (target / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    kind = {"bert": ("Bert", {}), "electra": ("Electra", {"embedding_size": 8})}[family]
    config = getattr(transformers, f"{kind[0]}Config")(
        vocab_size=len(words), max_position_embeddings=64, initializer_range=0.5, **kind[1], **SIZES
    )
    getattr(transformers, f"{kind[0]}Model")(config).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def encoders(letter_model, tmp_path_factory):
    """Of each family the library's Transformer, and the model's directory."""
    from sentence_transformers.base.modules.transformer import Transformer

    folder = tmp_path_factory.mktemp("families")
    directories = {family: make(family, folder / family) for family in FAMILIES if family != "albert"}
    directories["albert"] = letter_model
    return {family: (Transformer(str(directory)), directory) for family, directory in directories.items()}


def library(encoder, target, *modules, **options):
    """A model of the library, saved as it saves one."""
    from sentence_transformers import SentenceTransformer

    transformer, directory = encoder
    model = SentenceTransformer(modules=[transformer, *modules], device="cpu", **options)
    model.save(str(target), create_model_card=False)
    for name in ("spiece.model", "vocab.txt", "vocab.json", "merges.txt"):
        if (directory / name).exists() and not (target / name).exists():
            shutil.copy(directory / name, target)
    return model


def encoded(model, texts=TEXTS, **how):
    return model.encode(texts, show_progress_bar=False, **how)


def vectors(directory, texts=TEXTS, **settings):
    return Embedder.from_pretrained(str(directory), Settings(**settings), threads=1).embed(texts)


def pooling(mode, size=16, **options):
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    return Pooling(size, mode, **options)


def dense(inputs, outputs, activation=None, **options):
    from sentence_transformers.base.modules.dense import Dense

    torch.manual_seed(inputs + outputs)
    return Dense(inputs, outputs, activation_function=activation or torch.nn.Tanh(), **options)


def normalize():
    from sentence_transformers.base.modules.normalize import Normalize

    return Normalize()


def layer_norm(size):
    from sentence_transformers.sentence_transformer.modules.layer_norm import LayerNorm

    made = LayerNorm(size)
    torch.nn.init.normal_(made.norm.weight)
    torch.nn.init.normal_(made.norm.bias)
    return made


def dropout():
    from sentence_transformers.sentence_transformer.modules.dropout import Dropout

    return Dropout(0.5)


STACKS = {
    **{mode: lambda mode=mode: [pooling(mode)] for mode in POOLINGS},
    "joined": lambda: [pooling(("max", "cls", "lasttoken")), normalize()],
    "all joined": lambda: [pooling(POOLINGS)],
    "dense": lambda: [pooling("mean"), dense(16, 4)],
    "dense, normalized": lambda: [pooling("cls"), dense(16, 8, torch.nn.Identity(), bias=False), normalize()],
    "wider": lambda: [pooling("mean"), dense(16, 24, torch.nn.GELU()), dense(24, 12, torch.nn.ReLU())],
    "normalized in between": lambda: [pooling("weightedmean"), normalize(), dense(16, 16), dropout(), layer_norm(16)],
    "residual": lambda: [
        pooling("mean"), dense(16, 16, use_residual=True), dense(16, 6, torch.nn.SiLU(), use_residual=True),
        normalize(), dropout(),
    ],
    "joined, dense": lambda: [pooling(("mean", "max")), dense(32, 16, torch.nn.Sigmoid()), normalize()],
}  # fmt: skip


# Of the others all poolings, a Dense layer and a residual one are quick; the rest is the same again.
QUICK = ("all joined", "joined, dense", "residual")
MATRIX = [
    pytest.param(family, stack, marks=[] if family == "bert" or stack in QUICK else pytest.mark.slow)
    for family in FAMILIES
    for stack in STACKS
]


@pytest.mark.parametrize(("family", "stack"), MATRIX)
def test_vectors_are_those_of_the_library(encoders, tmp_path, family, stack):
    """Without a prompt, with one, with one that is not pooled; and cut as truncate_dim says."""
    modules = STACKS[stack]()
    model = library(encoders[family], tmp_path / "st", *modules, prompts={"query": QUERY})
    expected = encoded(model)
    found = vectors(tmp_path / "st")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5
    asked = encoded(model, prompt_name="query")
    assert np.abs(asked - expected).max() > 1e-3
    assert np.abs(vectors(tmp_path / "st", prompt="query") - asked).max() < 1e-5
    model.set_pooling_include_prompt(False)
    change(tmp_path / "st", POOLING, include_prompt=False)
    unpooled = encoded(model, prompt_name="query")
    change(tmp_path / "st", MODEL, default_prompt_name="query", truncate_dim=3)
    assert np.abs(vectors(tmp_path / "st") - unpooled[:, :3]).max() < 1e-5


def change(directory, file, **values):
    path = directory / file
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({key: value for key, value in (data | values).items() if value is not ...}))


@pytest.fixture
def prompted(encoders, tmp_path):
    """A model with prompts, one by default, that are not pooled, a Dense layer, Normalize, and a cut."""
    model = library(
        encoders["bert"], tmp_path / "st", pooling("weightedmean", include_prompt=False), dense(16, 8), normalize(),
        prompts={"query": QUERY, "passage": "text: "}, default_prompt_name="passage", truncate_dim=6,
    )  # fmt: skip
    return model, tmp_path / "st"


def test_embed_says_what_is_the_model_s(prompted, albert, tmp_path):
    model, directory = prompted
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    options = ["--in", tmp_path / "t.txt", "--model", directory, "--out", tmp_path / "v.parquet", "--threads", 1]
    code, out, err = albert("embed", *options, "--json")
    assert code == 0, err
    said = "--pooling weighted, --normalize (before --dims), --max-length 64, --dims 6, --prompt passage"
    assert f"{directory}: {said} as its Sentence-Transformers files say; the options override them" in err
    assert "after the pooling Dense 16 -> 8 Tanh" in err
    report = json.loads(out)
    assert report["settings_of_the_model"] == ["pooling", "normalize", "max_length", "dims", "prompt"]
    wanted = {"prompt": "passage", "prompt_text": "text: ", "prompt_tokens_not_pooled": 6, "dims": 6}
    assert report["settings"] | wanted == report["settings"]
    table = pq.read_table(tmp_path / "v.parquet")
    facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (facts["albert.prompt"], facts["albert.normalize"], facts["albert.dims"]) == ("passage", "before", "6")
    assert facts["albert.settings_of_the_model"] == '["pooling", "normalize", "max_length", "dims", "prompt"]'
    found = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.abs(found - encoded(model)).max() < 1e-5
    assert table["empty"].to_pylist() == [False, True, False, False, False]
    code, out, _ = albert("embed", *options, "--force", "--prompt", "query", "--normalize", "--dims", 8)
    assert (code, "made by   pooling weighted, Dense 16 -> 8 Tanh, of length 1, prompt query" in out) == (0, True)
    found = np.array(pq.read_table(tmp_path / "v.parquet")["embedding"].to_pylist(), np.float32)
    assert np.abs(found - encoded(model, prompt_name="query", truncate_dim=8)).max() < 1e-5
    assert (
        "pooling weighted, Dense 16 -> 8 Tanh, vectors of length 1, the first 6 numbers of 8"
        in (albert("inspect", directory)[1])
    )


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (["--prompt", "query"], "prompt is query, was passage"),
        (["--prompt", "none"], "prompt is none, was passage"),
        (["--pooling", "mean"], "pooling is mean, was weighted"),
        (["--no-normalize"], "normalize is false, was before"),
        (["--dims", "7"], "dims is 7, was 6"),
        ("text", 'prompt text is say: , was text: '),
        ("weights", "modules sha256 is "),
        ("included", "prompt tokens not pooled is 0, was 6"),
    ],
)  # fmt: skip
def test_a_run_is_resumed_with_the_same_settings_alone(prompted, refused, albert, tmp_path, changed, fault):
    _, directory = prompted
    (tmp_path / "t.txt").write_text("a\nb\n")
    options = ["--in", tmp_path / "t.txt", "--model", directory, "--out", tmp_path / "v.parquet", "--threads", 1]
    assert albert("embed", *options)[0] == 0
    code, out, _ = albert("embed", *options, "--resume", "--prompt", "passage")
    assert (code, "2 were done before" in out) == (0, True)
    if changed == "text":
        change(directory, MODEL, prompts={"passage": "say: "})
    elif changed == "included":
        change(directory, POOLING, include_prompt=True)
    elif changed == "weights":
        from safetensors.torch import load_file, save_file

        weights = load_file(directory / "2_Dense/model.safetensors")
        save_file({name: value + 1 for name, value in weights.items()}, directory / "2_Dense/model.safetensors")
    code, _, err = albert("embed", *options, "--resume", *(changed if isinstance(changed, list) else []))
    assert code == 1
    assert fault in err


def test_shards_workers_and_layers_compute_as_the_model_says(prompted, albert, tmp_path):
    import pickle

    from albert_cli.embedding.embedder import Plan
    from albert_cli.registry.resolve import resolve

    model, directory = prompted
    expected = encoded(model)
    plan = pickle.loads(pickle.dumps(Plan.of(resolve(directory), device="cpu")))
    assert np.abs(Embedder(plan).embed(TEXTS) - expected).max() < 1e-5
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS))
    options = ["--in", tmp_path / "t.jsonl", "--model", directory, "--out", tmp_path / "v.parquet", "--threads", 1]
    for shard in ("0/2", "1/2"):
        assert albert("embed", *options, "--shard", shard)[0] == 0
    assert albert("embed", "--merge", "--in", tmp_path / "v-*.parquet", "--out", tmp_path / "all.parquet")[0] == 0
    found = np.array(pq.read_table(tmp_path / "all.parquet")["embedding"].to_pylist(), np.float32)
    assert np.abs(found - expected).max() < 1e-5
    layers = Embedder.from_pretrained(str(directory), Settings(layers=None), threads=1).embed(TEXTS)
    assert layers.shape == (3, 5, 6)
    assert np.abs(layers[-1] - expected).max() < 1e-5
    encoder = model[0].model.encoder
    every = encoder.layer
    encoder.layer = every[:1]
    first = encoded(model)
    encoder.layer = every
    assert np.abs(layers[1] - first).max() < 1e-5


def test_windows_of_a_long_text_are_pooled_as_one(encoders, tmp_path):
    """Of one window that is the vector without windows; of several, the tokens of all."""
    library(encoders["bert"], tmp_path / "st", pooling(POOLINGS), prompts={"query": QUERY})
    change(tmp_path / "st", POOLING, include_prompt=False)
    whole = vectors(tmp_path / "st", prompt="query", on_truncate="window")
    assert np.abs(whole - vectors(tmp_path / "st", prompt="query")).max() < 1e-5
    how = {"max_length": 12, "on_truncate": "window", "prompt": "query"}
    found = vectors(tmp_path / "st", [TEXTS[2]], **how)[0]
    every = Embedder.from_pretrained(str(tmp_path / "st"), Settings(pooling="tokens", **how), threads=1)
    parts = every.tokenize([TEXTS[2]])
    assert len(parts.windows) > 2
    tokens = every.vectors(parts)[0][len(["[CLS]", "a", "##s", "##k", ":"]) :]
    by_mode = dict(zip(POOLINGS, np.split(found, 6), strict=True))
    assert np.abs(by_mode["mean"] - tokens.mean(0)).max() < 1e-5
    assert np.abs(by_mode["mean_sqrt_len_tokens"] - tokens.sum(0) / np.sqrt(len(tokens))).max() < 1e-5
    assert np.abs(by_mode["max"] - tokens.max(0)).max() < 1e-5


def test_tokens_lie_in_the_text_and_not_in_its_prompt(prompted, albert, tmp_path):
    _, directory = prompted
    (tmp_path / "t.txt").write_text("a cat\n")
    options = ["--pooling", "tokens", "--in", tmp_path / "t.txt", "--model", directory, "--out", tmp_path / "v.parquet"]
    assert albert("embed", *options, "--dims", 16)[0] == 0
    row = pq.read_table(tmp_path / "v.parquet").to_pylist()[0]
    assert row["pieces"] == ["[CLS]", "t", "##e", "##x", "##t", ":", "a", "c", "##a", "##t", "[SEP]"]
    spans = list(zip(row["starts"], row["ends"], strict=True))
    assert spans == [(0, 0)] * 6 + [(0, 1), (2, 3), (3, 4), (4, 5), (0, 0)]


def test_similarity_takes_prompts_and_layers(prompted, albert, tmp_path, refused):
    model, directory = prompted
    texts = TEXTS[2:]
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text in texts))
    code, out, err = albert("similarity", *texts, "--model", directory, "--json", "--prompt", "query")
    assert code == 0, err
    asked, told = encoded(model, texts, prompt_name="query"), encoded(model, texts)
    assert np.abs(np.array(json.loads(out)["cosines"]) - cosines(asked, asked)).max() < 1e-5
    options = ["--in", tmp_path / "t.txt", "--model", directory, "--out", tmp_path / "v.parquet", "--keep-text"]
    assert albert("embed", *options)[0] == 0
    for prompt, wanted in ([], told), (["--prompt", "query"], asked):
        code, out, err = albert("similarity", *texts, tmp_path / "v.parquet", "--json", *prompt)
        assert code == 0, err
        assert np.abs(np.array(json.loads(out)["cosines"]) - cosines(wanted, told)).max() < 1e-5
    change(directory, MODEL, prompts={"passage": "say: "})
    fault = refused("similarity", "a", tmp_path / "v.parquet")
    assert fault == (
        f"{tmp_path / 'v.parquet'}: the model's Sentence-Transformers files are not those it was made with "
        "(prompt text was 'text: ', is 'say: '); embed it again"
    )


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_a_prompt_that_there_is_not(prompted, letter_model):
    _, directory = prompted
    with pytest.raises(
        EmbeddingError,
        match=r"^--prompt quer: its prompts are query, passage; 'none' stands for no prompt; did you mean 'query'\?$",
    ):
        vectors(directory, prompt="quer")
    none = r"^--prompt query: the model has no prompts; 'none' stands for no prompt$"
    with pytest.raises(EmbeddingError, match=none):
        vectors(letter_model, prompt="query")
    assert np.array_equal(vectors(letter_model, prompt="none"), vectors(letter_model))


def test_an_empty_prompt_is_told(prompted, albert, tmp_path):
    """Sentence-transformers has `query` and `document`, empty, in every model."""
    _, directory = prompted
    change(directory, MODEL, prompts={"query": "", "passage": "text: "})
    said = [f"prompt '{name}' is empty: nothing stands before the texts" for name in ("query", "document")]
    for name, line in zip(("query", "document"), said, strict=True):
        code, out, err = albert("similarity", *TEXTS[2:], "--model", directory, "--json", "--prompt", name)
        assert (code, line in " ".join(err.split())) == (0, True), err
        assert json.loads(out) == json.loads(
            albert("similarity", *TEXTS[2:], "--model", directory, "--json", "--prompt", "none")[1]
        )
    (tmp_path / "t.txt").write_text("one\n")
    options = ["--in", tmp_path / "t.txt", "--model", directory, "--out", tmp_path / "v.parquet"]
    assert said[0] in " ".join(albert("embed", *options, "--prompt", "query")[2].split())
    for prompt in ([], ["--prompt", "passage"], ["--prompt", "none"]):
        code, _, err = albert("embed", *options, *prompt, "--force")
        assert (code, "is empty" in err) == (0, False), err


def test_options_override_and_must_fit(prompted):
    model, directory = prompted
    with pytest.raises(EmbeddingError, match=r"^--dims 9: the model's vectors have 1 to 8 numbers$"):
        vectors(directory, dims=9)
    fault = r"2_Dense/config\.json: in_features is 16, but the vectors before it have 32 numbers"
    with pytest.raises(ConfigError, match=fault):
        vectors(directory, pooling="mean+max")
    model[1].pooling_mode = "lasttoken"
    model[3] = torch.nn.Identity()
    found = vectors(directory, pooling="lasttoken", normalize=False, dims=8, prompt="none")
    assert np.abs(found - encoded(model, prompt="", truncate_dim=8)).max() < 1e-5


def test_joined_poolings_of_any_model(letter_model):
    """The names are ours or the library's; each part is what its pooling gives alone."""
    joined = vectors(letter_model, pooling="pooler+weightedmean+mean")
    alone = [vectors(letter_model, pooling=mode) for mode in ("pooler", "weighted", "mean")]
    assert np.abs(joined - np.concatenate(alone, 1)).max() < 1e-6
    with pytest.raises(EmbeddingError, match="pooling 'tokens' is not one of mean, cls"):
        vectors(letter_model, pooling="mean+tokens")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"activation_function": "my.Act"}, "activation_function is 'my.Act'; supported are CELU, ELU, GELU, "),
        ({"activation_function": "torch.nn.Softmax"}, "activation_function is 'torch.nn.Softmax'; supported"),
        ({"in_features": "16"}, "in_features is '16', not a whole number from 1 up"),
        ({"in_features": 12}, "in_features is 12, but the vectors before it have 16 numbers"),
        ({"use_residual": 1}, "use_residual is 1, not true or false"),
        ({"rank": 4}, "'rank' is no setting known here"),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings': only vectors of texts"),
    ],
)
def test_dense_layers_that_are_refused(prompted, refused, values, fault):
    _, directory = prompted
    change(directory, DENSE, **values)
    assert f"{directory}: {DENSE}: {fault}" in refused("similarity", "a", "b", "--model", directory)


def test_weights_of_a_dense_layer_that_do_not_fit(prompted, refused):
    from safetensors.torch import save_file

    _, directory = prompted
    weights = directory / "2_Dense/model.safetensors"
    change(directory, DENSE, bias=False)
    with pytest.raises(
        CorruptError, match=r"model\.safetensors holds linear\.bias \[8\], linear\.weight \[8, 16\], and "
    ):
        vectors(directory)
    change(directory, DENSE, bias=True)
    save_file({"linear.weight": torch.zeros(8, 16), "linear.bias": torch.zeros(8)}, weights)
    assert np.abs(vectors(directory)).max() == 0
    torch.save(
        {"linear.weight": torch.zeros(8, 16), "linear.bias": torch.ones(8)}, weights.with_name("pytorch_model.bin")
    )
    weights.unlink()
    assert np.abs(vectors(directory, normalize=False, dims=8) - np.tanh(1)).max() < 1e-6
    weights.with_name("pytorch_model.bin").write_bytes(b"PK nothing")
    assert "2_Dense/pytorch_model.bin is no sound file of weights" in refused(
        "similarity", "a", "b", "--model", directory
    )
    weights.with_name("pytorch_model.bin").unlink()
    fault = refused("similarity", "a", "b", "--model", directory)
    assert fault == f"{directory}: 2_Dense: no weights in it; model.safetensors or pytorch_model.bin holds them"


def test_modules_that_stand_before_the_pooling(prompted, refused):
    _, directory = prompted
    modules = json.loads((directory / MODULES).read_text())
    (directory / MODULES).write_text(json.dumps([modules[0], modules[2], modules[1]]))
    fault = refused("similarity", "a", "b", "--model", directory)
    assert f"{MODULES}: the modules are Transformer, Dense, Pooling; supported are Transformer, Pooling, and" in fault
