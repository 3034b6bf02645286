"""albert inspect: what a model is, without loading it into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, options
from converters.dialects import to_hf

if TYPE_CHECKING:
    from converters.checkpoint import Checkpoint
    from converters.family import Family

app = typer.Typer()

# The variants of the paper's table 4.
_SHARING = {
    "all": "the same weights in every layer{}",
    "attention": "the same in every layer; the feed-forward network is each layer's own",
    "ffn": "the same in every layer; the attention is each layer's own",
    "none": "each layer has weights of its own",
}


@app.command(rich_help_panel="Look")
def inspect(
    model: options.Model,
    source_as: options.From = None,
    model_config: options.PartialModelConfig = None,
    heads: options.Heads = None,
    part: options.Part = None,
    classification_head: options.ClassificationHead = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with its shape and SHA-256.")] = False,
    json: options.Json = False,
) -> None:
    """Show what a model is: format, config, parameters, heads, tokenizer, SHA-256.

    The SHA-256 of the weights is the same in every format, so two models can be compared at a glance.

    Examples:

        albert inspect albert_base_v2/

        albert inspect hf/ --tensors --json

        albert inspect albert/albert-base-v2
    """
    from albert_cli.registry import resolve
    from converters import proof
    from converters.choices import Choices

    checkpoint = resolve.resolve(model).load(
        format=source_as, choices=Choices(model_config, heads, part, classification_head)
    )
    with console.progress_bytes() as progress:
        survey = proof.survey(checkpoint, progress)
    digests = survey.digests
    facts = _facts(checkpoint) | {
        "weights_sha256": proof.weights_digest(checkpoint, digests),
        "not_finite": survey.counts(),
    }
    listed: list[dict[str, Any]] = [
        {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype.name, "sha256": digests[name]}
        for name, tensor in checkpoint.tensors.items()
    ]
    if json:
        console.print_json(facts | ({"tensors": listed} if tensors else {}))
        return
    _print(facts)
    if tensors:
        console.say()
        rows = [(item["name"], str(item["shape"]), item["dtype"], item["sha256"][:16]) for item in listed]
        console.print_table(rows, ("tensor", "shape", "dtype", "SHA-256"))


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    from converters import convert, roles, spec

    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    parameters = spec.parameters(shapes, checkpoint.config)
    present = checkpoint.components
    model = sum(count for part, count in parameters.items() if part not in roles.HEADS)
    config = checkpoint.config
    bert = spec.bert_parameters(config, pooler="pooler" in present)
    against = {"bert_of_same_shape": bert, "times_fewer": round(bert / model, 1)}
    return {
        "path": checkpoint.where,
        "format": checkpoint.format,
        "config": to_hf(config),
        "share": config.shared,
        "dtypes": sorted({tensor.dtype.name for tensor in checkpoint.tensors.values()}),
        "parameters": parameters,
        "parameters_total": sum(parameters.values()),
        "parameters_without_heads": model,
        **(against if spec.may_share(config) else {}),
        "heads": {part: part in present for part in roles.HEADS},
        "optimizer_slots": len(checkpoint.optimizer),
        "global_step": checkpoint.global_step,
        "dropped": dict(checkpoint.dropped),
        "notes": list(checkpoint.notes),
        "sentence_transformers": sentence.describe(checkpoint.config) if (sentence := checkpoint.sentence) else None,
        "tokenizer": convert.describe_tokenizer(checkpoint),
        "tokenizer_sha256": checkpoint.tokenizer.digest(),
    }


def _fewer(model: int, bert: int) -> str:
    """How many parameters are saved: in times, or in percent where that is less than half."""
    if bert >= 2 * model:
        return f"{bert / model:.1f}x fewer"
    percent = round(100 * (bert - model) / bert)
    return f"{abs(percent)}% {'fewer' if percent > 0 else 'more'}" if percent else "about as many"


def _about_pooler(family: Family, facts: dict[str, Any]) -> str:
    """What it means that there is no pooler, or one that nothing here was trained with; empty where nothing is odd."""
    there, heads = "pooler" in facts["parameters"], [part for part, has in facts["heads"].items() if has]
    if not any(entry.role == "pooler" for entry in family.entries):
        return f"none, as in every {family.title}: the first token's vector is in its place"
    if not there and any(parts == tuple(heads) for parts in family.classes.values()):
        return "none, and its head reads none"
    if not there:
        return "none: embed with --pooling mean or cls; where transformers reports a new one, it is random"
    reads = any("pooler" in parts and parts[-1] in heads for parts in family.classes.values())
    if not reads and "pooler" not in family.fresh:
        return f"read by no head here, and {family.title} trains none: probably noise, so take vectors by mean or cls"
    return ""


def _print(facts: dict[str, Any]) -> None:
    from converters import proof, roles
    from converters.families import families

    config = facts["config"]
    groups = config.get("num_hidden_groups")
    in_groups = f" in {groups} group{'s' if groups > 1 else ''} of {config['inner_group_num']}" if groups else ""
    shape = (
        f"{config['num_hidden_layers']} layers{in_groups}, "
        f"E={config.get('embedding_size', config['hidden_size'])} H={config['hidden_size']} "
        f"A={config['num_attention_heads']} I={config['intermediate_size']} V={config['vocab_size']}, "
        f"{config['hidden_act']}"
    )
    usual = set(families()[config["model_type"]].usual_heads)
    heads = [
        f"{what}: {'yes' if facts['heads'][part] else 'no'}"
        for part, what in roles.HEADS.items()
        if facts["heads"][part] or part in usual
    ]
    against, sharing = [], []
    pooler = "" if groups else _about_pooler(families()[config["model_type"]], facts)
    if groups:
        bert, model = facts["bert_of_same_shape"], facts["parameters_without_heads"]
        fewer = f"{model:,} without heads; a BERT of this shape has {bert:,}: {_fewer(model, bert)}"
        against = [("against BERT", fewer)]
        what = _SHARING[facts["share"]].format(" of a group" if groups > 1 else "")
        sharing = [("sharing", f"{facts['share']}: {what}")]
    rows = [
        ("model", facts["path"]),
        ("format", f"{facts['format']}, {' and '.join(facts['dtypes'])}"),
        ("shape", shape),
        *([] if groups else [("family", config["model_type"])]),
        *sharing,
        *((f"  {part}", f"{count:,}") for part, count in facts["parameters"].items()),
        ("parameters", f"{facts['parameters_total']:,}"),
        *against,
        ("pooler", pooler),
        ("heads", ", ".join(heads)),
        ("tokenizer", facts["tokenizer"]),
        ("", f"SHA-256 {facts['tokenizer_sha256']}" if facts["tokenizer_sha256"] else ""),
        ("sentences", facts["sentence_transformers"] or ""),
        ("weights", f"SHA-256 {facts['weights_sha256']}"),
        ("not finite", proof.describe_not_finite(facts["not_finite"])),
    ]
    if facts["global_step"] is not None:
        rows.append(("step", f"global_step {facts['global_step']}"))
    if facts["optimizer_slots"]:
        rows.append(("optimizer", f"{facts['optimizer_slots']} slots"))
    rows += [("left out", f"{count} {reason}") for reason, count in facts["dropped"].items()]
    rows += [("note", note) for note in facts["notes"]]
    console.print_table([row for row in rows if row[1]])
