"""What messages call texts, and many faults of them in one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from albert_cli.errors import HeadError

# What messages call each text, if they are known.
Places = Sequence[str] | Callable[[int], str] | None

_SHOWN = 5


def labeller(count: int, places: Places, what: str = "text") -> Callable[[int], str]:
    """What a message calls each of `count` texts."""
    if callable(places):
        return places
    if places is not None and len(places) != count:
        raise ValueError(f"{count} {what}s, but {len(places)} places")
    return lambda row: places[row] if places else f"{what} {row + 1}" if count > 1 else f"the {what}"


def raise_if_any(faults: Sequence[str], advice: str) -> None:
    """Raise HeadError that lists the first few of all faults and how many there are; nothing where there is none."""
    if faults:
        rest = f", and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise HeadError(f"{'; '.join(faults[:_SHOWN])}{rest}; {advice}")
