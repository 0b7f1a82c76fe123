"""JSON decoders, made by one thread at a time.

msgspec caches the fields of a Struct when the first decoder for it is made, and other threads see that cache before it is
complete: two that decode the same type for the first time at once crash the process (observed with 0.22).
"""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

_Shape = TypeVar("_Shape")
_making = threading.Lock()
_made: dict[object, msgspec.json.Decoder[object]] = {}


def json_decoder(shape: type[_Shape]) -> msgspec.json.Decoder[_Shape]:
    """The one decoder of *shape*, a type for msgspec."""
    decoder = _made.get(shape)
    if decoder is None:
        with _making:
            decoder = _made.get(shape) or msgspec.json.Decoder(shape)
            _made[shape] = decoder
    return decoder  # type: ignore[return-value]  # A dictionary cannot say that each key is the type of its value.
