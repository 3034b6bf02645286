"""albert models: what can be named, without the network."""

import json
import shutil
import socket

import huggingface_hub
import pytest
from huggingface_hub import constants

from albert_cli.registry import builtin

COMMIT = "8e2f239c5f8a2c0f253781ca60135db913e5c80c"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing may look for the network."""

    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache, repository, source, commit=COMMIT, kind="models"):
    """A repository in the Hub's cache, laid out as `snapshot_download` does."""
    folder = cache / f"{kind}--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir(exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs/main").write_text(commit)
    for file in source.iterdir():
        shutil.copy(file, folder / "blobs" / f"{commit[:4]}{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/{commit[:4]}{file.name}")
    return snapshot


def listed(albert):
    code, out, err = albert("models", "--json")
    assert (code, err) == (0, "")
    return {entry["name"]: entry for entry in json.loads(out)}


def names_of(found, kind):
    return [name for name, entry in found.items() if entry["kind"] == kind]


def test_what_was_published_of_other_families(cache, albert):
    """Parameters as transformers counts them (RoBERTa's, ELECTRA's and SpanBERT's without the pooler they lack)."""
    found = listed(albert)
    facts = {name: (entry["family"], entry["parameters"], entry["licence"]) for name, entry in found.items()}
    assert facts["google-bert/bert-base-uncased"] == ("bert", 109_482_240, "Apache-2.0")
    assert facts["google-bert/bert-base-multilingual-cased"] == ("bert", 177_853_440, "Apache-2.0")
    assert facts["google/bert_uncased_L-4_H-512_A-8"] == ("bert", 28_763_648, "Apache-2.0")
    assert facts["SpanBERT/spanbert-large-cased"] == ("bert", 332_529_664, "CC-BY-NC-4.0")
    assert facts["FacebookAI/roberta-base"] == ("roberta", 124_055_040, "MIT")
    assert facts["distilbert/distilroberta-base"][:2] == ("roberta", 81_527_808)
    with_heads = {
        "google-bert/bert-base-uncased": 110_106_428,
        "google/electra-small-discriminator": 13_549_057,
        "google/electra-base-generator": 33_740_602,
        "FacebookAI/roberta-large": 355_412_057,
    }
    assert {name: found[name]["bytes"] for name in with_heads} == {n: 4 * count for n, count in with_heads.items()}
    assert found["cased_L-24_H-1024_A-16.zip"]["url"].endswith("/bert_models/2018_10_18/cased_L-24_H-1024_A-16.zip")
    assert len([name for name in names_of(found, "hub") if name.startswith("google/bert_uncased_L-")]) == 24
    assert all(entry["licence"] and entry["language"] for entry in found.values())


def test_what_was_published(cache, albert):
    found = listed(albert)
    assert not cache.exists()
    assert [name for name in names_of(found, "hub") if name.startswith("albert/")] == [
        f"albert/albert-{size}-v{version}" for version in (1, 2) for size in ("base", "large", "xlarge", "xxlarge")
    ]
    archives = [name for name in names_of(found, "archive") if found[name]["family"] == "albert"]
    assert archives == [
        f"albert_{size}_{version}.tar.gz"
        for version in ("v1", "v2", "zh")
        for size in ("base", "large", "xlarge", "xxlarge")
    ]
    assert all(found[name]["url"] == f"https://storage.googleapis.com/albert_models/{name}" for name in archives)
    assert {entry["language"] for name, entry in found.items() if "_zh" in name} == {"Chinese"}
    # The paper's table 1 has 12M, 18M, 60M and 235M; these are exact, and those of transformers.
    counts = [found[f"albert/albert-{size}-v2"]["parameters"] for size in ("base", "large", "xlarge", "xxlarge")]
    assert counts == [11_683_584, 17_683_968, 58_724_864, 222_595_584]
    assert all(entry["here"] is None for name, entry in found.items() if name != "built-in")


def test_the_counts_are_those_of_transformers(cache, albert):
    """Without the sentence-order head, which the Hub's models lack."""
    import torch
    from transformers import AlbertConfig, AlbertForPreTraining, AlbertModel

    found = listed(albert)["albert_base_zh.tar.gz"]
    config = AlbertConfig(
        vocab_size=21128, hidden_size=768, num_attention_heads=12, intermediate_size=3072, embedding_size=128
    )
    with torch.device("meta"):
        assert found["parameters"] == sum(weight.numel() for weight in AlbertModel(config).parameters())
        assert found["bytes"] == 4 * sum(weight.numel() for weight in AlbertForPreTraining(config).parameters()) - 4 * (
            2 * 768 + 2
        )


def test_the_cache_of_the_hub(cache, albert, letter_model, tmp_path):
    """Published models with their place, others by their config where it is that of a family here, nothing else."""
    other, broken = tmp_path / "other", tmp_path / "broken"
    for folder, text in ((other, '{"model_type": "xlnet"}'), (broken, "{")):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    put(cache, "albert/albert-base-v2", letter_model, "1" * 40)
    newest = put(cache, "albert/albert-base-v2", letter_model, COMMIT)
    mine = put(cache, "me/my-albert", letter_model)
    put(cache, "me/xlnet", other)
    put(cache, "me/broken", broken)
    put(cache, "me/texts", letter_model, kind="datasets")
    found = listed(albert)
    assert {name for name, entry in found.items() if entry["here"]} == {
        "albert/albert-base-v2",
        "built-in",
        "me/my-albert",
    }
    assert found["albert/albert-base-v2"]["here"] == str(newest)
    assert found["albert/albert-base-v2"]["parameters"] == 11_683_584
    size = sum(file.stat().st_size for file in letter_model.iterdir())
    assert found["albert/albert-base-v2"]["bytes_here"] == 2 * size
    assert (found["me/my-albert"]["here"], found["me/my-albert"]["bytes_here"]) == (str(mine), size)
    inspected = json.loads(albert("inspect", letter_model, "--json")[1])
    assert found["me/my-albert"]["parameters"] == inspected["parameters_without_heads"]


def test_the_table(cache, albert, letter_model):
    put(cache, "me/my-albert", letter_model)
    code, out, err = albert("models")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["albert/albert-base-v2", "English", "Apache-2.0", "11,683,584", "47"] in lines
    (mine,) = (line for line in lines if line[:1] == ["me/my-albert"])
    assert mine[2:] == ["0", "1"]  # megabytes of a tiny one and its tokenizer
    url = "https://storage.googleapis.com/albert_models/albert_xxlarge_zh.tar.gz"
    assert ["albert_xxlarge_zh.tar.gz", "Chinese", "Apache-2.0", "221,459,968", "888", url] in lines
    assert out.endswith("\nOf an archive, once downloaded: albert convert albert_base_v2.tar.gz out/\n")
    assert out.startswith("built-in model")


def test_the_built_in_model(cache, albert):
    entry = listed(albert)["built-in"]
    assert (entry["kind"], entry["here"]) == ("built-in", str(builtin.built_in()))
    assert entry["bytes_here"] < 9e6


def test_a_damaged_cache(cache, albert):
    cache.mkdir()
    (cache / "models--albert--albert-base-v2").write_text("a file")
    (cache / "models--x").mkdir()
    assert listed(albert)["albert/albert-base-v2"]["here"] is None
    assert huggingface_hub.scan_cache_dir(cache).warnings
