"""Model cards: what the Hub's library reads in them, that what they show runs, and that nobody's README.md is lost."""

import json
import re

import pytest
from huggingface_hub import ModelCard, metadata_load
from tuning import reviews, write_csv, write_model
from typer.testing import CliRunner

from albert_cli.main import app
from converters import convert, proof
from converters.pages import README, is_free, marked

pytestmark = pytest.mark.usefixtures("undrawn")
KEPT = "README.md was there already and is kept; see that it is about this model"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("cards")
    write_model(root / "model")
    write_csv(root / "train.csv", reviews(24))
    return root


def run(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def finetune(world, out, *more):
    data = ("--train", world / "train.csv", "--model", world / "model", "--max-length", 16)
    return run("finetune", "csv", *data, "--steps", 3, "--eval-every", 3, "--out", out, *more)


def digest(path):
    checkpoint = convert.load(path)
    return proof.weights_digest(checkpoint, proof.tensor_digests(checkpoint))


def run_python_of(page, directory, monkeypatch):
    """Run the Python that a page shows, where it says that it is run; the names that are set there."""
    monkeypatch.chdir(directory)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    return names


def test_a_converted_model_has_the_card_that_the_hub_reads(tmp_path, monkeypatch):
    run("convert", "built-in", tmp_path / "hf", "--dtype", "float32")
    card = ModelCard.load(tmp_path / "hf" / README)
    assert card.data.to_dict() == {
        "language": "en",
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "fill-mask",
        "tags": ["albert"],
    }
    assert f"| SHA-256 of the weights | `{digest(tmp_path / 'hf')}` |" in card.text
    assert "| source format | `safetensors` |" in card.text
    assert str(tmp_path) not in card.content
    names = run_python_of(card.text, tmp_path / "hf", monkeypatch)
    assert type(names["model"]).__name__.startswith("AlbertFor")
    assert names["tokenizer"]("He sat.")["input_ids"]


def test_licence_language_and_base_model_travel(world, tmp_path):
    source = tmp_path / "source"
    run("convert", world / "model", source)
    front = "license: mit\nlanguage: [de, fr]\nbase_model: someone/a-model\nwidget: [{text: x}]"
    (source / README).write_text(f"---\n{front}\n---\n# Theirs\n")
    run("convert", source, tmp_path / "copy")
    run("convert", tmp_path / "copy", tmp_path / "again", "--to", "torch")
    finetune(world, tmp_path / "run", "--model", tmp_path / "again")
    for name in ("copy", "again", "run"):
        data = metadata_load(tmp_path / name / README)
        assert (data["license"], data["language"], data["base_model"]) == ("mit", ["de", "fr"], "someone/a-model")
        assert "widget" not in data


@pytest.mark.parametrize(
    "front",
    [
        b"---\nlicense: [\n---\n",
        b"---\nlicense: {a: 1}\nbase_model: /etc/passwd\n---\n",
        b"---\nlicense: !!bool maybe\n---\n",
        b"---\nlicense: !!int ''\n---\n",
        b"---\nlicense: !!timestamp today\n---\n",
        b"---\nlicense: " + b"[" * 9999 + b"\n---\n",
        b"\xff\xfe",
        b"no front matter",
        b"",
    ],
)
def test_front_matter_that_says_nothing_is_passed_over(world, tmp_path, front):
    run("convert", world / "model", tmp_path / "source")
    (tmp_path / "source" / README).write_bytes(front)
    run("convert", tmp_path / "source", tmp_path / "hf")
    assert metadata_load(tmp_path / "hf" / README) == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["albert"],
    }


