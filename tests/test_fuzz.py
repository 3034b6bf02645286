"""Random damage to a model of every format, through `convert` and `embed`: our own error in one line, or a result.

Each damage follows from its number, so that `ALBERT_FUZZ=name:number` repeats it. It runs in a process of its own,
in which everything is imported: what ends that process, or never returns, is told from what raises.
"""

import json
import os
import random
import re
import shutil
import signal
import tarfile
import time
import traceback
import warnings
import zipfile

import fairseq_models
import making
import pytest
import torch
from bert_modules import BERT
from corruptions import formats

from converters import convert

MANY, FEW, BLOCK = 2000, 12, 50
MOST_SECONDS = 20
TEXTS = ["the cab", "", "a é 中, ing"]
# Values that a key of a JSON document gets.
VALUES = (-1, 0, 1, 10**6, 2**40, 10**30, 1.5, "", "x", "\ud800", "false", None, True, [], [[]], {}, [0] * 50, "é" * 99)


def _hugging_face(folder):
    convert.save(making.model(), folder / "hf", format="safetensors")
    return folder / "hf"


def _sentence_transformers(folder):
    """With all the JSON files that say how a text is embedded."""
    path = _hugging_face(folder)
    stack = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {
        "modules.json": [
            {"idx": n, "name": str(n), "path": p, "type": f"sentence_transformers.models.{kind}"}
            for n, (p, kind) in enumerate(stack)
        ],
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "a "}, "default_prompt_name": "query"},
        "1_Pooling/config.json": {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True},
        "added_tokens.json": {"<e1>": 18},
        "special_tokens_map.json": {"cls_token": "[CLS]", "mask_token": {"content": "[MASK]", "lstrip": True}},
    }
    for name, data in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(data))
    (path / "2_Normalize").mkdir()
    return path


def _wordpiece(folder):
    from converters.initialize import initialize
    from converters.tokenizers.files import TokenizerFiles

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdeing", "the", "##a", "##b", "ca"]
    files = TokenizerFiles.of("it", wordpiece="".join(f"{word}\n" for word in words).encode())
    convert.save(initialize(BERT, files, seed=0), folder / "bert", format="safetensors")
    return folder / "bert"


def _fairseq(folder):
    folder.mkdir(exist_ok=True)
    fairseq_models.write(folder / "fairseq", {"model": fairseq_models.state(), "args": fairseq_models.namespace()})
    return folder / "fairseq"


def _tgz(folder):
    with tarfile.open(folder / "m.tgz", "w:gz") as archive:
        archive.add(_hugging_face(folder), "m")
    shutil.rmtree(folder / "hf")
    return folder / "m.tgz"


def _zip(folder):
    path = _hugging_face(folder)
    with zipfile.ZipFile(folder / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.iterdir()):
            archive.write(file, f"m/{file.name}")
    shutil.rmtree(path)
    return folder / "m.zip"


def _pipeline(folder):
    """A tokenizer.json in the place of the vocabulary."""
    path = _hugging_face(folder)
    (path / "spiece.model").unlink()
    return path


MAKERS = {name: module.make for name, module in formats().items()} | {
    "fairseq": _fairseq,
    "sentence-transformers": _sentence_transformers,
    "wordpiece": _wordpiece,
    "tokenizer.json": _pipeline,
    "tgz": _tgz,
    "zip": _zip,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound model of each kind, made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(re.sub(r"\W", "-", name)))
        return made[name]

    return of


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("name", MAKERS)
def test_damage_gives_our_error_or_a_result(tmp_path, sound, name, count):
    chosen = os.environ.get("ALBERT_FUZZ", "").partition(":")
    numbers = range(count) if chosen[0] != name else [int(chosen[2])]
    faults = []
    for first in range(0, len(numbers), BLOCK):
        faults += _in_a_process(sound(name), tmp_path / "work", name, numbers[first : first + BLOCK])
    assert not faults, "\n\n".join(faults)


