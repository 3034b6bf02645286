"""JSON that every parser reads: it has no NaN and no infinity, so null stands for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def strict_json(data: Any, **how: Any) -> str:
    """The JSON of anything that JSON has; `how` as of json.dumps."""
    return json.dumps(finite(data), allow_nan=False, **how)


def finite(data: Any) -> Any:
    """The same data with None in the place of every number that is not finite."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    return [finite(item) for item in data] if isinstance(data, (list, tuple)) else data