def test_a_sentence_transformers_model_says_how_it_is_loaded(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    run("convert", "built-in", tmp_path / "st", "--to", "sentence-transformers")
    data = metadata_load(tmp_path / "st" / README)
    assert (data["library_name"], data["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    page = (tmp_path / "st" / README).read_text()
    names = run_python_of(page[: page.index("from transformers")], tmp_path / "st", monkeypatch)
    assert names["model"].encode("He sat.").shape == (256,)


def test_a_readme_of_others_is_kept_and_ours_is_replaced_with_its_model(world, tmp_path):
    target = tmp_path / "hf"
    target.mkdir()
    (target / README).write_text("mine")
    assert KEPT in " ".join(run("convert", world / "model", target).stdout.split())
    assert KEPT in run("convert", "built-in", target, "--force", "--json").stdout
    assert (target / README).read_text() == "mine"
    (target / README).unlink()
    run("convert", world / "model", target, "--force")
    ours = (target / README).read_bytes()
    assert digest(target) in ours.decode()
    assert KEPT not in run("convert", "built-in", target, "--force").stdout
    assert digest(target) in (target / README).read_text()
    changed = (target / README).read_text().replace("## Use", "## How to use it")
    (target / README).write_text(changed)
    run("convert", world / "model", target, "--force")
    assert (target / README).read_text() == changed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_files_of_other_formats_have_no_card(world, tmp_path):
    run("convert", world / "model", tmp_path / "tf", "--to", "tf")
    run("convert", world / "model", tmp_path / "model.npz")
    assert not (tmp_path / "tf" / README).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.npz", "tf"]


def test_what_is_ours_is_known_by_its_mark(tmp_path):
    assert is_free(tmp_path)
    path = tmp_path / README
    path.write_bytes(marked("# A model\n"))
    assert is_free(tmp_path)
    for content in (marked("# A model\n") + b"\n", marked("x").replace(b"x", b"y"), b"", b"x" * 2**18):
        path.write_bytes(content)
        assert not is_free(tmp_path)
    path.unlink()
    path.symlink_to("/nonexistent")
    assert not is_free(tmp_path)
    path.unlink()
    path.mkdir()
    assert not is_free(tmp_path)


def test_a_fine_tuned_model_has_its_figures_as_a_model_index(world, tmp_path, monkeypatch):
    out = tmp_path / "run"
    finetune(world, out)
    card = ModelCard.load(out / README)
    dev = json.loads((out / "summary.json").read_text())["dev"]
    found = {item.metric_name: item for item in card.data.eval_results}
    assert card.data.model_name == "run"
    assert found.keys() == {"accuracy", "macro_f1"}
    for name, item in found.items():
        assert item.metric_value == pytest.approx(dev[name], abs=1e-6)
        assert (item.task_type, item.dataset_name, item.dataset_split) == ("text-classification", "train.csv", "dev")
    assert (found["macro_f1"].metric_type, card.data.metrics) == ("f1", ["accuracy", "f1"])
    assert digest(out) in card.text
    assert str(tmp_path) not in card.content
    assert str(world) not in card.content
    names = run_python_of(card.text, out, monkeypatch)
    assert names["model"].config.id2label == {0: "neg", 1: "pos"}


def test_the_readme_of_a_run_is_kept_unless_it_is_ours(world, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / README).write_text("mine")
    assert KEPT in finetune(world, out).stderr
    finetune(world, out, "--force", "--lr", "1e-3")
    assert (out / README).read_text() == "mine"
    (out / README).unlink()
    finetune(world, out, "--force")
    first = (out / README).read_text()
    finetune(world, out, "--force", "--lr", "1e-3")
    assert "`0.001`" in (out / README).read_text()
    assert "`0.001`" not in first
    assert digest(out) in (out / README).read_text()


def test_a_pretrained_model_has_a_card(world, tmp_path):
    texts = [text for text, _ in reviews(80)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{text}.\n{text} film." for text in texts))
    how = ("--steps", 2, "--tokens-per-update", 64, "--max-length", 16, "--hold-out", 4)
    run("pretrain", "--corpus", tmp_path / "corpus.txt", "--init", world / "model", *how, "--out", tmp_path / "run")
    card = ModelCard.load(tmp_path / "run" / README)
    held_out = json.loads((tmp_path / "run/summary.json").read_text())["held_out"]
    found = {item.metric_name: item.metric_value for item in card.data.eval_results}
    assert found == pytest.approx(held_out, abs=1e-6)
    assert (card.data.pipeline_tag, card.data.library_name) == ("fill-mask", "transformers")
    assert "base_model" not in card.data.to_dict()
    assert digest(tmp_path / "run") in card.text
