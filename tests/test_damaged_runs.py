"""A run whose files were damaged, or exchanged for another's, is refused in one line, and never taken for sound."""

import hashlib
import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tuning import reviews, write_csv, write_model
from typer.testing import CliRunner

from albert_cli.main import app
from albert_cli.pretraining.preparation import _kept_vocabulary
from albert_cli.runs import checkpointing
from converters.errors import AlbertError

pytestmark = pytest.mark.usefixtures("undrawn")
LABELS = 'labels = [\n    "neg",\n    "pos",\n]'
RESTART = "restart with --force"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each training its command, a finished run, and one that was killed when its first state was saved."""
    root = tmp_path_factory.mktemp("runs")
    write_model(root / "model")
    write_csv(root / "train.csv", reviews(32))
    write_csv(root / "dev.csv", reviews(12, seed=9))
    lines = [f"{text} {number}." for number, (text, _) in enumerate(reviews(80, seed=4))]
    (root / "corpus.txt").write_text("\n".join(f"{line}\n" if n % 4 == 3 else line for n, line in enumerate(lines)))
    both = ["--steps", "4", "--max-length", "16", "--eval-every", "2", "--lr", "1e-3"]
    files = ["--train", f"{root}/train.csv", "--dev", f"{root}/dev.csv", "--model", f"{root}/model"]
    pretrain = ["--corpus", f"{root}/corpus.txt", "--init", f"{root}/model", "--tokens-per-update", "64"]
    commands = {
        "finetune": ["finetune", "csv", *files, "--batch-size", "8", *both],
        "pretrain": ["pretrain", *pretrain, "--hold-out", "4", *both],
    }
    save = checkpointing.save

    def stop(*arguments):
        save(*arguments)
        raise Killed

    for name, words in commands.items():
        done = CliRunner().invoke(app, [*words, "--out", f"{root}/{name}-done"], catch_exceptions=False)
        assert done.exit_code == 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(checkpointing, "save", stop)
            killed = CliRunner().invoke(app, [*words, "--out", f"{root}/{name}-killed"])
        assert isinstance(killed.exception, Killed)
    return root, commands


@pytest.fixture
def resumed(runs, tmp_path, albert):
    """Damage a copy of a run and resume it: the error without the run's path."""
    root, commands = runs

    def resume(name, state, damage):
        out = tmp_path / "run"
        shutil.copytree(root / f"{name}-{state}", out)
        damage(out)
        code, _, err = albert(*commands[name], "--out", out, "--resume")
        line = err.splitlines()[-1]
        assert code == 1, err
        assert line.startswith("albert: ")
        assert "Traceback" not in err
        assert not (out / "summary.json").exists() or state == "done" or "summary.json" in line
        return line.removeprefix("albert: ").replace(f"{out}/", "").replace(str(out), "run")

    return resume


def state(change, *, sealed=True):
    """Damage to the tensors or the metadata of the saved state, with or without a digest that is right again."""

    def damage(out):
        with safe_open(out / "state.safetensors", "pt") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(tensors, metadata)
        metadata = checkpointing.sealed(tensors, metadata) if sealed else metadata
        save_file(tensors, out / "state.safetensors", metadata)

    return damage


def place(**changes):
    return state(lambda _, data: data.update(progress=json.dumps(json.loads(data["progress"]) | changes)))


def without(start):
    return state(lambda tensors, _: [tensors.pop(name) for name in list(tensors) if name.startswith(start)])


def changed(name, change):
    return state(lambda tensors, _: tensors.update({name: change(tensors.get(name))}))


def written(name, content):
    return lambda out: (out / name).write_bytes(content)


def unsound(why):
    return f"state.safetensors: not a sound state of a run ({why}); {RESTART}"


