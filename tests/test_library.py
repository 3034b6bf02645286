"""The library: its names, what importing them costs, how its objects are shown, and that it is what the commands do."""

import inspect
import json
import subprocess
import sys
import typing
import warnings
from pathlib import Path

import numpy as np
import pytest

import albert_cli
from albert_cli import (
    AlbertError,
    Embedder,
    Tokenizer,
    convert,
    fill_mask,
    finetune,
    load,
    load_model,
    load_run,
    similarity,
)
from albert_cli import predict as predict_one
from albert_cli.errors import EmbeddingError, TrainingError
from albert_cli.registry.builtin import DefaultModelNotice

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What a notebook prints for an object is no longer.
LONGEST = 400


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, albert_cli\n"
        "print([name for name in sys.modules if name.startswith(('albert_cli.', 'converters', 'numpy', 'torch'))])\n"
        "from albert_cli import load\nprint('torch' in sys.modules)\n"
        "from albert_cli import *\nprint(Embedder.__name__, fill_mask.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]", "False", "Embedder fill_mask"]


def test_every_name_is_there_typed_and_documented():
    assert set(albert_cli.__all__) <= set(dir(albert_cli))
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for name in albert_cli.__all__:
        found = getattr(albert_cli, name)
        assert inspect.getdoc(found), name
        assert f"`{name}`" in page.partition("## Vectors")[0], name
        if inspect.isfunction(found):
            parameters = inspect.signature(found).parameters.values()
            assert all(item.annotation is not inspect.Parameter.empty for item in parameters), name
    with pytest.raises(AttributeError, match="module 'albert_cli' has no attribute 'nothing'"):
        _ = albert_cli.nothing


def test_the_readme_embeds_in_five_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = README.split("```python\n")[1:]
    source = next(block.partition("```")[0] for block in blocks if "from albert_cli import" in block)
    assert len([line for line in source.splitlines() if line.strip()]) == 5
    names = {}
    exec(compile(source, "README.md", "exec"), names)
    assert names["vectors"].shape == (2, 256)
    assert -1 <= names["cosine"] <= 1


def test_objects_are_shown_in_a_line(google_or_letters, tmp_path):
    checkpoint = load(google_or_letters)
    tokenizer = Tokenizer.from_pretrained(google_or_letters)
    embedder = Embedder.from_pretrained(google_or_letters, device="cpu", precision="fp32")
    encoding = tokenizer.encode("a b " * 5000)
    report = convert(google_or_letters, tmp_path / "m.npz")
    shown = [
        checkpoint, checkpoint.config, checkpoint.tokenizer, next(iter(checkpoint.tensors.values())), tokenizer,
        encoding, embedder, embedder.plan, embedder.settings, report,
        fill_mask("a [MASK] b [MASK]", google_or_letters, top=50), embedder.tokenize(["a", "b"]),
    ]  # fmt: skip
    for item in shown:
        text = repr(item)
        assert len(text) < LONGEST + 4 * len(str(tmp_path)), text[:1000]
        assert " object at 0x" not in text
    assert repr(checkpoint.tokenizer).startswith("<TokenizerFiles '")
    assert repr(embedder) == (
        f"<Embedder {str(google_or_letters)!r}: pooling mean, vectors of 16 numbers, fp32 on cpu>"
    )


@pytest.fixture
def google_or_letters(letter_model):
    return letter_model


def test_tables_for_notebooks_show_what_is_there_as_text(letter_model):
    table = fill_mask("<b>a</b> [MASK] b", letter_model, top=2)._repr_html_()
    assert table.startswith("<table><thead><tr><th>mask</th><th>rank</th><th>probability</th>")
    assert table.count("<tr>") == 3
    assert "<b>" not in table
    assert "&lt;b&gt;a&lt;/b&gt;" in table
    table = load(letter_model)._repr_html_()
    assert "<td>embeddings</td><td>" in table
    encoding = Tokenizer.from_pretrained(letter_model).encode("ab")
    assert encoding._repr_html_().count("<tr>") == 1 + len(encoding)
    long = Tokenizer.from_pretrained(letter_model).encode("a b " * 5000)
    assert len(long) > 9000
    assert long._repr_html_().count("<tr>") == 1 + 4096


def test_vectors_are_those_of_the_command(letter_model, albert, tmp_path):
    (tmp_path / "t.txt").write_text("abc\nx y z\n")
    out = tmp_path / "v.npy"
    code, _, err = albert(
        "embed", "-i", tmp_path / "t.txt", "-m", letter_model, "-o", out, "--pooling", "cls", "--normalize"
    )
    assert code == 0, err
    embedder = Embedder.from_pretrained(letter_model, pooling="cls", normalize=True)
    assert np.abs(embedder.embed(["abc", "x y z"]) - np.load(out)).max() < 1e-5
    cosines = similarity(["abc", "x y z"], ["abc"], model=letter_model, pooling="cls")
    assert cosines.shape == (2, 1)
    assert abs(cosines[0, 0] - 1) < 1e-5
    with pytest.raises(EmbeddingError, match="settings are given, and a part of them beside"):
        Embedder.from_pretrained(letter_model, embedder.settings, dims=3)


