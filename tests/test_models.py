"""Which model a name means: a path, a published name, a repository of the Hub, or none."""

import fnmatch
import json
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors
from typer.testing import CliRunner

from albert_cli.main import app
from albert_cli.registry.builtin import BuiltInModelNotice, built_in
from albert_cli.registry.resolve import resolve
from converters.errors import AlbertError

COMMIT = "8e2f239c5f8a2c0f253781ca60135db913e5c80c"


def response(status):
    """As much of an HTTP response as the Hub's exceptions look at."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.fixture
def hub(monkeypatch, tmp_path, letter_model):
    """The Hub as `snapshot_download` shows it: one repository, in a cache laid out as the real one."""
    asked = []
    snapshot = tmp_path / "models--albert--albert-base-v2/snapshots" / COMMIT

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, allow_patterns))
        if repo_id != "albert/albert-base-v2":
            raise errors.RepositoryNotFoundError("404", response=response(404))
        if not snapshot.exists():
            shutil.copytree(letter_model, snapshot)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("name", ["albert-base-v2", "albert/albert-base-v2"])
def test_a_published_name_is_fetched_with_its_revision(hub, name):
    model = resolve(name)
    assert (model.name, model.revision, model.path.name) == ("albert/albert-base-v2", COMMIT, COMMIT)
    repository, revision, patterns = hub[0]
    assert (repository, revision) == ("albert/albert-base-v2", None)
    assert "config.json" in patterns
    assert "*.safetensors" in patterns
    assert not any(pattern.endswith((".bin", ".h5", ".msgpack", ".ot")) or pattern == "*" for pattern in patterns)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert_uncased_L-2_H-128_A-2", "google/bert_uncased_L-2_H-128_A-2"),
        ("electra-small-generator@main", "google/electra-small-generator"),
        ("roberta-base", "FacebookAI/roberta-base"),
        ("distilroberta-base", "distilbert/distilroberta-base"),
        ("spanbert-base-cased", "SpanBERT/spanbert-base-cased"),
    ],
)
def test_names_of_every_family_need_no_owner(hub, name, repository):
    with pytest.raises(AlbertError, match="shows no such model"):
        resolve(name)
    asked, _, patterns = hub[0]
    assert asked == repository
    assert {"vocab.txt", "vocab.json", "merges.txt", "tokenizer.json"} <= set(patterns)


def test_a_misspelt_name_of_another_family(hub, albert):
    code, _, err = albert("inspect", "roberta-bse")
    assert (code, hub) == (1, [])
    assert err == (
        "albert: roberta-bse: no such file or directory here, and no published model; did you mean 'roberta-base'?\n"
    )


def test_a_revision_is_handed_on(hub):
    assert resolve("albert-base-v2@refs/pr/7").revision == COMMIT
    assert hub[0][:2] == ("albert/albert-base-v2", "refs/pr/7")


def test_a_path_goes_before_a_name(hub, tmp_path, monkeypatch, letter_model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "albert").mkdir()
    shutil.copytree(letter_model, tmp_path / "albert/albert-base-v2")
    assert resolve("albert/albert-base-v2").revision is None
    assert resolve(letter_model).path == letter_model
    assert not hub


def test_a_prefix_of_a_checkpoint_is_a_path(hub, shared_data):
    prefix = shared_data / "checkpoints/tf1-google/model.ckpt-best"
    assert resolve(prefix).load().config.hidden_size == 144
    assert not hub


def test_errors_name_the_repository(hub, tmp_path, albert):
    """And not the place of the cache: in whatever command the model is read."""
    snapshot = resolve("albert-base-v2").path
    (snapshot / "config.json").write_text("{")
    line = "Expecting property name enclosed in double quotes at line 1 column 2"
    line = f"albert: albert/albert-base-v2@{COMMIT[:12]}/config.json: is not JSON: {line}\n"
    for command in (("inspect",), ("convert", tmp_path / "x.npz")):
        code, _, err = albert(command[0], "albert-base-v2", *command[1:])
        assert (code, err) == (1, line)


def test_embed_writes_the_revision_down(hub, tmp_path):
    from albert_cli.embedding import parquet

    (tmp_path / "t.txt").write_text("a\n")
    arguments = ["embed", "--in", str(tmp_path / "t.txt"), "--model", "albert-base-v2", "--threads", "1"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    facts = parquet.read_metadata(tmp_path / "t.parquet")
    assert (facts["model"], facts["revision"]) == ("albert/albert-base-v2", COMMIT)


def test_tokenize_fetches_the_tokenizer_alone(hub):
    done = CliRunner().invoke(app, ["tokenize", "a b", "--model", "albert-base-v2", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)
    assert not any("safetensors" in pattern for pattern in hub[0][2])
    assert "spiece.model" in hub[0][2]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            lambda: errors.LocalEntryNotFoundError("offline"),
            (
                "nobody/nothing: no such file or directory here, not in the Hub's cache, and the Hugging Face Hub "
                "cannot be reached; go online once, or name a path"
            ),
        ),
        (
            lambda: errors.RepositoryNotFoundError("404", response=response(404)),
            "nobody/nothing: no such file or directory here, and the Hugging Face Hub shows no such model",
        ),
        (
            lambda: errors.GatedRepoError("403", response=response(403)),
            "nobody/nothing: the Hub asks for consent first; accept there, then `hf auth login`",
        ),
        (
            lambda: errors.RevisionNotFoundError("404", response=response(404)),
            "nobody/nothing: the Hub has no revision 'v9' of it",
        ),
        (
            lambda: errors.HfHubHTTPError("500 Server Error", response=response(500)),
            "nobody/nothing: the Hugging Face Hub answers 500 Server Error",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(monkeypatch, raised, message):
    def snapshot_download(*_, **__):
        raise raised()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(AlbertError) as error:
        resolve("nobody/nothing@v9")
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["./nothing", "nothing.npz", "/no/such/model", "nothing", "a/b.tar.gz", "a/b.bin"])
def test_what_can_only_be_a_path_is_not_asked_for(hub, name):
    with pytest.raises(AlbertError, match=r"no such file, directory or checkpoint"):
        resolve(name).load()
    assert not hub


def test_convert_inspect_and_diff_take_names(hub, tmp_path, albert, letter_model):
    code, out, err = albert("convert", "albert-base-v2", tmp_path / "x.npz")
    assert (code, err) == (0, "")
    name = f"albert/albert-base-v2@{COMMIT[:12]}"
    assert out.startswith(f"converted  {name} (safetensors) -> {tmp_path / 'x.npz'} (npz)\n")
    code, out, err = albert("inspect", "albert/albert-base-v2", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == name
    code, out, err = albert("diff", "albert-base-v2@main", tmp_path / "x.npz")
    assert (code, err) == (0, "")
    assert [asked[:2] for asked in hub] == [
        ("albert/albert-base-v2", None),
        ("albert/albert-base-v2", None),
        ("albert/albert-base-v2", "main"),
    ]
    code, out, err = albert("convert", letter_model, tmp_path / "y.npz", "--json")
    assert json.loads(out)["source"] == str(letter_model)
    assert len(hub) == 3


@pytest.mark.parametrize(("target", "form"), [("out.tfbson", "bson"), ("hf", "safetensors")])
@pytest.mark.parametrize("name", ["albert/albert-base-v2", "albert-base-v2", "built-in"])
def test_a_name_is_converted(hub, tmp_path, albert, name, target, form):
    code, out, _ = albert(
        "convert", name, tmp_path / target, "--json", *(["--dtype", "float32"] if form == "bson" else [])
    )
    assert code == 0
    report = json.loads(out)
    assert (report["source_format"], report["target_format"]) == ("safetensors", form)
    assert albert("inspect", tmp_path / target)[0] == 0
    assert len(hub) == (name != "built-in")


def test_an_older_repository_has_pickled_weights_only(hub, tmp_path, letter_model, monkeypatch):
    """They are asked for where there are no others, of the very same commit."""
    from converters import convert as converters_hub

    older = tmp_path / "older"
    converters_hub.convert(letter_model, older, target_as="torch")
    snapshot = tmp_path / "models--someone--older/snapshots" / COMMIT
    asked = []

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        asked.append((repo_id, revision))
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in older.iterdir():
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, snapshot)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("someone/older", tokenizer_only=True).path == snapshot
    assert asked == [("someone/older", None)]
    model = resolve("someone/older")
    assert asked[1:] == [("someone/older", None), ("someone/older", COMMIT)]
    checkpoint = model.load()
    assert (checkpoint.format, checkpoint.where) == ("torch", f"someone/older@{COMMIT[:12]}")


def test_a_name_that_leads_into_an_archive_is_a_path(hub, tmp_path, letter_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.make_archive("models", "zip", letter_model.parent, "hf")
    assert resolve("models.zip/hf").load().config.hidden_size == 16
    assert not hub


def test_no_model_is_the_built_in_one():
    with pytest.warns(BuiltInModelNotice, match=r"this is the small built-in one .*; name a big one with --model alb"):
        model = resolve(None)
    assert (model.path, model.name) == (built_in(), "built-in")
    assert resolve("built-in") == model


@pytest.mark.parametrize(
    "name",
    [
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "0_Transformer/pytorch_model.bin",
        "0_Transformer/spiece.model",
        "adapter_config.json",
    ],
)
def test_what_decides_the_vectors_is_fetched_too(hub, name):
    resolve("albert-base-v2")
    assert any(fnmatch.fnmatch(name, pattern) for pattern in hub[0][2])