def damaged_bit(out):
    data = bytearray((out / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (out / "state.safetensors").write_bytes(data)


SLOT = "optimizer.0.exp_avg"
DIGEST = "its SHA-256 is not the one that was written"
GROUPS = unsound("its groups of parameters are those of another optimizer")
# What is done to the run, and what is said of it.
KILLED = {
    "slots gone": (without("optimizer."), "not a sound state of a run (optimizer.0.step, optimizer.0.exp_avg, "),
    "a slot gone": (without(f"{SLOT}_sq"), unsound(f"{SLOT}_sq missing")),
    "generator gone": (without("random.cpu"), unsound("random.cpu missing")),
    "a slot's shape": (
        changed(SLOT, lambda item: torch.zeros(3)),
        unsound(f"{SLOT} is torch.float32 of shape [3], not numbers of [76, 8]"),
    ),
    "a slot's type": (
        changed(SLOT, lambda item: item.to(torch.int32)),
        unsound(f"{SLOT} is torch.int32 of shape [76, 8], not numbers of [76, 8]"),
    ),
    "a slot of nothing": (
        changed("optimizer.999.exp_avg", lambda item: torch.zeros(3)),
        unsound("optimizer.999.exp_avg is of no parameter"),
    ),
    "a generator's size": (changed("random.cpu", lambda item: item[:3].clone()), "(random generator: "),
    "groups of none": (state(lambda _, data: data.update(groups="[]")), GROUPS),
    "groups of others": (state(lambda _, data: data.update(groups=data["groups"].replace("0.999", "0.9"))), GROUPS),
    "text for a step": (place(step="x"), unsound("step is 'x', not a whole number")),
    "no step": (place(step=None), unsound("step is None, not a whole number")),
    "a step before the first": (place(step=-4), unsound("step is -4, not at least 0")),
    "a best that is no number": (place(best=float("nan")), "best is nan, not from -1.79"),
    "a step after the last": (place(step=400), "(step 400, batch 2 of epoch 0"),
    "a batch after the last": (place(batch=400), "(step 2, batch 400 of epoch 0"),
    "a bit of a weight": (damaged_bit, unsound(DIGEST)),
    "another place": (
        state(lambda _, data: data.update(progress=data["progress"].replace('"batch": 2', '"batch": 1')), sealed=False),
        unsound(DIGEST),
    ),
    "no digest": (state(lambda _, data: data.pop("sha256"), sealed=False), unsound(DIGEST)),
    "a state cut short": (lambda out: os.truncate(out / "state.safetensors", 500), "not a sound state of a run ("),
    "a log cut short": (
        lambda out: os.truncate(out / "metrics.jsonl", 20),
        f"has 20 bytes, but the run had logged {{size}} when its state was saved; restore the file, or {RESTART}",
    ),
    "no log": (lambda out: (out / "metrics.jsonl").unlink(), "metrics.jsonl: has 0 bytes, but the run had logged "),
    "another log": (
        written("metrics.jsonl", b"[]\n" * 500),
        f"metrics.jsonl: damaged: line 1 is no record; restore the file, or {RESTART}",
    ),
    "a log of bytes": (written("metrics.jsonl", b"\xff" * 900), "metrics.jsonl: damaged: line 1 is no record; "),
    "a log of other figures": (
        lambda out: (out / "metrics.jsonl").write_bytes((out / "metrics.jsonl").read_bytes().replace(b"rate", b"rata")),
        f"metrics.jsonl: not what the run had logged; restore the file, or {RESTART}",
    ),
    "an empty summary": (written("summary.json", b"{}"), "summary.json: damaged: {first} is missing; "),
    "another summary": (
        written("summary.json", b"3"),
        f"summary.json: damaged: 3, no table; remove it, and --resume makes it again; or {RESTART}",
    ),
    "half a summary": (
        written("summary.json", b'{"task": '),
        "summary.json: is not JSON: Expecting value at line 1 column 10; remove it, and --resume makes it again; or ",
    ),
    "no settings": (written("run.toml", b""), "run.toml: damaged: settings is missing; restore it"),
    "no text": (written("run.toml", b"\xff\xfe"), "run.toml: not TOML, which is UTF-8: byte 0 is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
@pytest.mark.parametrize("damage", KILLED)
def test_a_damaged_run_is_not_resumed(runs, resumed, name, damage):
    harm, message = KILLED[damage]
    first = {"finetune": "task", "pretrain": "steps"}[name]
    size = (runs[0] / f"{name}-killed/metrics.jsonl").stat().st_size
    wanted = message.replace("{size}", str(size)).replace("{first}", first)
    assert wanted in resumed(name, "killed", harm)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "changed"),
    [
        ("finetune", "train.csv", b"film", b"plot", "train"),
        ("finetune", "dev.csv", b"film", b"plot", "dev"),
        ("finetune", "model/model.safetensors", b"", b"", "model"),
        ("finetune", "model/config.json", b'dropout_prob": 0.1', b'dropout_prob": 0.2', "model"),
        ("pretrain", "corpus.txt", b"film", b"plot", "corpus"),
        ("pretrain", "model/model.safetensors", b"", b"", "init"),
        ("pretrain", "model/config.json", b'dropout_prob": 0.1', b'dropout_prob": 0.2', "init"),
    ],
)
def test_a_run_is_not_resumed_with_other_contents(runs, resumed, name, file, old, new, changed):
    """Of the same size, under the same names; without `old`, the last byte is another."""
    path = runs[0] / file
    before = path.read_bytes()
    path.write_bytes(before.replace(old, new, 1) if old else before[:-1] + bytes([before[-1] ^ 1]))
    assert path.read_bytes() != before
    try:
        message = resumed(name, "killed", lambda out: None)
    finally:
        path.write_bytes(before)
    assert message == f"run: cannot resume: the contents of {changed} changed; restore it, or {RESTART}"


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["gone", "half", "a bit"])
def test_whatever_is_done_to_a_run_of_pretraining_it_ends_the_same_or_is_refused(runs, tmp_path, albert, harm):
    root, commands = runs
    wanted = (root / "pretrain-done/model.safetensors").read_bytes()
    for file in [path for path in (root / "pretrain-killed").rglob("*") if path.is_file()]:
        out = tmp_path / "run"
        shutil.copytree(root / "pretrain-killed", out)
        path = out / file.relative_to(root / "pretrain-killed")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(data if harm == "a bit" else data[: len(data) // 2])
        code, _, err = albert(*commands["pretrain"], "--out", out, "--resume")
        if code:
            assert (code, err.splitlines()[-1].startswith(f"albert: {out}")) == (1, True), err
        else:
            assert (out / "model.safetensors").read_bytes() == wanted, path
        shutil.rmtree(out)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_run_whose_model_is_gone_is_not_resumed(resumed, lost):
    message = resumed("finetune", "killed", lambda out: (out / lost).unlink())
    assert message == f"run: step 2 is saved, but lacks {lost}; restore what is missing, or {RESTART}"


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_a_finished_run_whose_model_is_gone_is_no_success(resumed, name):
    message = resumed(name, "done", lambda out: (out / "model.safetensors").unlink())
    assert message == f"run: the run is finished, but lacks model.safetensors; restore what is missing, or {RESTART}"


def test_a_summary_that_was_removed_is_made_again(runs, tmp_path, albert):
    root, commands = runs
    shutil.copytree(root / "finetune-done", tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    assert albert(*commands["finetune"], "--out", tmp_path / "run", "--resume")[0] == 0
    made, wanted = ((path / "summary.json").read_bytes() for path in (tmp_path / "run", root / "finetune-done"))
    assert made == wanted


def test_a_run_of_pretraining_is_told_from_a_damaged_one(runs, refused):
    out = runs[0] / "pretrain-done"
    for words in (("predict", out, "a film"), ("evaluate", out), ("answer", out, "what?", "a film")):
        assert refused(*words) == (
            f"{out}: a run of albert pretrain, which is fine-tuned for nothing yet; albert finetune TASK --model {out} "
            "does that"
        )


OTHER = "run.toml: of another run than the model beside it: "
RESTORE = "; restore the one that was changed"
TOML = [
    (
        LABELS,
        'labels = ["a", "b", "c"]',
        "and labels a, b, c, id2label is {'0': 'a', '1': 'b', '2': 'c'}, but in config.json {'0': 'neg', '1': 'pos'}",
        "run: cannot resume: labels was ('a', 'b', 'c'), now ('neg', 'pos'); restore it, or restart with --force",
    ),
    (LABELS, "labels = []", f"{OTHER}with kind classification and labels (none), id2label is ", "labels was (), now "),
    (LABELS, 'labels = ["a", "a"]', "run.toml: damaged: task.labels names a twice; restore it", None),
    (
        'kind = "classification"',
        'kind = "regression"',
        f"{OTHER}with kind regression and labels neg, pos, problem_type is 'regression', but in ",
        "run: cannot resume: kind was 'regression', now 'classification'; ",
    ),
    (
        'kind = "classification"',
        'kind = "sorting"',
        "run.toml: damaged: task.kind is 'sorting', not one of answers, classification, multi_label, ",
        None,
    ),
    ('name = "csv"', 'name = "xyz"', "run.toml: damaged: task.name is 'xyz', not one of ", None),
    ('name = "csv"', 'name = "SST-2"', "run.toml: damaged: task.name is 'SST-2', but settings.task is 'csv'; ", None),
    (
        "max_length = 16",
        "max_length = 5000",
        f"{OTHER}max_length is 5000, but the model takes 64 tokens{RESTORE}",
        "run: cannot resume: max_length was 5000, now 16; ",
    ),
    (
        "max_length = 16",
        "max_length = -5",
        "settings.max_length is -5, not from 1 to 2**63 - 1; restore it",
        "run.toml: max_length is -5, not from 1 to 2**63 - 1",
    ),
    ("no_answer = false", "no_answer = false\nmean = nan", "mean and spread of the labels are nan and None; ", None),
    ("[settings]", "[other]", "run.toml: damaged: settings is missing", None),
    ("[hashes]", "[other]", "run.toml: damaged: hashes is missing; restore it", None),
    ("seed = 42", f"seed = {'9' * 5000}", "run.toml: a whole number of thousands of digits; no setting is so", None),
    ("seed = 42", f"seed = {'[' * 2000}{']' * 2000}", "run.toml: lists or tables within one another, too deep", None),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message", "at_resume"), TOML, ids=range(len(TOML)))
def test_a_run_toml_that_is_not_the_models_is_refused(runs, tmp_path, refused, resumed, old, new, message, at_resume):
    def damage(out):
        text = (out / "run.toml").read_text()
        assert old in text
        (out / "run.toml").write_text(text.replace(old, new, 1))

    assert (at_resume or message) in resumed("finetune", "done", damage)
    for words in (("predict", tmp_path / "run", "a good film"), ("evaluate", tmp_path / "run")):
        assert message in refused(*words).replace(f"{tmp_path}/run/", "")


@pytest.mark.parametrize(
    ("key", "value"), [("id2label", {"0": "pos", "1": "neg"}), ("id2label", 3), ("problem_type", "regression")]
)
def test_a_config_that_is_not_the_runs_is_refused(runs, tmp_path, refused, key, value):
    shutil.copytree(runs[0] / "finetune-done", tmp_path / "run")
    path = tmp_path / "run/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    for words in (("predict", tmp_path / "run", "a good film"), ("evaluate", tmp_path / "run")):
        assert refused(*words).endswith(f", but in config.json {value!r}{RESTORE}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"event": "dev"}\n', "no readable log of a run: line 1 is no record; restore the file, or "),
        (b'{"event": "dev", "step": "1", "epoch": 1}\n', "no readable log of a run: line 1 is no record; "),
        (b'{"event": "dev", "step": 1, "epoch": 1}\n', "no log of a finished fine-tuning, for its records lack loss, "),
        (b"", "no log of a finished fine-tuning, for its records lack best"),
    ],
)
def test_curves_of_a_damaged_log_are_not_drawn(runs, tmp_path, refused, content, message):
    shutil.copytree(runs[0] / "finetune-done", tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_bytes(content)
    said = refused("evaluate", tmp_path / "run", "--curves", tmp_path / "curves.png")
    assert said.startswith(f"{tmp_path}/run/metrics.jsonl: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: "),
        ('["config.json"]', "damaged: ['config.json'], no table; "),
        ('{"files": 3}', "damaged: files is 3, not a list of texts; "),
        ('{"files": [3]}', "damaged: files[0] is 3, not a text in quotes; "),
    ],
)
def test_a_damaged_list_of_what_takes_a_runs_place_is_refused(runs, resumed, content, message):
    def damage(out):
        (out / ".replacement").mkdir()
        (out / ".replacement/placing.json").write_text(content)

    said = resumed("finetune", "done", damage)
    assert said.startswith(f".replacement/placing.json: {message}")
    assert said.endswith(RESTART)


def test_force_starts_again_whatever_lies_there(runs, tmp_path, albert):
    root, commands = runs
    out = tmp_path / "run"
    shutil.copytree(root / "finetune-killed", out)
    (out / ".replacement").mkdir()
    for path in ("run.toml", "summary.json", "metrics.jsonl", "state.safetensors", ".replacement/placing.json"):
        (out / path).write_bytes(b"\xff{")
    assert albert(*commands["finetune"], "--out", out, "--force")[0] == 0
    made, wanted = (json.loads((path / "summary.json").read_bytes()) for path in (out, root / "finetune-done"))
    assert made == wanted
    assert not (out / ".replacement").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spiece.json", b"{", "spiece.json: is not JSON: "),
        (
            "spiece.json",
            b'{"made_of": 1}',
            "spiece.json: damaged: made_of is 1, not a text in quotes; sha256 is missing",
        ),
        ("spiece.model", b"", "spiece.model: its SHA-256 is not that in spiece.json"),
        ("spiece.model", b"other", "spiece.model: its SHA-256 is not that in spiece.json"),
    ],
)
def test_a_damaged_vocabulary_of_a_run_is_refused(tmp_path, name, content, message):
    made, stamp = tmp_path / "spiece.model", tmp_path / "spiece.json"
    made.write_bytes(b"pieces")
    stamp.write_text(json.dumps({"made_of": "x", "sha256": hashlib.sha256(b"pieces").hexdigest()}))
    assert _kept_vocabulary(made, stamp, "x", resuming=True) == b"pieces"
    assert _kept_vocabulary(made, stamp, "y", resuming=True) is None
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AlbertError) as caught:
        _kept_vocabulary(made, stamp, "x", resuming=True)
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; remove {stamp}, and the vocabulary is trained again")
    assert _kept_vocabulary(made, stamp, "x", resuming=False) is None