def test_masks_are_filled_as_by_the_command(letter_model, albert):
    document = json.loads(albert("fill-mask", "a [MASK] b", "c [MASK]", "-m", letter_model, "--json", "--top", "3")[1])
    filled = fill_mask(["a [MASK] b", "c [MASK]"], letter_model, top=3)
    assert [[[one._asdict() for one in mask] for mask in text] for text in filled] == [
        item["masks"] for item in document
    ]
    alone = fill_mask("c [MASK]", letter_model, top=3)
    assert [one.piece for one in alone[0]] == [one.piece for one in filled[1][0]]
    with pytest.raises(AlbertError, match=r"the text has no \[MASK\]; write \[MASK\] where a word is to be found"):
        fill_mask("nothing", letter_model)


def test_a_conversion_is_proved_and_named_as_it_was_asked_for(letter_model, tmp_path):
    report = convert("built-in", tmp_path / "a.npz")
    assert (report.source, report.target_format) == ("built-in", "npz")
    assert len(report.digests) == 30
    with pytest.raises(AlbertError, match="exists"):
        convert(letter_model, tmp_path / "a.npz")
    assert convert(letter_model, tmp_path / "a.npz", force=True, dtype="float16").cast.dtype == "float16"
    assert load(tmp_path / "a.npz").config == load(letter_model).config
    assert load_model(tmp_path / "a.npz").config.hidden_size == 16


def test_the_default_model_is_named_by_a_warning(letter_model, monkeypatch):
    monkeypatch.setenv("ALBERT_MODEL", str(letter_model))
    with pytest.warns(DefaultModelNotice, match="of ALBERT_MODEL"):
        assert load().where == str(letter_model)
    with pytest.warns(DefaultModelNotice):
        assert len(Tokenizer.from_pretrained()) == len(Tokenizer.from_pretrained(letter_model))


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_trained_resumed_and_used(letter_model, albert, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"a{n},{'xy'[n % 2]}\n" for n in range(12)))
    settings = {"model": letter_model, "train": tmp_path / "t.csv", "steps": 2, "max_length": 16}
    capsys.readouterr()
    summary = finetune("csv", out=tmp_path / "run", **settings)
    assert capsys.readouterr() == ("", "")
    assert summary["steps"] == 2
    with pytest.raises(AlbertError, match=r"run: .*"):
        finetune("csv", out=tmp_path / "run", **settings)
    finetune("csv", out=tmp_path / "run", resume=True, show=True)
    capsys.readouterr()
    finetune("csv", out=tmp_path / "other", show=True, **settings)
    assert "rows, 2 steps" in capsys.readouterr().out
    run = load_run(tmp_path / "run")
    assert repr(run) == f"<LoadedRun {str(tmp_path / 'run')!r}: classification (csv) on {run.device}>"
    document = json.loads(albert("predict", tmp_path / "run", "a3", "--json")[1])
    assert predict_one(run, "a3") == predict_one(tmp_path / "run", "a3")
    assert predict_one(run, "a3")["prediction"] == document["prediction"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat: no such setting; .*did you mean 'learning_rate'"),
        ({"steps": "many"}, "steps is 'many', not a whole number"),
        ({"steps": -1}, r"steps is -1, not from 1 to 2\*\*63 - 1"),
        ({"epochs": 1.0, "steps": 1}, "epochs and steps are both given; choose one"),
    ],
)
def test_a_setting_that_is_wrong_is_named(letter_model, tmp_path, settings, message):
    (tmp_path / "t.csv").write_text("text,label\na,x\nb,y\n")
    with pytest.raises(TrainingError, match=message):
        finetune("csv", out=tmp_path / "run", model=letter_model, train=tmp_path / "t.csv", **settings)
    assert not (tmp_path / "run").exists()


def test_what_is_no_list_of_texts_is_named(letter_model):
    embedder = albert_cli.Embedder.from_pretrained(letter_model)
    for call in (
        embedder.embed,
        lambda texts: albert_cli.similarity(texts, model=letter_model),
        lambda texts: embedder.embed(["a"] * len(texts), texts),
        lambda texts: albert_cli.fill_mask("a [MASK]", letter_model, targets=texts),
    ):
        with pytest.raises(AlbertError, match=r"^'abc' is one text, where a list of texts is wanted; write \[text\]$"):
            call("abc")
        with pytest.raises(AlbertError, match=r"^text 2 is nan, not a text$"):  # a missing cell of pandas
            call(["a", float("nan")])
    with pytest.raises(AlbertError, match=r"^text 1 is None, not a text$"):
        albert_cli.fill_mask([None], letter_model)
    for top in (0, -1, None):
        with pytest.raises(AlbertError, match=f"^top is {top}, not a whole number of at least 1$"):
            albert_cli.fill_mask("a [MASK]", letter_model, top=top)
    with pytest.raises(AlbertError, match=r"^device 'cuda:0' is not one of auto, cuda, mps, cpu$"):
        albert_cli.fill_mask("a [MASK]", letter_model, device="cuda:0")


def test_hints_can_be_read_by_programs():
    for name in ("load", "convert", "load_model", "load_run", "predict", "finetune", "similarity"):
        function = getattr(albert_cli, name)
        assert function.__annotations__["return"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert typing.get_type_hints(Tokenizer.from_pretrained)["raw"] is bool
