"""The commands as a user meets them: output, exit codes, JSON, pipes and start-up time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import Program
from typer.testing import CliRunner

from albert_cli.main import app
from converters import convert, roles
from converters.dialects import to_google
from converters.families.albert import PRESETS

ROOT = Path(__file__).parents[1]
SMALL = {
    "vocab_size": 40,
    "embedding_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def run(*arguments):
    """Run the command line in this process; errors that main() would put into one line are raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def albert(*arguments, **options):
    """Run the real program."""
    command = [sys.executable, "-m", "albert_cli.main", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert run("init", tmp_path / "hf", "--model-config", tmp_path / "config.json").exit_code == 0
    return tmp_path / "hf"


def loaded_by(words, names):
    """What `albert WORDS` prints, and which of the modules `names` it has loaded at its end."""
    code = (
        f"import sys; sys.argv = ['albert', *{words!r}]\n"
        "import atexit; from albert_cli.main import main\n"
        f"atexit.register(lambda: print('LOADED', *[name for name in {names.split()!r} if name in sys.modules]))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    shown, _, loaded = done.stdout.rpartition("LOADED")
    return shown, loaded.split()


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "numpy torch tensorflow transformers ml_dtypes sentencepiece safetensors pyarrow matplotlib"
    shown, loaded = loaded_by(["--help"], heavy)
    assert loaded == []
    for command in ("convert", "diff", "init", "inspect"):
        assert command in shown


def test_a_command_that_is_asked_for_is_loaded_alone_with_nothing_it_does_not_need():
    heavy = "tensorflow transformers pyarrow matplotlib scipy sklearn pandas torch._dynamo accelerate"
    ours = "albert_cli.commands.fill_mask albert_cli.commands.embed albert_cli.training"
    shown, loaded = loaded_by(["fill-mask", "A cup of [MASK]."], f"{heavy} {ours}")
    assert shown.startswith("A cup of [MASK].\n")
    assert loaded == ["albert_cli.commands.fill_mask"]


@pytest.mark.parametrize("command", ["embed", "similarity"])
def test_pyarrow_does_not_load_pandas(tmp_path, command):
    """It would, where pandas is installed, to ask whether a list is one of its arrays."""
    (tmp_path / "texts.txt").write_text("a cup of tea\nthen we left\n")
    words = [command, "--in", str(tmp_path / "texts.txt")]
    words += ["--out", str(tmp_path / "x.parquet")] if command == "embed" else []
    shown, loaded = loaded_by(words, "pandas pyarrow torch")
    assert shown
    assert loaded == ["pyarrow", "torch"]


def test_what_a_training_needs_at_its_end_alone_is_not_loaded_before():
    code = (
        "import sys, albert_cli.training.session\n"
        "print([name for name in 'matplotlib scipy sklearn pandas torch._dynamo'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_an_unknown_command_is_compared_with_all():
    done = albert("fil-mask")
    assert done.returncode == 2
    assert "No such command 'fil-mask'. Did you mean 'fill-mask'?" in done.stderr


INTERRUPTED = "albert: interrupted; nothing was left half-written, and there is nothing to resume\n"
BEGIN = "import os, signal, sys, time\nfrom albert_cli import interruption, main\ndef app(**options):\n"
END = "\nmain.build = lambda only: app\nmain.main()"
STOP = "os.kill(os.getpid(), signal.{}); time.sleep(60)"


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    "work",
    [
        # As zipfile does, which cannot close an archive whose member is still open.
        "    try: {stop}\n    finally: raise ValueError('an open writing handle')",
        # As libraries in C++ do: nothing leads from their error back to the exception.
        "    try: {stop}\n    except BaseException: pass\n    raise RuntimeError('unexpected pos 128 vs 64')",
        "    try: {stop}\n    except BaseException: pass\n    sys.exit(1)",
        # torch.save itself, whose callback is interrupted.
        (
            "    import torch\n    class File:\n        def write(self, data):\n"
            "            if not interruption.stopping(): {stop}\n    torch.save([1], File())"
        ),
    ],
    ids=["another error on the way out", "an error of its own", "an exit", "torch.save"],
)
def test_an_interruption_is_reported_whatever_a_library_makes_of_it(work, number, code):
    with Program(code=BEGIN + work.format(stop=STOP.format(number)) + END) as process:
        assert process.wait() == code, process.said()
    assert process.said() == INTERRUPTED


def test_what_is_kept_is_said_whatever_a_library_makes_of_an_interruption():
    work = (
        "    with interruption.keeping(lambda: ('7 blocks are kept; resume with', 'albert it --resume')):\n"
        f"        try: {STOP.format('SIGINT')}\n        except BaseException: pass\n        raise RuntimeError"
    )
    with Program(code=BEGIN + work + END) as process:
        assert process.wait() == 130
    assert process.said() == "albert: interrupted; 7 blocks are kept; resume with: albert it --resume\n"


def test_work_that_was_finished_all_the_same_is_not_called_interrupted():
    with Program(
        code=f"{BEGIN}    try: {STOP.format('SIGINT')}\n    except BaseException: sys.exit(0){END}"
    ) as process:
        assert process.wait() == 0
    assert process.said() == ""


def test_tensorflow_comes_without_keras_until_somebody_asks_for_it(model, tmp_path):
    code = (
        "import sys; from converters.convert import convert\n"
        f"convert({str(model)!r}, {str(tmp_path / 'out')!r}, target_as='saved-model')\n"
        "print([name for name in ('tensorflow', 'keras', 'matplotlib') if name in sys.modules])\n"
        "import tensorflow as tf\n"
        "print(tf.keras.layers.Dense(2)(tf.ones([1, 3])).shape)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stdout.splitlines() == ["['tensorflow']", "(1, 2)"]


@pytest.mark.parametrize("command", ["convert", "diff", "init", "inspect"])
def test_every_command_has_help_with_examples(command):
    text = run(command, "--help").stdout
    assert f"albert {command}" in text
    assert "Examples:" in text


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert run("--version").stdout.splitlines()[0] == f"albert {version('albert-cli')}"


def test_convert_says_what_it_did(model, tmp_path):
    done = run("convert", model, tmp_path / "m.npz")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"converted  {model} (safetensors) -> {tmp_path / 'm.npz'} (npz)"
    assert lines[1].startswith("proved     32 tensors, ")
    assert lines[1].endswith("bytes: read back, SHA-256 equal")
    assert lines[2:] == ["tokenizer  none", "step       global_step 0 kept"]


def test_convert_json_is_one_document_with_the_digest_of_every_tensor(model, tmp_path):
    data = json.loads(run("convert", model, tmp_path / "m.npz", "--json").stdout)
    assert data["target_format"] == "npz"
    assert (data["absent"], data["heads"]) == ([], ["mlm", "sop"])
    assert data["dropped"] == {}
    inspected = json.loads(run("inspect", tmp_path / "m.npz", "--tensors", "--json").stdout)
    assert {item["name"]: item["sha256"] for item in inspected["tensors"]} == data["digests"]


def test_a_bare_directory_becomes_a_hugging_face_one(model, tmp_path):
    """Whatever the source is: also where it is one itself, and then that is said."""
    copy = "note       the source is safetensors too, so this is a copy; --to names another format"
    for source in (model, "built-in", model / "model.safetensors"):
        target = tmp_path / f"out-{Path(source).stem}"
        lines = run("convert", source, target).stdout.splitlines()
        assert lines[0] == f"converted  {source} (safetensors) -> {target} (safetensors)"
        assert [line for line in lines if line.startswith("note")] == [copy]
        assert run("diff", source, target).exit_code == 0
    run("convert", model, tmp_path / "m.npz")
    for source in (tmp_path / "m.npz", model):
        extra = ["--to", "safetensors"] if source == model else []
        done = run("convert", source, tmp_path / f"from-{source.stem}", *extra)
        assert done.stdout.splitlines()[0].endswith("(safetensors)")
        assert "note" not in done.stdout


def test_cast_reports_its_largest_error(model, tmp_path):
    done = run("convert", model, tmp_path / "half", "--dtype", "float16")
    assert "tensors to float16, largest error " in done.stdout
    data = json.loads(run("convert", model, tmp_path / "bf16", "--dtype", "bfloat16", "--json").stdout)
    import ml_dtypes
    from safetensors.numpy import load_file

    before = load_file(model / "model.safetensors")
    errors = {
        name: float(np.abs(a.astype(ml_dtypes.bfloat16).astype(np.float64) - a.astype(np.float64)).max())
        for name, a in before.items()
    }
    assert data["cast"]["max_abs_error"] == max(errors.values())
    assert errors[data["cast"]["worst"]] == max(errors.values())


def test_cast_that_changes_nothing_reports_it(model, tmp_path):
    done = run("convert", model, tmp_path / "same", "--dtype", "float32")
    assert "cast       0 tensors to float32, no value changed" in done.stdout


def test_cast_refuses_a_value_that_does_not_fit(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(model / "model.safetensors")
    arrays["albert.pooler.bias"][3] = 1e6
    save_file(arrays, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(Exception, match=r"albert\.pooler\.bias holds 1e\+06, beyond the largest float16 \(65504\)"):
        convert.convert(model, tmp_path / "half", dtype="float16")
    assert not (tmp_path / "half").exists()


def test_diff_of_equal_models_exits_0_and_of_others_1(model, tmp_path):
    run("convert", model, tmp_path / "m.npz")
    same = run("diff", model, tmp_path / "m.npz")
    assert (same.exit_code, same.stdout) == (0, "equal: 32 tensors bit for bit, config and tokenizer\n")
    run("convert", model, tmp_path / "half", "--dtype", "float16")
    other = run("diff", model, tmp_path / "half")
    assert other.exit_code == 1
    assert "float32 against float16, max abs " in other.stdout
    assert other.stdout.endswith("0 of 32 tensors are equal\n")


def test_diff_names_the_place_of_the_largest_gap(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    run("convert", model, tmp_path / "other", "--to", "safetensors")
    arrays = load_file(tmp_path / "other/model.safetensors")
    arrays["albert.pooler.weight"][5, 7] += 0.5
    del arrays["sop_classifier.classifier.bias"], arrays["sop_classifier.classifier.weight"]
    save_file(arrays, tmp_path / "other/model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps(config | {"initializer_range": 0.5}))
    done = run("diff", model, tmp_path / "other", "--json")
    data = json.loads(done.stdout)
    assert done.exit_code == 1
    found = {item["name"]: (item["kind"], item["detail"]) for item in data["differences"]}
    assert found["albert.pooler.weight"] == ("differs", "max abs 0.5 at [5, 7]")
    assert found["sop_classifier.classifier.bias"] == ("missing", f"not in {tmp_path / 'other'}")
    assert found["config initializer_range"] == ("differs", "0.02 against 0.5")
    assert found["global_step"] == ("differs", "0 against None")
    assert data["equal_tensors"] == data["tensors"] - 3


def test_diff_reports_signs_of_zero_and_nan_bits(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    run("convert", model, tmp_path / "other", "--to", "safetensors")
    arrays = load_file(tmp_path / "other/model.safetensors")
    arrays["albert.pooler.bias"][2] = -0.0
    save_file(arrays, tmp_path / "other/model.safetensors", {"format": "pt", "global_step": "0"})
    done = run("diff", model, tmp_path / "other")
    assert done.exit_code == 1
    assert "same values, other bits" in done.stdout


def test_inspect_counts_parameters_and_compares_with_bert(tmp_path):
    config = to_google(PRESETS["large"]) | {"vocab_size": 30000}
    (tmp_path / "albert_config.json").write_text(json.dumps(config))
    run("init", tmp_path / "large.npz", "--model-config", tmp_path / "albert_config.json")
    data = json.loads(run("inspect", tmp_path / "large.npz", "--json").stdout)
    # The paper's table 1 rounds these to 18M and 334M.
    assert data["parameters_without_heads"] == 17_683_968
    assert data["bert_of_same_shape"] == 334_607_360
    assert "18.9x fewer" in run("inspect", tmp_path / "large.npz").stdout
    assert data["heads"] == dict.fromkeys(roles.HEADS, False) | {"mlm": True, "sop": True}
    assert data["not_finite"] == {"nan": 0, "infinite": 0, "tensors": {}}


@pytest.mark.parametrize(
    ("changes", "sharing", "fewer"),
    [
        ({}, "all: the same weights in every layer", "2.5x fewer"),
        ({"num_hidden_groups": 2}, "all: the same weights in every layer of a group", "48% fewer"),
        ({"num_hidden_groups": 4}, "none: each layer has weights of its own", "24% fewer"),
        ({"num_hidden_groups": 4, "share": "none"}, "none: each layer has weights of its own", "24% fewer"),
        (
            {"num_hidden_groups": 4, "share": "attention"},
            "attention: the same in every layer; the feed-forward network is each layer's own",
            "42% fewer",
        ),
        (
            {"num_hidden_groups": 4, "share": "ffn"},
            "ffn: the same in every layer; the attention is each layer's own",
            "42% fewer",
        ),
        ({"num_hidden_groups": 4, "embedding_size": 16}, "none: each layer has weights of its own", "2% more"),
    ],
)
def test_inspect_names_what_is_shared(tmp_path, changes, sharing, fewer):
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"num_hidden_layers": 4} | changes))
    run("init", tmp_path / "m", "--model-config", tmp_path / "config.json")
    lines = dict(line.split(maxsplit=1) for line in run("inspect", tmp_path / "m").stdout.splitlines() if " " in line)
    assert lines["sharing"] == sharing
    assert lines["against"].endswith(f": {fewer}")
    assert json.loads(run("inspect", tmp_path / "m", "--json").stdout)["share"] == sharing.partition(":")[0]


def test_inspect_gives_the_same_weights_digest_in_every_format(model, tmp_path):
    run("convert", model, tmp_path / "m.npz")
    digests = {
        json.loads(run("inspect", path, "--json").stdout)["weights_sha256"] for path in (model, tmp_path / "m.npz")
    }
    assert len(digests) == 1


def test_init_is_reproducible_and_seeds_differ(model, tmp_path):
    for name, seed in (("a", 42), ("b", 42), ("c", 43)):
        run("init", tmp_path / f"{name}.npz", "--model-config", tmp_path / "config.json", "--seed", seed)
    a, b, c = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert run("diff", model, tmp_path / "a.npz").exit_code == 0


def test_init_draws_as_google_does(tmp_path):
    run("init", tmp_path / "t.npz", "--preset", "tiny")
    with np.load(tmp_path / "t.npz") as file:
        weights = file["weights/bert/embeddings/word_embeddings"]
        assert abs(weights).max() <= 0.02 * 2
        assert abs(weights.std() / 0.02 - 0.8796) < 0.01  # of a normal cut at two deviations
        assert not file["weights/bert/pooler/dense/bias"].any()
        assert (file["weights/bert/embeddings/LayerNorm/gamma"] == 1).all()


def test_init_with_a_tokenizer_takes_its_size(tmp_path):
    lines = ["<pad>\t0", "<unk>\t0", "[CLS]\t0", "[SEP]\t0", "[MASK]\t0", "▁a\t-1.5", "b\t-2.25"]
    (tmp_path / "own.vocab").write_text("\n".join(lines) + "\n")
    run("init", tmp_path / "m", "--preset", "tiny", "--tokenizer", tmp_path / "own.vocab")
    data = json.loads(run("inspect", tmp_path / "m", "--json").stdout)
    assert data["config"]["vocab_size"] == 7
    assert (tmp_path / "m/spiece.model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("convert nowhere out", "nowhere: no such file, directory or checkpoint"),
        ("convert hf out.tar", "out.tar: no format writes a .tar file (but .tfbson .bson .npz); say --to {choices}"),
        ("convert hf out.pt", "out.pt: no format writes a .pt file (but .tfbson .bson .npz); say --to {choices}"),
        ("convert hf out.gguf", "out.gguf: no format writes a .gguf file (but .tfbson .bson .npz); say --to {choices}"),
        (
            "init out.H5 --preset tiny",
            "out.H5: no format writes a .H5 file (but .tfbson .bson .npz); say --to {choices}",
        ),
        (
            "pretrain --corpus hf --steps 1 --out run.csv",
            "run.csv: a run is a directory, not a .csv file; name one without this ending",
        ),
        ("finetune csv --out r.zip", "r.zip: a run is a directory, not a .zip file; name one without this ending"),
        ("inspect empty", "empty: a directory that holds no model of a known format ({formats})"),
        (
            "convert bf16 out.npz",
            (
                "npz holds float32, float16; 32 tensors are bfloat16, as albert.embeddings.word_embeddings.weight: "
                "add --dtype float32"
            ),
        ),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_1(model, tmp_path, albert, monkeypatch, arguments, message):
    (tmp_path / "empty").mkdir()
    run("convert", model, tmp_path / "bf16", "--dtype", "bfloat16")
    known = convert.formats()
    writable = [name for name, module in known.items() if hasattr(module, "write")]
    expected = message.format(
        formats=", ".join(known),
        choices=" or --to ".join(writable),
    )
    monkeypatch.chdir(tmp_path)
    assert albert(*arguments.split()) == (1, "", f"albert: {expected}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("convert hf out --from bson5", "'bson5' is no format here; the formats are {formats}; did you mean 'bson'?"),
        ("convert hf out --to npzz", "'npzz' is no format here; the formats are {writable}; did you mean 'npz'?"),
        ("finetune qnly", "'qnly' is no task here; the tasks are {tasks}; did you mean 'qnli'?"),
        ("finetune csv --model hf", "csv has no training data; name it with --data DIR or --train FILE"),
        (
            "finetune csv --train config.json --resume --force",
            "--resume and --force are mutually exclusive",
        ),
        (
            "pretrain --corpus config.json --steps 1 --resume --force",
            "--resume and --force are mutually exclusive",
        ),
    ],
)
def test_a_request_without_meaning_exits_2(model, tmp_path, albert, monkeypatch, arguments, message):
    from albert_cli import tasks

    known = convert.formats()
    writable = ", ".join(name for name, module in known.items() if hasattr(module, "write"))
    monkeypatch.chdir(tmp_path)
    expected = message.format(formats=", ".join(known), writable=writable, tasks=", ".join(tasks.names()))
    code, out, err = albert(*arguments.split())
    assert (code, out, err.splitlines()[-1]) == (2, "", f"albert: {expected}")


def test_a_published_name_that_is_misspelt(tmp_path, albert, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = "no such file or directory here, and no published model"
    for words in (["inspect", "albert-bsae-v2"], ["tokenize", "a", "--model", "albert-bsae-v2"]):
        assert albert(*words) == (
            1,
            "",
            f"albert: albert-bsae-v2: {gone}; did you mean 'albert-base-v2'?\n",
        )


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "albert_cli", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("albert ")


def test_a_tokenizer_or_a_text_is_not_overwritten_by_what_is_made_of_it(model, tmp_path, refused):
    (tmp_path / "t.txt").write_text("a b\n")
    (tmp_path / "link.txt").symlink_to("t.txt")
    lines = ["<pad>\t0", "<unk>\t0", "[CLS]\t0", "[SEP]\t0", "[MASK]\t0", "▁a\t-1.5", "b\t-2.25"]
    (tmp_path / "own.vocab").write_text("\n".join(lines) + "\n")
    words = ["tokenize", "--model", tmp_path / "own.vocab", "--force"]
    for out in ("t.txt", "link.txt"):
        message = refused(*words, "--in", tmp_path / "t.txt", "--out", tmp_path / out)
        assert message == (
            f"{tmp_path / out}: the target is the source itself ({tmp_path / 't.txt'}); name another target"
        )
    (tmp_path / "own.txt").hardlink_to(tmp_path / "own.vocab")
    assert "the target is the source itself" in refused(
        *words, "--in", tmp_path / "t.txt", "--out", tmp_path / "own.txt"
    )


def test_wrong_usage_exits_2():
    assert albert("convert").returncode == 2
    done = albert("init", "out")
    assert done.returncode == 2
    assert "give either --preset or --model-config" in done.stderr


def test_a_closed_pipe_is_no_traceback(model):
    command = f"{sys.executable} -m albert_cli.main inspect {model} --tensors --json | head -n 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert (done.stdout, done.stderr) == ("{\n", "")
