"""The names of a head's outputs, by the config of a model that was fine-tuned elsewhere."""

from __future__ import annotations

from albert_cli.errors import RunError
from converters.config import EncoderConfig
from converters.messages import brief, listing

# The most characters of a config's value in a message.
_SHOWN = 120


def labels_of(config: EncoderConfig, count: int, where: str) -> tuple[str, ...]:
    """The labels in the order of the head's rows; RunError where id2label does not name each of them once."""
    names = config.extra.get("id2label")
    if not names:
        stated = config.extra.get("num_labels", count)
        if stated != count:
            raise RunError(f"{where}: num_labels {brief(stated, _SHOWN)} in its config, but its head has {count} rows")
        return tuple(f"LABEL_{number}" for number in range(count))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise RunError(f"{where}: id2label in its config is {brief(names, _SHOWN)}, not names by number")
    if set(names) != {str(number) for number in range(count)}:
        raise RunError(
            f"{where}: id2label in its config names {listing(names) or 'nothing'}, but its head has {count} "
            f"rows (0 to {count - 1}); name each of them there"
        )
    labels = tuple(names[str(number)] for number in range(count))
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise RunError(f"{where}: id2label in its config names {listing(twice)} twice; give each row its own name")
    return labels
