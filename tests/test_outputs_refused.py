"""What is to be written is looked at before any work: whatever cannot be is refused, though model and data are broken.

Every command that writes is in one table. The models and inputs of these cases exist but cannot be read, so a message
about the target proves that nothing was read before.
"""

import json
import os
import shutil

import pytest
from conftest import tree
from tuning import reviews, write_glue, write_model

# Of each command: its words with $ for the world's directory and @ for the target; a name of the target; its kinds that
# are refused; what the target is made of, if that could be overwritten.
RUN = "--model $/broken --steps 2 --out @"
COMMANDS = {
    "convert to npz": ("convert $/broken @", "x.npz", ["x.gguf"], None),
    "convert to hf": ("convert $/broken @", "hf", ["hf.txt"], None),
    "convert to onnx": ("convert $/broken @", "x.onnx", [], None),
    "init": ("init @ --model-config $/broken/config.json", "x.npz", ["x.zip"], None),
    "embed": ("embed --in $/bad.csv --model $/broken --out @", "x.parquet", ["x.txt", "x"], "bad.csv"),
    "embed jsonl": ("embed --in $/bad.jsonl --model $/broken --out @", "x.jsonl", [], "bad.jsonl"),
    "tokenize": ("tokenize --in $/t.txt --model $/model --out @", "x.jsonl", [], "t.txt"),
    "similarity": ("similarity a b --model $/broken --plot @", "x.png", ["x.gif", "x"], None),
    "similarity of lines": ("similarity --in $/lines.svg --input-format txt --model $/broken --plot @", "x.svg", [],
                            "lines.svg"),
    "fill-mask": ("fill-mask --in $/bad.csv --model $/broken --out @", "x.csv", ["x.txt"], "bad.csv"),
    "sop": ("sop --in $/bad.csv --model $/broken --out @", "x.tsv", ["x.xlsx"], "bad.csv"),
    "score": ("score --in $/bad.csv --model $/broken --out @", "x.jsonl", ["x.json"], "bad.csv"),
    "score picture": ("score text --model $/broken --plot @", "x.pdf", ["x.jpg"], None),
    "predict": ("predict $/broken --in $/bad.csv --out @", "x.csv", ["x.png", "x"], "bad.csv"),
    "evaluate": ("evaluate $/broken --data $/bad.csv --curves @", "x.png", ["x.bmp"], None),
    "finetune": (f"finetune csv --train $/bad.csv {RUN}", "run", ["run.csv"], None),
    "finetune seeds": (f"finetune csv --train $/bad.csv --seeds 1,2 {RUN}", "run", ["run.zip"], None),
    "finetune squad": (f"finetune squad --train $/bad.json {RUN}", "run", ["run.json"], None),
    "glue submission": ("finetune glue --data $/nowhere --model $/broken --out $/runs --submission @", "x.zip",
                        ["x.tar", "x.tsv"], None),
    "pretrain": ("pretrain --corpus $/bad.txt --init $/broken --steps 2 --out @", "run", ["run.txt"], None),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sound model, one whose weights are no weights, and inputs that cannot be read."""
    root = tmp_path_factory.mktemp("made")
    write_model(root / "model")
    shutil.copytree(root / "model", root / "broken")
    (root / "broken" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not a header}")
    for name in ("bad.csv", "bad.jsonl", "bad.json", "bad.txt"):
        (root / name).write_bytes(b"text,label\n\xff\xfe\x00,\n")
    (root / "lines.svg").write_text("a film\n")
    (root / "t.txt").write_text("a film\n")
    return root


@pytest.fixture
def world(made, tmp_path):
    shutil.copytree(made, tmp_path / "world")
    return tmp_path / "world"


def words_of(command, world, target):
    return [word.replace("$", str(world)).replace("@", str(target)) for word in COMMANDS[command][0].split()]


def occupy(path):
    """Something of the kind that the command would write there."""
    if path.suffix:
        path.write_text("old")
    else:
        path.mkdir()
        for name in ("config.json", "model.safetensors", "run.toml"):
            (path / name).write_text("old")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_there_is_refused_before_any_work(command, world, refused):
    target = world / COMMANDS[command][1]
    occupy(target)
    message = refused(*words_of(command, world, target))
    assert message.startswith(str(target)), message
    told = (
        "exists already; --force replaces",
        "holds a run already; --resume continues it",
        "holds a run of one seed; name",
    )
    assert any(text in message for text in told), message


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_is_refused_before_any_work(command, world, refused, albert):
    _, name, kinds, _ = COMMANDS[command]
    (world / "file").write_text("mine")
    message = refused(*words_of(command, world, world / "file" / name), "--force")
    assert message == f"{world / 'file'}: a file, so {world / 'file' / name} cannot be made below it"
    (world / "lost").mkdir()
    (world / "lost" / name).symlink_to(world / "nothing")
    message = refused(*words_of(command, world, world / "lost" / name), "--force")
    assert "a symbolic link to nothing" in message
    (world / "other").mkdir()
    other = world / "other" / name
    if name == "x.onnx":  # may be a directory, too
        pass
    elif other.suffix:
        other.mkdir()
        message = refused(*words_of(command, world, other), "--force")
        assert message.startswith(f"{other}: a directory, where "), message
    else:
        other.write_text("mine")
        message = refused(*words_of(command, world, other), "--force")
        assert message.startswith(f"{other}: a file, where "), message
    for kind in kinds:
        before = tree(world)
        code, _, err = albert(*words_of(command, world, world / kind), "--force")
        assert code in (1, 2), (kind, err)
        assert str(world / kind) in " ".join(err.split()).replace(" ", ""), (kind, err)
        assert tree(world) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_force_with_a_later_fault_leaves_what_was_there(command, world, albert):
    target = world / COMMANDS[command][1]
    occupy(target)
    before = tree(world)
    if command in ("tokenize", "similarity of lines"):
        (world / "model" / "spiece.model").write_bytes(b"broken")
        (world / "model" / "tokenizer.json").unlink()
        before = tree(world)
    code, _, err = albert(*words_of(command, world, target), "--force")
    if command == "init":
        assert code == 0, err
        return
    assert code == 1, err
    assert [line for line in err.splitlines() if line.startswith("albert: ")][-1].count(": ") >= 1
    found = tree(world)
    assert {name: found.get(name) for name in before} == before, command


@pytest.mark.parametrize("command", [name for name, facts in COMMANDS.items() if facts[3]])
@pytest.mark.parametrize("way", ["same", "spelt otherwise", "symlink", "hard link"])
def test_what_is_read_is_never_written(command, world, refused, way, monkeypatch):
    _, name, _, made_of = COMMANDS[command]
    source = world / made_of
    target = world / f"links{source.suffix}"
    suffix = target.with_name("x").with_suffix(name[name.index(".") :])
    if way == "same":
        if suffix.suffix != source.suffix:
            pytest.skip("the command writes no file of that kind")
        target = source
    elif way == "spelt otherwise":
        if suffix.suffix != source.suffix:
            pytest.skip("the command writes no file of that kind")
        monkeypatch.chdir(world)
        target = f"./nothing/..//{made_of}" if (world / "nothing").mkdir() is None else ""
    elif way == "symlink":
        target = suffix
        target.symlink_to(source)
    else:
        target = suffix
        target.hardlink_to(source)
    message = refused(*words_of(command, world, target), "--force")
    assert "the target is the source itself" in message or "the target is the input itself" in message


def test_a_target_without_permission(made, world, albert, monkeypatch):
    if os.getuid() == 0:  # root may write anywhere; what the system is asked is asked in one place
        monkeypatch.setattr("converters.staging.os.access", lambda path, mode: not mode & os.W_OK)
    else:
        world.chmod(0o555)
    for command, (_, name, _, _) in COMMANDS.items():
        code, _, err = albert(*words_of(command, world, world / name), "--force")
        assert (code, err) == (1, f"albert: {world}: no permission to write there\n"), command
    world.chmod(0o755)


@pytest.mark.parametrize("out", ["x.parquet", "deep/x.csv", "x.jsonl"])
def test_embed_does_not_write_into_what_it_reads(world, refused, out):
    corpus = world / "corpus"
    (corpus / "deep").mkdir(parents=True)
    (corpus / "a.txt").write_text("a film\n")
    (world / "link").symlink_to(corpus)
    for source, target in ((corpus, corpus / out), (world / "link", corpus / out), (corpus, world / "link" / out)):
        message = refused("embed", "--in", source, "--model", world / "broken", "--out", target)
        assert (
            message == f"{target}: lies in the input ({source}), and would be read as a part of it; name another --out"
        )


def test_embed_does_not_write_what_its_pattern_names(world, refused):
    (world / "a.jsonl").write_text(json.dumps({"text": "a film"}) + "\n")
    pattern = f"{world}/*.jsonl"
    message = refused("embed", "--in", pattern, "--model", world / "broken", "--out", world / "x.jsonl")
    assert message.startswith(f"{world / 'x.jsonl'}: lies in the input ({pattern})")


def test_a_faulty_test_file_is_reported_before_training(tmp_path, refused):
    write_model(tmp_path / "model")
    write_glue(tmp_path / "glue", rows=8, test_rows=3)
    (tmp_path / "glue/RTE/test.tsv").write_text("index\tsentence1\n0\ta film\n")
    words = ["finetune", "rte", "--data", tmp_path / "glue", "--model", tmp_path / "model", "--max-length", 16]
    message = refused(*words, "--steps", 1, "--out", tmp_path / "run")
    assert "RTE/test.tsv" in message


@pytest.mark.parametrize("what", ["no directory", "no model", "no weights"])
def test_a_teacher_that_is_none_is_reported_before_any_work(tmp_path, refused, what, monkeypatch):
    from albert_cli.pretraining import survey

    monkeypatch.setattr(survey, "survey", lambda *_: pytest.fail("the corpus was looked at before the teacher"))
    write_model(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{text}.\n{text}." for text, _ in reviews(8)))
    teacher = tmp_path / "teacher"
    if what != "no directory":
        teacher.mkdir()
    if what == "no weights":
        shutil.copy(tmp_path / "model/config.json", teacher)
    words = ["pretrain", "--corpus", tmp_path / "corpus.txt", "--init", tmp_path / "model", "--steps", 1]
    message = refused(*words, "--max-length", 16, "--teacher", teacher, "--out", tmp_path / "run")
    assert message.startswith(f"{teacher}: no Hugging Face encoder to learn from (") or message == (
        f"{teacher}: no such directory"
    )


def test_parquet_is_asked_for_before_any_work(world, refused, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "pyarrow" else find_spec(name))
    wanted = "writing Parquet needs the library 'pyarrow', which is not installed: pip install 'pyarrow'"
    for command in ("fill-mask", "sop", "score", "predict"):
        assert refused(*words_of(command, world, world / "x.parquet")) == wanted


def test_init_does_not_overwrite_what_it_is_made_from(world, refused):
    message = refused("init", world / "model", "--model-config", world / "model/config.json", "--force")
    assert "the target is the source itself" in message