def _in_a_process(source, work, name, numbers):
    """What goes wrong with these damages; a process that dies is started again after the one that ended it."""
    faults, left = [], list(numbers)
    while left:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        log = work / "log"
        child = os.fork()
        if child == 0:
            try:
                _child(source, work, log, name, left)
            finally:
                os._exit(0)
        started, seen = time.monotonic(), 0
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            time.sleep(0.02)
            if (size := log.stat().st_size if log.exists() else 0) != seen:
                started, seen = time.monotonic(), size
            if time.monotonic() - started > MOST_SECONDS * 5:  # of the clock, on a busy machine
                os.kill(child, signal.SIGKILL)
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        begun = [line["number"] for line in lines if "fault" not in line]
        faults += [f"{name}:{line['number']}: {line['fault']}" for line in lines if line.get("fault")]
        ended = {line["number"] for line in lines if "fault" in line}
        if begun and begun[-1] not in ended:
            faults.append(f"{name}:{begun[-1]}: the process ended (status {done[1]}) or did not return")
        left = left[left.index(begun[-1]) + 1 :] if begun else []
    return faults


def _child(source, work, log, name, numbers):
    """Try each damage; the log has a line before, and one with the fault, if any, after."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with open(log, "a") as out:
        for number in numbers:
            print(json.dumps({"number": number}), file=out, flush=True)
            print(json.dumps({"number": number, "fault": _fault(source, work, name, number)}), file=out, flush=True)


def _fault(source, work, name, number):
    """What is wrong with how a damaged model was treated; None where all is well."""
    from albert_cli.embedding.embedder import Embedder
    from converters.errors import AlbertError

    for old in work.iterdir():
        if old.name != "log":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    path = work / source.name
    shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
    said = damage(path, random.Random(f"{name} {number}"))
    target = "torch" if number % 2 else "safetensors"
    for what, action in (
        ("convert", lambda: convert.convert(path, work / "out", target_as=target)),
        ("embed", lambda: Embedder.from_pretrained(str(path)).embed(TEXTS)),
    ):
        before = sorted(entry.name for entry in work.iterdir())
        started = time.process_time()
        try:
            action()
        except AlbertError as error:
            text = str(error)
            if "\n" in text or not text.isprintable():
                return f"{what} of {said}: not one printable line: {text!r}"
            if sorted(entry.name for entry in work.iterdir()) != before:
                return f"{what} of {said}: left {sorted(entry.name for entry in work.iterdir())} ({text})"
        except BaseException:
            return f"{what} of {said}:\n{traceback.format_exc()}"
        if time.process_time() - started > MOST_SECONDS:
            return f"{what} of {said}: took {time.process_time() - started:.0f} s"
    return None


def damage(path, generator):
    """Change one file of a model, or several bytes of it; what was done, in a few words."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = generator.choice(files)
    data = bytearray(file.read_bytes())
    if file.suffix == ".json" and generator.random() < 0.7:
        document, said = _changed_value(json.loads(data), generator)
        file.write_text(json.dumps(document))
        return f"{file.name}: {said}"
    kind = generator.choice(["flip", "flips", "cut", "insert", "zeros", "ones", "repeat", "swap", "number", "empty"])
    place = generator.randrange(max(1, len(data)))
    size = generator.choice([1, 2, 4, 8, 64, 1000])
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 20):
            if data:
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "insert":
        data[place:place] = generator.randbytes(size)
    elif kind in ("zeros", "ones"):
        data[place : place + size] = bytes([0 if kind == "zeros" else 255]) * len(data[place : place + size])
    elif kind == "repeat":
        data[place:place] = data[place : place + size]
    elif kind == "swap":
        other = generator.randrange(max(1, len(data)))
        data[place : place + size] = data[other : other + size]
    elif kind == "number":
        data[place : place + 4] = generator.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16]).to_bytes(4, "little")
    else:
        data.clear()
    file.write_bytes(data)
    return f"{file.name}: {kind} at {place}, {size}"


def _changed_value(document, generator):
    """One value somewhere in a JSON document changed, removed or added."""
    places = []

    def walk(item):
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else []
        for key in keys:
            places.append((item, key))
            walk(item[key])

    walk(document)
    if not places:
        return generator.choice(VALUES), "the whole document"
    item, key = generator.choice(places)
    if generator.random() < 0.2:
        del item[key]
        return document, f"without {key!r}"
    item[key] = generator.choice(VALUES)
    return document, f"{key!r} is {item[key]!r:.60}"
