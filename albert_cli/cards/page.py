"""The page itself: front matter that huggingface_hub checks, and a few sections of Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_cli.cards.origin import Origin
from albert_cli.markdown import plain
from converters import spec
from converters.checkpoint import Checkpoint
from converters.families import family_of

# The Hub's task by the head that a model has; of several the first counts.
_TASKS = {
    "classifier": "text-classification",
    "first_token": "text-classification",
    "tokens": "token-classification",
    "qa": "question-answering",
    "choice": "multiple-choice",
    "mlm": "fill-mask",
}
_SENTENCES, _FEATURES = "sentence-similarity", "feature-extraction"
_COMMANDS = {
    "text-classification": 'albert predict {here} "A text."',
    "token-classification": 'albert predict {here} "A text."',
    "multiple-choice": 'albert predict {here} "A text." "A question?" "A choice" "Another"',
    "question-answering": 'albert answer {here} "A question?" "A text with the answer."',
    "fill-mask": 'albert fill-mask "A text with a <mask>." --model {here}',
    _SENTENCES: 'albert similarity "One text." "Another one." --model {here}',
    _FEATURES: "albert embed --in texts.txt --model {here}",
}
# What the Hub calls our metrics, where that is something else.
_METRICS = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "subset_accuracy": "accuracy",
    "matthews": "matthews_correlation",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
    "exact": "exact_match",
}


@dataclass(frozen=True)
class Results:
    """What was measured: `metrics` by our names, on a `split` of the data set `dataset`, which is on the Hub as `id`,
    with that `config`, or nowhere."""

    metrics: Mapping[str, float]
    dataset: str
    split: str
    id: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class Card:
    """A model's page. `own_head`: its head lies in a file that only `albert` reads. `sections`: a title and what is
    below, of how the model was made."""

    name: str
    summary: str
    checkpoint: Checkpoint
    origin: Origin
    sections: Sequence[tuple[str, str]]
    results: Results | None = None
    task: str | None = None
    own_head: bool = False
    derived: bool = True
    tags: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """The whole page."""
        parts = [f"---\n{self._front_matter()}\n---", f"# {plain(self.name)}", self.summary, "## Use", self._use()]
        for title, below in self.sections:
            parts += [f"## {title}", below]
        return "\n\n".join(parts) + "\n"

    @property
    def pipeline(self) -> str:
        """The Hub's task."""
        parts = self.checkpoint.components
        found = next((task for head, task in _TASKS.items() if head in parts), _FEATURES)
        return self.task or (_SENTENCES if self.checkpoint.sentence else found)

    def _front_matter(self) -> str:
        from huggingface_hub import ModelCardData

        config = self.checkpoint.config
        library = "albert-cli" if self.own_head else "transformers"
        library = "sentence-transformers" if self.checkpoint.sentence and not self.own_head else library
        results = self._results()
        facts: dict[str, Any] = {
            **{name: value for name, value in self.origin.facts.items() if name != "base_model"},
            "library_name": library,
            "pipeline_tag": self.pipeline,
            "tags": list(dict.fromkeys([config.family, *self.tags])),
            "base_model": self.origin.repository if self.derived else None,
            "datasets": [self.results.id] if self.results and self.results.id else None,
            "metrics": list(dict.fromkeys(item.metric_type for item in results)) or None,
        }
        if results:
            facts |= {"model_name": self.name, "eval_results": results}
        data = ModelCardData(**{name: value for name, value in facts.items() if value is not None})
        return str(data.to_yaml()).strip()

    def _results(self) -> list[Any]:
        from huggingface_hub import EvalResult

        found = self.results
        if found is None:
            return []
        return [
            EvalResult(
                task_type=self.pipeline,
                dataset_type=found.id or "custom",
                dataset_name=found.dataset,
                dataset_config=found.config,
                dataset_split=found.split,
                metric_type=_METRICS.get(name, name),
                metric_name=name,
                metric_value=round(value, 6),
            )
            for name, value in found.metrics.items()
            if math.isfinite(value)
        ]

    def _use(self) -> str:
        """How to load the model, in this directory or by its name on the Hub."""
        blocks = [f"```\n{_COMMANDS[self.pipeline].format(here='.')}\n```"]
        name = spec.architecture(self.checkpoint.tensors, self.checkpoint.config)
        declared = self.checkpoint.config.extra.get("architectures")
        if isinstance(declared, list) and declared and declared[0] in family_of(self.checkpoint.config).classes:
            name = declared[0]
        if self.checkpoint.sentence is not None:
            lines = "from sentence_transformers import SentenceTransformer"
            blocks.append(f'```python\n{lines}\n\nmodel = SentenceTransformer(".")\n```')
        lines = f"from transformers import {', '.join(sorted((name, 'AutoTokenizer')))}"
        load = f'model = {name}.from_pretrained(".")'
        if self.checkpoint.tokenizer:
            load = f'tokenizer = AutoTokenizer.from_pretrained(".")\n{load}'
        else:
            lines = f"from transformers import {name}"
        said = "The encoder, without the head, which is in `head.safetensors`:\n\n" if self.own_head else ""
        blocks.append(f"{said}```python\n{lines}\n\n{load}\n```")
        return "\n\n".join(blocks)


def named(directory: Path) -> str:
    """What a model is called that lies in a directory."""
    return Path(directory).resolve().name or "model"
