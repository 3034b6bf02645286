"""The built-in model: what the package holds, and every command with no --model named."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from scipy.stats import spearmanr

from albert_cli.builtin.build import PLAIN
from albert_cli.builtin.held_out import SIX
from albert_cli.builtin.plain_sentences import plain_sentences
from albert_cli.embedding.embedder import Embedder
from albert_cli.model.loading import load_model
from albert_cli.pretraining import distillation
from albert_cli.pretraining.settings import resolve
from albert_cli.registry import builtin
from albert_cli.registry.builtin import built_in, card
from converters import convert

ROOT = Path(__file__).parents[1]
NOTICE = re.compile(
    r"albert: no --model is named: this is the small built-in one \([\d,]+ parameters\); "
    r"name a big one with --model albert-base-v2\n"
)


def test_it_is_small_and_an_ordinary_model():
    assert (built_in() / "model.safetensors").stat().st_size < 8e6
    checkpoint = convert.load(built_in())
    assert {tensor.dtype.name for tensor in checkpoint.tensors.values()} == {"float16"}
    assert checkpoint.tokenizer.spiece
    assert sum(tensor.size for tensor in checkpoint.tensors.values()) == card()["parameters"]
    model, info = transformers.AlbertForMaskedLM.from_pretrained(
        built_in(), output_loading_info=True, dtype=torch.float32
    )
    assert not info["missing_keys"]
    assert {*info["unexpected_keys"]} == {"albert.pooler.weight", "albert.pooler.bias"}  # of AlbertModel
    ids = torch.tensor([[2, 20, 300, 4000, 3]])
    with torch.inference_mode():
        ours, theirs = load_model(checkpoint)(ids), model.eval()(ids)
    assert (ours.prediction_logits - theirs.logits).abs().max() < 1e-4
    _, info = transformers.AlbertModel.from_pretrained(built_in(), output_loading_info=True)
    assert not info["missing_keys"]


def test_the_card_says_what_was_measured():
    facts, page = card(), (built_in() / "README.md").read_text(encoding="utf-8")
    assert facts["held_out"].keys() == {
        "masked_lm_accuracy", "masked_lm_loss", "sentence_order_accuracy", "sentence_order_loss",
    }  # fmt: skip
    removed = facts["texts"]["removed"]
    for shown in (
        f"{facts['parameters']:,} parameters",
        f"{facts['held_out']['masked_lm_accuracy']:.1%}",
        f"{facts['held_out']['sentence_order_accuracy']:.1%}",
        f"alone give {facts['sentence_order_by_length']:.1%}",
        f"and {sum(sum(removed[plain.file].values()) for plain in PLAIN):,} of the plain ones",
        f"{facts['steps']:,} steps",
        "Princeton University",
        "Apache-2.0",
    ):
        assert shown in page
    assert [stage["hashes"].keys() for stage in facts["stages"]] == [
        {"corpus", "teacher"}, *5 * [{"corpus", "teacher", "init"}],
    ]  # fmt: skip
    assert len(facts["seeds"]) == len(facts["stages"]) == 6
    assert all(stage["minutes"] > 0 for stage in facts["stages"])


def test_the_recipes_are_ones_that_pretrain_takes():
    stages = sorted((ROOT / "albert_cli/builtin").glob("stage_*.toml"))
    recipes = [
        resolve({"corpus": ("texts",), "init": f"runs/stage_{number}" if number else None}, path, None)
        for number, path in enumerate(stages)
    ]
    config = convert.load(built_in()).config
    wanted = recipes[0].model_config | {"hidden_act": "gelu_new"}  # Google's name of it is gelu
    assert {key: getattr(config, key) for key in wanted} == wanted
    assert config.vocab_size == recipes[0].vocab_size
    assert [stage["steps"] for stage in card()["stages"]] == [recipe.steps for recipe in recipes]
    for recipe, stage in zip(recipes, card()["stages"], strict=True):
        assert recipe.teacher_sentences % distillation.PART == 0
        as_run = {key: value for key, value in stage["settings"].items() if key != "precision"}  # the machine's best
        assert as_run == {key: json.loads(json.dumps(getattr(recipe, key))) for key in as_run}


def test_plain_sentences_are_different_and_the_same_for_a_seed():
    sentences = list(plain_sentences(500))
    assert len(set(sentences)) == 500
    assert sentences == list(plain_sentences(500))
    assert sentences[:50] != list(plain_sentences(50, seed=7))
    for sentence in sentences:
        assert "{" not in sentence
        assert 1 <= len(sentence.split()) < 25
        assert sentence == " ".join(sentence.split())


def test_phones_and_ages_stand_out():
    vectors = Embedder.from_pretrained("built-in").embed(list(SIX))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    others = [cosines[a, b] for a in range(6) for b in range(a) if a // 2 != b // 2]
    assert cosines[0, 1] > max(others) + 0.1
    assert cosines[4, 5] > max(others) + 0.1


def test_it_agrees_with_people_on_similar_sentences(shared_data):
    with (shared_data / "glue/STS-B/dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    embedder = Embedder.from_pretrained("built-in")
    first, second = (embedder.embed([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert spearmanr(cosines, [float(row["score"]) for row in rows]).statistic > 0.78


def test_every_command_works_without_a_model(albert, tmp_path):
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in SIX))
    for command in (
        ["tokenize", "He opened the door."],
        ["fill-mask", "He opened the [MASK]."],
        ["score", "He opened the door."],
        ["similarity", *SIX],
        ["embed", "--in", tmp_path / "texts.txt", "--out", tmp_path / "vectors.parquet"],
    ):
        code, out, err = albert(*command)
        assert code == 0, err
        assert out
        assert len(NOTICE.findall(err)) == 1, (command, err)
        assert not NOTICE.sub("", err)
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table.num_rows == 6


def test_a_named_model_gives_no_notice(albert):
    code, _, err = albert("tokenize", "x", "--model", "built-in")
    assert (code, err) == (0, "")


def test_sentence_order_is_refused_with_the_reason_and_what_has_it(refused):
    facts = card()
    assert facts["held_out"]["sentence_order_accuracy"] < builtin.ORDER_WORTH
    assert refused("sop", "He opened the door.", "Then he went in.", "--model", "built-in") == (
        "built-in: has no sentence-order head (SOP), so its weights would be random (in training it judged "
        f"{facts['held_out']['sentence_order_accuracy']:.0%} of held-out pairs rightly, and the lengths of the texts "
        f"alone give {facts['sentence_order_by_length']:.0%}: sentence order takes a full-size model, which has read "
        "thousands of times as much text); models on the Hugging Face Hub leave it out; convert Google's checkpoint, "
        "which has it: albert convert albert_base_v2/ hf/, then --model hf/"
    )


def test_the_probabilities_of_a_mask_are_some(albert):
    code, out, _ = albert(
        "fill-mask", "He opened the [MASK] and went in.", "--json", "--top", "5", "--model", "built-in"
    )
    assert code == 0
    [record] = json.loads(out)
    assert "[MASK]" in json.dumps(record)
    found = [float(value) for value in re.findall(r'"probability": ([\d.e-]+)', out)]
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert all(0 < value < 1 and math.isfinite(value) for value in found)


def test_it_converts_to_every_format_and_back(albert, tmp_path):
    assert albert("convert", "built-in", tmp_path / "tf", "--to", "tf", "--dtype", "float32")[0] == 0
    assert albert("convert", tmp_path / "tf", tmp_path / "model.npz")[0] == 0
    assert albert("convert", tmp_path / "model.npz", tmp_path / "hf")[0] == 0
    code, out, _ = albert("diff", tmp_path / "tf", tmp_path / "hf")
    assert (code, out.startswith("equal")) == (0, True)


@pytest.mark.slow
def test_an_installed_package_holds_the_model(tmp_path):
    # A wheel, and nothing but the wheel: the model travels as package data.
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "demo-out", "runs", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", tmp_path, source], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    done = subprocess.run(
        [sys.executable, "-c", "from albert_cli.main import main; main()", "tokenize", "x"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, check=True,
    )  # fmt: skip
    assert b"small built-in one" in done.stderr
