"""Sentence-Transformers directories: vectors against the library itself, what is refused, what convert keeps."""

import dataclasses
import json
import shutil
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from converters import convert
from converters.errors import ConfigError
from converters.sentence_keys import DENSE, MODEL, MODULES, NORMALIZE, POOLING, SENTENCE_KEYS, TRANSFORMER

# Loading models through the libraries leaves warnings of theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog, the end.", "Who Are You? 42!", "b"]
FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def write(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))


def change(directory, file, **values):
    """Set keys of a JSON file; ... removes one."""
    path = directory / file
    data = json.loads(path.read_text()) if path.exists() else {}
    write(path, {key: value for key, value in (data | values).items() if value is not ...})


def oracle(directory, texts=TEXTS):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(directory), device="cpu").encode(texts, show_progress_bar=False)


@pytest.fixture(scope="module")
def cased(letter_model, tmp_path_factory):
    """The letters, where capitals stay and so are unknown."""
    checkpoint = convert.load(letter_model)
    target = tmp_path_factory.mktemp("cased") / "hf"
    files = dataclasses.replace(checkpoint.tokenizer, lowercase=False)
    convert.save(dataclasses.replace(checkpoint, tokenizer=files), target)
    return target


def saved(base, target, *modules, **options):
    """A model as the installed library saves it: the encoder, then `modules`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.transformer import Transformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(modules=[Transformer(str(base)), *modules], device="cpu", **options)
        model.save(str(target), create_model_card=False)
    if not (target / "spiece.model").exists():
        shutil.copy(base / "spiece.model", target)
    return target


@pytest.fixture(scope="module")
def plain(letter_model, tmp_path_factory):
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    return saved(letter_model, tmp_path_factory.mktemp("plain") / "st", Pooling(16, "mean"))


@pytest.fixture
def model(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "st")


def older(directory, *, flags=("mean_tokens",), normalize=False, length=20, layout=""):
    """Make a directory what versions 0.3 to 5 wrote: other class names, flags for pooling, the length beside them."""
    shutil.rmtree(directory / "1_Pooling")
    (directory / MODEL).unlink()
    modules = [
        (layout, "Transformer"),
        ("1_Pooling", "Pooling"),
        *([("2_Normalize", "Normalize")] if normalize else []),
    ]
    write(
        directory / MODULES,
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(modules)
        ],
    )
    known = {f"pooling_mode_{flag}": flag in flags for flag in FLAGS[:4]}
    write(directory / POOLING, {"word_embedding_dimension": 16, **known} | {f"pooling_mode_{f}": True for f in flags})
    write(directory / TRANSFORMER, {"max_seq_length": length, "do_lower_case": False})
    if layout:
        (directory / layout).mkdir()
        for file in [entry for entry in directory.iterdir() if entry.is_file() and entry.name != MODULES]:
            file.rename(directory / layout / file.name)
    return directory


@pytest.fixture
def embedded(albert, tmp_path):
    """The vectors of TEXTS by `albert embed`, what stderr says, and the metadata."""
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))

    def run(directory, *arguments):
        out = tmp_path / "vectors.parquet"
        options = ["--model", directory, "--out", out, "--threads", "1", "--force", *arguments]
        code, _, err = albert("embed", "--in", tmp_path / "texts.txt", *options)
        assert code == 0, err
        table = pq.read_table(out)
        facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        return np.array(table["embedding"].to_pylist(), np.float32), err, facts

    return run


@pytest.mark.parametrize(
    ("pooling", "normalize", "length"),
    [
        ("mean", False, None),
        ("mean", True, 9),
        ("cls", False, 20),
        ("cls", True, None),
        ("max", False, 9),
        ("max", True, None),
    ],
)
def test_vectors_are_those_of_the_installed_library(letter_model, tmp_path, embedded, pooling, normalize, length):
    from sentence_transformers.base.modules.normalize import Normalize
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    modules = [Pooling(16, pooling), *([Normalize()] if normalize else [])]
    directory = saved(letter_model, tmp_path / "st", *modules)
    if length:
        change(directory, "tokenizer_config.json", model_max_length=length)
    vectors, err, facts = embedded(directory)
    assert np.abs(vectors - oracle(directory)).max() < 1e-5
    switch = "--normalize" if normalize else "--no-normalize"
    said = f"--pooling {pooling}, {switch}, --max-length {length or 64}"
    assert f"albert: {directory}: {said} as its Sentence-Transformers files say; the options override them\n" in err
    assert (facts["albert.pooling"], facts["albert.normalize"]) == (pooling, str(normalize).lower())
    assert facts["albert.max_length"] == str(length or 64)
    assert facts["albert.settings_of_the_model"] == '["pooling", "normalize", "max_length"]'


@pytest.mark.parametrize(
    ("flags", "normalize", "layout"),
    [
        (("mean_tokens",), False, "0_Transformer"),
        (("cls_token",), True, ""),
        (("max_tokens",), True, "0_Transformer"),
        ((), False, ""),
    ],
)
def test_vectors_of_older_directories(model, embedded, albert, tmp_path, flags, normalize, layout):
    older(model, flags=flags, normalize=normalize, layout=layout)
    vectors, _, _ = embedded(model)
    assert np.abs(vectors - oracle(model)).max() < 1e-5
    for form in ("safetensors", "torch"):
        target = tmp_path / form
        assert albert("convert", model, target, "--to", form)[0] == 0
        assert np.abs(oracle(target) - vectors).max() < 1e-5
        assert np.abs(embedded(target)[0] - vectors).max() < 1e-5
        assert json.loads((target / MODULES).read_text())[0]["path"] == ""


def test_lower_casing_of_the_model(cased, tmp_path, embedded):
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    directory = saved(cased, tmp_path / "st", Pooling(16, "mean"))
    capitals = oracle(directory)
    change(directory, TRANSFORMER, do_lower_case=True)
    vectors, err, facts = embedded(directory)
    assert np.abs(vectors - oracle(directory)).max() < 1e-5
    assert np.abs(vectors[3] - capitals[3]).max() > 1e-2
    assert "--uncased as its Sentence-Transformers files say" in err
    assert facts["albert.lower_case"] == "true"
    vectors, err, facts = embedded(directory, "--cased")
    assert np.abs(vectors - capitals).max() < 1e-5
    assert "--uncased" not in err
    assert facts["albert.lower_case"] == "false"


def test_options_override_the_model(model, embedded, letter_model):
    older(model, flags=("cls_token",), normalize=True)
    given = ["--pooling", "mean", "--no-normalize", "--max-length", "64"]
    vectors, err, facts = embedded(model, *given)
    assert np.abs(vectors - embedded(letter_model, "--max-length", "64")[0]).max() < 1e-6
    assert "Sentence-Transformers" not in err
    assert "albert.settings_of_the_model" not in facts
    _, err, facts = embedded(model, "--pooling", "mean")
    assert f"{model}: --normalize, --max-length 20 as its" in err
    assert facts["albert.settings_of_the_model"] == '["normalize", "max_length"]'
    # A pooling that is not supported does not matter where another is asked for.
    change(model, POOLING, pooling_mode="median")
    assert np.abs(embedded(model, *given)[0] - vectors).max() == 0


def test_shards_and_a_resume_take_the_same_settings(model, embedded, albert, tmp_path):
    older(model, flags=("cls_token",), normalize=True)
    vectors, _, _ = embedded(model)
    options = ["--in", tmp_path / "texts.txt", "--model", model, "--out", tmp_path / "s.parquet", "--threads", "1"]
    own = ["--pooling", "cls", "--normalize", "--max-length", "20"]
    assert albert("embed", *options, "--shard", "0/2")[0] == 0
    assert albert("embed", *options, "--shard", "1/2", *own)[0] == 0
    code, _, err = albert("embed", "--merge", "--in", tmp_path / "s-*.parquet", "--out", tmp_path / "all.parquet")
    assert code == 0, err
    found = np.array(pq.read_table(tmp_path / "all.parquet")["embedding"].to_pylist(), np.float32)
    assert np.abs(found - vectors).max() < 1e-6
    # Finished already, whether the settings are the model's or were given.
    code, out, _ = albert(
        "embed", *options[:-4], "--threads", "1", "--out", tmp_path / "vectors.parquet", "--resume", *own
    )
    assert (code, "5 were done before" in out) == (0, True)


def test_workers_compute_as_the_model_says(model, embedded):
    import pickle

    from albert_cli.embedding.embedder import Embedder, Plan
    from albert_cli.registry.resolve import resolve

    older(model, flags=("max_tokens",), normalize=True)
    plan = pickle.loads(pickle.dumps(Plan.of(resolve(model), device="cpu")))
    assert np.abs(Embedder(plan).embed(TEXTS) - embedded(model)[0]).max() < 1e-6


def test_similarity_takes_the_settings_of_the_model(model, embedded, albert):
    older(model, flags=("max_tokens",), length=9)
    code, out, err = albert("similarity", *TEXTS[2:], "--model", model, "--json")
    assert code == 0, err
    assert f"{model}: --pooling max, --no-normalize, --max-length 9 as its" in err
    vectors = oracle(model, TEXTS[2:])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(np.array(json.loads(out)["cosines"]) - unit @ unit.T).max() < 1e-5
    change(model, MODEL, similarity_fn_name="dot")
    code, _, err = albert("similarity", "a", "b", "--model", model)
    assert (code, "similarity_fn_name is 'dot'" in err) == (1, True)
    embedded(model)  # which compares nothing
    write(model / MODULES, [*json.loads((model / MODULES).read_text()), module("Normalize", "2_Normalize", 2)])
    assert albert("similarity", "a", "b", "--model", model)[0] == 0


def module(kind, path, number=1):
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def test_inspect_shows_the_settings(model, albert):
    older(model, flags=("cls_token",), normalize=True)
    said = "pooling cls, vectors of length 1, at most 20 tokens"
    assert f"sentences     {said}\n" in albert("inspect", model)[1]
    assert json.loads(albert("inspect", model, "--json")[1])["sentence_transformers"] == said


# --- refused


@pytest.mark.parametrize(
    "key", [key for key in SENTENCE_KEYS if key.treatment == "refused" and key.key], ids=lambda key: key.key
)
def test_every_refused_key_is_refused_by_name(model, refused, key):
    file = key.file
    if file in (MODULES, NORMALIZE, DENSE):
        last = "Dense" if file == DENSE else "Normalize"
        modules = [module("Transformer", "", 0), module("Pooling", "1_Pooling"), module(last, f"2_{last}", 2)]
        write(model / MODULES, [one | ({key.key: "other"} if key.file == MODULES else {}) for one in modules])
    if key.file != MODULES:
        change(model, file, **{key.key: "other"})
    command = ["similarity", "a", "b"] if key.key == "similarity_fn_name" else ["embed", "--in", model / MODULES]
    if command[0] == "embed":
        command += ["--input-format", "txt", "--out", model.parent / "x.parquet"]
    assert f"{file}: {key.key} is 'other': {key.note}" in refused(*command, "--model", model)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("sentence_transformers.models.WeightedLayerPooling", "'WeightedLayerPooling'"),
        ("sentence_transformers.sentence_transformer.modules.cnn.CNN", "'CNN'"),
        ("sentence_transformers.models.LSTM", "'LSTM'"),
        ("custom_st.Pooling", "'custom_st.Pooling'"),
    ],
)
def test_other_modules_are_refused_by_name(model, refused, tmp_path, kind, name):
    modules = json.loads((model / MODULES).read_text())
    write(model / MODULES, [*modules, {"idx": 2, "name": "2", "path": "2_Other", "type": kind}])
    fault = refused("similarity", "a", "b", "--model", model)
    supported = "supported are Transformer, Pooling, and after them Dense, LayerNorm, Dropout and Normalize"
    assert fault == f"{model}: modules.json: {name}: not supported; {supported}"


@pytest.mark.parametrize(
    "kinds", [["Transformer"], ["Transformer", "Normalize", "Pooling"], ["Pooling", "Transformer"], ["Transformer"] * 2]
)
def test_an_order_of_modules_that_is_not_known(model, refused, kinds):
    write(model / MODULES, [module(kind, f"{n}_{kind}" if n else "", n) for n, kind in enumerate(kinds)])
    fault = refused("similarity", "a", "b", "--model", model)
    assert f"{model}: modules.json: the modules are {', '.join(kinds)}; supported are Transformer" in fault


@pytest.mark.parametrize(
    ("file", "values", "fault"),
    [
        (TRANSFORMER, {"max_seq_length": "20"}, "max_seq_length is '20', not a whole number from 3 up"),
        (TRANSFORMER, {"max_seq_length": 2}, "max_seq_length is 2, not a whole number from 3 up"),
        (TRANSFORMER, {"do_lower_case": "no"}, "do_lower_case is 'no', not true or false"),
        (TRANSFORMER, {"max_length": 7}, "'max_length' is no setting known here"),
        (POOLING, {"pooling_mode": 3}, "pooling_mode is 3, not a name"),
        (POOLING, {"pooling_mode": ["mean", "median"]}, "pooling_mode median is not supported; --pooling overrides it"),
        (POOLING, {"pooling": "cls"}, "'pooling' is no setting known here"),
        (POOLING, {"pooling_mode": ..., "pooling_mode_cls_token": 1}, "pooling_mode_cls_token is 1, not true or false"),
    ],
)
def test_settings_that_are_none(model, refused, file, values, fault):
    change(model, file, **values)
    assert refused("similarity", "a", "b", "--model", model) == f"{model}: {file}: {fault}"


def test_all_faults_at_once(model, refused):
    change(model, POOLING, pooling_mode="median", include_prompt="no")
    change(model, MODEL, prompts={"passage": "passage: "}, default_prompt_name="title", truncate_dim=0)
    fault = refused("similarity", "a", "b", "--model", model)
    for said in (
        "1_Pooling/config.json: include_prompt is 'no', not true or false",
        "1_Pooling/config.json: pooling_mode median is not supported; --pooling overrides it",
        f"{MODEL}: default_prompt_name is 'title', none of query, document, passage",
        f"{MODEL}: truncate_dim is 0, not a whole number from 1 up",
    ):
        assert said in fault
    change(model, POOLING, pooling_mode="mean", include_prompt=True)
    change(model, MODEL, prompts=["a"], default_prompt_name=..., truncate_dim=...)
    assert refused("similarity", "a", "b", "--model", model) == f"{model}: {MODEL}: prompts is ['a'], not texts by name"


def test_empty_prompts_are_no_prompts(model, embedded):
    change(model, MODEL, prompts={"query": "", "document": None}, default_prompt_name="query")
    assert np.abs(embedded(model)[0] - oracle(model)).max() < 1e-5


@pytest.mark.parametrize("path", ["../elsewhere", "..", "/etc", "a/b", "a\\b", "."])
def test_a_path_that_leads_out_of_the_directory(model, refused, path, tmp_path):
    shutil.copytree(model, tmp_path / "elsewhere")
    write(model / MODULES, [module("Transformer", path, 0), module("Pooling", "1_Pooling")])
    fault = f"{model}: modules.json: path {path!r} is not the name of a directory in this one"
    assert refused("inspect", model) == fault
    (model / "config.json").unlink()
    assert refused("inspect", model) == fault


def test_the_encoder_is_the_one_that_the_modules_name(model, letter_model, embedded, tmp_path):
    older(model, layout="0_Transformer")
    vectors, _, _ = embedded(model)
    for file in ("config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(letter_model / file, model)
    write(model / "model.safetensors", {})  # damaged, and read by nobody
    assert np.abs(embedded(model)[0] - vectors).max() == 0


def test_a_list_of_other_modules_is_no_sentence_model(tmp_path, letter_model, albert):
    write(tmp_path / "x" / MODULES, {"name": "app"})
    assert albert("convert", letter_model, tmp_path / "x")[0] == 1
    assert albert("convert", letter_model, tmp_path / "x", "--force")[0] == 0


@pytest.mark.parametrize("content", ["{}", "[]", "3", '["a"]', "[{"])
def test_a_list_of_modules_that_is_none(model, refused, content):
    (model / MODULES).write_text(content)
    assert MODULES in refused("inspect", model)


def test_modules_beyond_number(model, refused):
    (model / MODULES).write_text(json.dumps([module("Normalize", "", number) for number in range(100_000)]))
    assert refused("inspect", model).endswith("modules.json lists 100000 modules; at most 32 are supported")


def test_a_model_that_is_no_transformer(tmp_path, refused):
    write(tmp_path / "st" / MODULES, [module("StaticEmbedding", "", 0)])
    (tmp_path / "st/model.safetensors").write_bytes(b"")
    fault = refused("embed", "--in", tmp_path / "st" / MODULES, "--model", tmp_path / "st", "--out", tmp_path / "x.npy")
    assert "modules.json: 'sentence_transformers.models.StaticEmbedding' is not supported" in fault


def test_a_pooling_without_its_file(model, refused):
    shutil.rmtree(model / "1_Pooling")
    assert refused("similarity", "a", "b", "--model", model) == f"{model}: 1_Pooling/config.json is missing"


# --- convert


def test_convert_keeps_the_files_or_names_them(model, albert, tmp_path):
    older(model, flags=("cls_token",), normalize=True)
    files = [MODULES, TRANSFORMER, POOLING]
    assert albert("convert", model, tmp_path / "hf")[0] == 0
    for name in files:
        assert (tmp_path / "hf" / name).read_bytes() == (model / name).read_bytes()
    code, out, _ = albert("convert", model, tmp_path / "x.npz")
    assert code == 0
    assert f"dropped    3 Sentence-Transformers files ({', '.join(files)})\n" in out
    assert convert.load(tmp_path / "x.npz").sentence is None
    names = [item["name"] for item in json.loads(albert("diff", model, tmp_path / "x.npz", "--json")[1])["differences"]]
    assert set(files) <= set(names)


def test_convert_carries_modules_that_embed_refuses(letter_model, tmp_path, albert, refused):
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling
    from sentence_transformers.sentence_transformer.modules.weighted_layer_pooling import WeightedLayerPooling

    directory = saved(letter_model, tmp_path / "st", WeightedLayerPooling(16, 2, 1), Pooling(16, "mean"))
    assert "'WeightedLayerPooling': not supported" in refused("similarity", "a", "b", "--model", directory)
    assert albert("convert", directory, tmp_path / "out", "--to", "torch")[0] == 0
    assert np.abs(oracle(tmp_path / "out") - oracle(directory)).max() < 1e-6


def test_a_replaced_model_leaves_no_settings_behind(model, letter_model, albert, tmp_path):
    assert albert("convert", model, tmp_path / "out")[0] == 0
    (tmp_path / "out/1_Pooling/notes.txt").write_text("mine")
    (tmp_path / "out/2_experiments").mkdir()
    (tmp_path / "out/2_experiments/config.json").write_text("mine too")
    code, _, err = albert("convert", letter_model, tmp_path / "out", "--force")
    assert code == 0, err
    assert not (tmp_path / "out" / MODULES).exists()
    assert not (tmp_path / "out" / POOLING).exists()
    assert (tmp_path / "out/1_Pooling/notes.txt").read_text() == "mine"
    assert (tmp_path / "out/2_experiments/config.json").read_text() == "mine too"


def test_the_old_layout_is_no_target_of_itself(model, refused):
    older(model, layout="0_Transformer")
    for target in (model, model / "0_Transformer"):
        assert "the target is the source itself" in refused("convert", model, target, "--force")


def test_an_archive_of_a_sentence_model(model, tmp_path, embedded, albert):
    older(model, flags=("cls_token",), normalize=True, layout="0_Transformer")
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path, "st")
    assert np.abs(embedded(archive)[0] - embedded(model)[0]).max() == 0
    change(model, POOLING, pooling_mode="median")
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path, "st")
    code, _, err = albert("similarity", "a", "b", "--model", archive)
    assert (code, err.startswith(f"albert: {archive}")) == (1, True), err


def test_settings_in_python(model):
    config = convert.load(model).config
    files = convert.load(model).sentence
    assert files.settings(config, "here").describe() == "pooling mean, at most 64 tokens"
    change(model, POOLING, include_prompt="no")
    with pytest.raises(ConfigError, match=r"^here: 1_Pooling/config\.json: include_prompt is 'no', not true or false"):
        convert.load(model).sentence.settings(config, "here")
