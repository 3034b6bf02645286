"""`pytest -m published --weights=DIR`: the published values, on Google's weights; and that this checking works."""

import dataclasses
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import making
import numpy as np
import pytest
import torch
from published import KATHMANDU, SENTENCES, VALUES, Outputs, find_models

from converters import convert
from converters.families.albert import PRESETS
from converters.initialize import initialize
from converters.tokenizers.files import TokenizerFiles

outputs_of = functools.lru_cache(maxsize=1)(Outputs)


def pytest_generate_tests(metafunc):
    """One test for each published value and model found; a version that is not there is a skip that says so."""
    if metafunc.function is not test_published_value:
        return
    directory = metafunc.config.getoption("--weights")
    found = find_models(directory) if directory else []
    cases = [
        pytest.param(model.path, value, id=f"{model.path.name}-{value.name}")
        for model in found
        for value in VALUES
        if value.version == model.version
    ]
    for version in (1, 2):
        if version not in {model.version for model in found}:
            held = "; ".join(map(str, found)) or "no model"
            wanted = f"no albert_base v{version} at {directory}, but {held}"
            reason = wanted if directory else f"needs Google's albert_base v{version}: -m published --weights=DIR"
            cases.append(pytest.param(None, None, id=f"v{version}", marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize(("path", "value"), cases)


@pytest.mark.published
def test_published_value(path, value):
    assert value.fault(outputs_of(path)) is None


@pytest.mark.published
def test_weights_are_there(request):
    directory = request.config.getoption("--weights")
    if not directory:
        pytest.skip("needs Google's weights: -m published --weights=DIR")
    found = find_models(directory)
    assert any(model.version for model in found), f"no albert_base in {directory}: {[str(model) for model in found]}"


# --- the checking itself


@pytest.fixture(scope="module")
def oracle(google_model):
    """What transformers gives for the published inputs, on weights of no renown."""
    from transformers import AlbertForPreTraining

    model = AlbertForPreTraining.from_pretrained(google_model).eval()
    outputs = Outputs(google_model)
    ids = outputs.julia_ids
    with torch.inference_mode():
        embedding = model.albert.embeddings(ids)
        unmasked, masked = (
            model.albert(ids, attention_mask=mask) for mask in (torch.ones_like(ids), (ids != 0).long())
        )
        words = torch.tensor([[2, 28823, 25, 136, 16, 9111, 17, 4769, 9, 3]])
        kathmandu = model.albert(words)
    bias = model.predictions.bias.detach()
    wanted = [
        embedding[0, 0, :5],
        unmasked.last_hidden_state[0, 0, :5],
        unmasked.last_hidden_state[1, 0, :3],
        unmasked.pooler_output[0, :5],
        unmasked.pooler_output[1, :3],
        masked.last_hidden_state[0, 0, :5],
        bias[:5],
        kathmandu.last_hidden_state[0, 0, :3],
        kathmandu.last_hidden_state[0, 0, -3:],
        kathmandu.last_hidden_state[0, 1, :3],
        kathmandu.pooler_output[0, :4],
        kathmandu.pooler_output[0, -1:],
    ]
    return outputs, [tuple(row.tolist()) for row in wanted]


@pytest.mark.parametrize("number", range(len(VALUES)), ids=[value.name for value in VALUES])
def test_values_are_those_of_the_published_inputs(oracle, number):
    outputs, wanted = oracle
    value = dataclasses.replace(VALUES[number], numbers=wanted[number], most=(0, 1e-5))
    assert len(value.numbers) == len(VALUES[number].numbers)
    assert value.fault(outputs) is None


def test_a_mismatch_is_reported(oracle):
    outputs, wanted = oracle
    numbers = np.round(wanted[7], 4) + np.array([0, 0, 0.25])
    value = dataclasses.replace(VALUES[7], numbers=tuple(numbers))
    shown = " ".join(f"{number:.6g}" for number in value.numbers)
    assert value.fault(outputs).startswith(f"last hidden state of token 1, first numbers: published {shown}, found ")
    assert value.fault(outputs).endswith("off by up to 0.25")
    assert VALUES[7].fault(outputs) is not None


def test_the_published_sentences_are_the_published_ids(oracle):
    outputs, _ = oracle
    rows = [[number + 1 for number in row] for row in outputs.julia_ids.tolist()]
    assert len(SENTENCES) == len(rows) == 3
    assert rows[0] == [14, 2, 5649, 26, 14, 2, 100, 722, 188, 14, 2, 231, 22, 17519, 10] + [1] * 17
    assert rows[1][:10] == [14, 2, 411, 66, 67, 13528, 20, 15, 133, 819]
    assert rows[1][-8:] == [31, 60, 84, 234, 22, 22740, 20600, 10]
    assert rows[2] == [14, 2, 439, 42, 15, 1206, 40, 42, 2036, 27, 15, 237, 133, 123, 10] + [1] * 17
    assert KATHMANDU.startswith("Kathmandu")


def test_models_are_found_by_name_or_content(tmp_path):
    """In every format, side by side and below; what is no albert_base is told."""
    base = dataclasses.replace(PRESETS["base"], num_hidden_groups=1)
    model = initialize(base, TokenizerFiles(), seed=1)
    convert.save(making.model(), tmp_path / "tiny.npz")
    convert.save(model, tmp_path / "models/albert-base-v2")
    first = dataclasses.replace(model, config=dataclasses.replace(base, hidden_dropout_prob=0.1))
    convert.save(first, tmp_path / "albert_base_v1.bson.tfbson")
    (tmp_path / "albert_base").mkdir()
    shutil.move(tmp_path / "models/albert-base-v2", tmp_path / "albert_base/hf")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    damaged = f"{tmp_path / 'damaged.npz'} (npz): not used, {tmp_path / 'damaged.npz'}"
    assert [str(found) for found in find_models(tmp_path)] == [
        f"{tmp_path / 'albert_base_v1.bson.tfbson'} (bson): albert_base v1, by the name albert_base_v1.bson.tfbson",
        f"{damaged}: not a sound .npz (File is not a zip file)",
        (
            f"{tmp_path / 'tiny.npz'} (npz): not used, no albert_base: vocab_size 30, embedding_size 6, hidden_size 8, "
            "num_hidden_layers 4, num_attention_heads 2, intermediate_size 12"
        ),
        f"{tmp_path / 'albert_base/hf'} (safetensors): albert_base v2, by its hidden_dropout_prob of 0.0",
    ]
    assert [found.path for found in find_models(tmp_path / "albert_base/hf")] == [tmp_path / "albert_base/hf"]
    shutil.copy(tmp_path / "albert_base_v1.bson.tfbson", tmp_path / "x.bson")
    assert find_models(tmp_path / "x.bson")[0].version == 1


# Without a path the whole suite is collected first.
@pytest.mark.parametrize("form", [pytest.param("={}", marks=pytest.mark.slow), " {} tests/test_published.py"])
def test_the_command_says_what_it_found(google_model, form):
    weights = f"--weights{form.format(google_model)}".split()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "published", *weights]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    assert f"weights: {google_model} (safetensors): not used, no albert_base: " in done.stdout
    assert "1 failed, " in done.stdout
    assert re.search(
        rf"SKIPPED .* no albert_base v1 at {google_model}, but {google_model} \(safetensors\): not used", done.stdout
    )
