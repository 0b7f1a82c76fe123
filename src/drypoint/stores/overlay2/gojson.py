"""JSON as Go's encoding/json writes it with Marshal: compact, keys sorted, and ``<``, ``>``, ``&`` escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = str | Mapping[str, "Value"] | Sequence["Value"]

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def marshal(value: Value, *, sort_keys: bool = True) -> bytes:
    """Encode maps (keys sorted) or structs (*sort_keys* false: fields in the order given)."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    # JSON has these characters only in strings, so that the whole text can be translated at once.
    return text.translate(_ESCAPES).encode("utf-8", "replace")
