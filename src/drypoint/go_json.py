"""Decoding JSON as Go's encoding/json decodes it into a struct, because registries, engines and their tools are in Go.

Rules: the documentation of encoding/json.Unmarshal, and decode.go of Go 1.19 where that is silent:

- A key is matched exactly, else without regard to case (U+017F is an "s", U+212A a "k"). Unknown keys are ignored.
- null leaves a scalar or a struct unchanged, at first as the zero value; it empties a list, a map or a pointer.
- A repeated key is decoded into the value of the first: structs and maps are merged, scalars replaced, and the elements of a
  list are decoded into those of the list before.
- An integer has no fraction and no exponent, and fits 64 bits.
- Each byte that is not UTF-8 becomes U+FFFD, and so does a lone surrogate.

Shapes are msgspec structs; the default of every field is Go's zero value. ``X | None`` is a pointer to a struct, or a list or
map that may be nil; ``str | list[str] | None`` is Docker's StrSlice. Two differences: nesting deeper than some hundred levels
is refused, where Go takes 10,000; and ``bytes`` are a string of base64, where Go also takes a list of numbers.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
from msgspec import inspect

from .decoders import json_decoder

_Shape = TypeVar("_Shape")

_MAX_VALUES = 1 << 18
"""The most elements and members of one text, so that a short text cannot fill the memory."""
_ONE_FOR_EACH_BYTE = "drypoint.one-for-each-byte"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}", re.DOTALL
)


class JsonError(ValueError):
    """Go would refuse the text. The message does not quote it."""


class _MismatchError(Exception):
    """A value of another type than its field; *path* is built from its end while the exception propagates."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""


class _Key:
    """A member's name; never equal to another one, so that a dictionary keeps repeated names."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def decode_go(content: bytes, shape: type[_Shape], *, first: bool = False) -> _Shape:
    """*content* decoded as *shape*.

    Args:
        first: decode only the first value, as Go's Decoder does, and ignore what follows; else that is an error.

    Raises:
        JsonError: Go refuses it, or it is nested too deeply or holds too many values.
    """
    reader = _reader_of(shape)
    if content.count(b",") > _MAX_VALUES and _STRING.sub(b"", content).count(b",") > _MAX_VALUES:
        raise JsonError(f"it has more than the {_MAX_VALUES} values allowed")
    try:
        try:
            value = reader.read(content, None)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Rarely needed, so not done in advance: msgspec refuses bytes that Go replaces.
            value = reader.read(_first_value(_replaced(content)) if first else _replaced(content), None)
    except _MismatchError as error:
        raise JsonError(f"{error.reason} - at `${error.path}`" if error.path else error.reason) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JsonError(str(error)) from None
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    return value if value is not None else reader.zero()  # type: ignore[return-value]  # What _reader_of makes for a shape.


class _Reader(Protocol):
    """Decodes one type of value."""

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        """The value after decoding *raw* into *held*, the value before it; the result may be None.

        Raises:
            _MismatchError: *raw* is of another type.
            msgspec.DecodeError: it is not JSON.
        """

    def zero(self) -> object:
        """Go's zero value of the type."""


class _Scalar:
    def __init__(self, kind: type[object], zero: object) -> None:
        self._decode: Callable[[bytes | msgspec.Raw], object] = json_decoder(kind | None).decode  # type: ignore[arg-type]
        self._zero = zero

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        value = _checked(self._decode, raw)
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise _MismatchError("Integer value out of range")
        if isinstance(value, float) and not math.isfinite(value):
            raise _MismatchError("Number out of range")
        return held if value is None else value

    def zero(self) -> object:
        return self._zero


class _Bytes(_Scalar):
    """``[]byte``: a string of base64."""

    def __init__(self) -> None:
        super().__init__(str, "")

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        text = super().read(raw, None)
        try:
            return None if text is None else decode_base64(str(text))
        except JsonError as error:
            raise _MismatchError(str(error)) from None

    def zero(self) -> object:
        return b""


class _Struct:
    """A struct; *fields* has the attribute's name and reader by key."""

    def __init__(self, made: type[msgspec.Struct], fields: dict[str, tuple[str, _Reader]]) -> None:
        self._made = made
        self._fields = fields
        self._folded: dict[str, tuple[str, _Reader]] = {}
        for key, field in fields.items():
            self._folded.setdefault(key.lower(), field)

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        members = _checked(_members, raw)
        if members is None:
            return held
        values = {} if held is None else {name: getattr(held, name) for name, _ in self._fields.values()}
        for key, member in members.items():
            found = self._fields.get(key.name) or self._folded.get(_fold(key.name))
            if found is None:
                continue
            name, reader = found
            try:
                value = reader.read(member, values.get(name))
            except _MismatchError as error:
                error.path = f".{key.name if key.name in self._fields else name}{error.path}"
                raise
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        return self._made(**values)

    def zero(self) -> object:
        return self._made()


class _Elements(list[object]):
    """A list that is shorter than one decoded before it; *beyond* are the elements that Go keeps in the capacity."""

    beyond: list[object]


class _List:
    def __init__(self, item: _Reader) -> None:
        self._item = item

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        elements = _checked(_list, raw)
        if elements is None:
            return None
        before = [*held, *getattr(held, "beyond", ())] if isinstance(held, list) else []
        found = _Elements()
        for position, element in enumerate(elements):
            try:
                value = self._item.read(element, before[position] if position < len(before) else None)
            except _MismatchError as error:
                error.path = f"[{position}]{error.path}"
                raise
            found.append(self._item.zero() if value is None else value)
        if not found or len(found) >= len(before):
            return list(found)
        found.beyond = before[len(found) :]
        return found

    def zero(self) -> object:
        return []


class _Map:
    def __init__(self, value: _Reader) -> None:
        self._value = value

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        members = _checked(_members, raw)
        if members is None:
            return None
        found = dict(held) if isinstance(held, dict) else {}
        for key, member in members.items():
            try:
                value = self._value.read(member, None)
            except _MismatchError as error:
                error.path = f"[...]{error.path}"
                raise
            found[key.name] = self._value.zero() if value is None else value
        return found

    def zero(self) -> object:
        return {}


class _Optional:
    """A pointer to a struct, a list or map that may be nil, or a scalar without a zero value of its own (``time.Time``)."""

    def __init__(self, inner: _Reader) -> None:
        self._inner = inner

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        if isinstance(self._inner, _Struct) and _checked(_members, raw) is None:
            return None
        return self._inner.read(raw, held)

    def zero(self) -> object:
        return None


class _StringOrStrings:
    """``strslice.StrSlice``, which has its own decoder: a list of strings, or one string."""

    def __init__(self, text: _Reader, texts: _Reader) -> None:
        self._text, self._texts = text, texts

    def read(self, raw: bytes | msgspec.Raw, held: object) -> object:
        try:
            return self._texts.read(raw, None)
        except _MismatchError:
            return self._text.read(raw, None)

    def zero(self) -> object:
        return None


def decode_base64(text: str) -> bytes:
    """*text* decoded like Go's base64.StdEncoding: only line breaks are ignored.

    Raises:
        JsonError: it is not base64.
    """
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise JsonError("Invalid base64 encoded string") from None


def _fold(key: str) -> str:
    """*key* folded for comparison with the names of fields, which are ASCII."""
    return (key if key.isascii() else key.replace("\u017f", "s").replace("\u212a", "k")).lower()


def _checked(decode: Callable[[bytes | msgspec.Raw], _Shape], raw: bytes | msgspec.Raw) -> _Shape:
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise _MismatchError(str(error).replace(" | null", "")) from None


def _key(_kind: type, name: object) -> object:
    return _Key(str(name))


# Without structs, so that any thread may make them (see decoders.py).
_members: Callable[[bytes | msgspec.Raw], dict[_Key, msgspec.Raw] | None] = msgspec.json.Decoder(
    dict[_Key, msgspec.Raw] | None, dec_hook=_key
).decode
_list: Callable[[bytes | msgspec.Raw], list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None).decode

_making = threading.Lock()
_made: dict[object, _Reader] = {}


def _reader_of(shape: type[object]) -> _Reader:
    reader = _made.get(shape)
    if reader is None:
        with _making:
            reader = _made[shape] = _made.get(shape) or _reader(inspect.type_info(shape))
    return reader


def _reader(kind: inspect.Type) -> _Reader:
    match kind:
        case inspect.StrType():
            return _Scalar(str, "")
        case inspect.BoolType():
            return _Scalar(bool, False)
        case inspect.IntType():
            return _Scalar(int, 0)
        case inspect.FloatType():
            return _Scalar(float, 0.0)
        case inspect.BytesType():
            return _Bytes()
        case inspect.ListType():
            return _List(_reader(kind.item_type))
        case inspect.DictType(key_type=inspect.StrType()):
            return _Map(_reader(kind.value_type))
        case inspect.StructType() if not any(field.required for field in kind.fields):
            return _Struct(kind.cls, {field.encode_name: (field.name, _reader(field.type)) for field in kind.fields})
        case inspect.UnionType():
            match [one for one in kind.types if not isinstance(one, inspect.NoneType)]:
                case [one]:
                    return _Optional(_reader(one))
                case [inspect.StrType() as text, inspect.ListType() as texts]:
                    return _StringOrStrings(_reader(text), _reader(texts))
    raise TypeError(f"not a shape that Go reads: {kind}")


def _replaced(content: bytes) -> bytes:
    """*content* with U+FFFD where Go inserts it."""
    text = content.decode("utf-8", _ONE_FOR_EACH_BYTE)
    return _ESCAPE.sub(lambda found: found[1] or "\ufffd", text).encode()


def _one_for_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error(_ONE_FOR_EACH_BYTE, _one_for_each_byte)


def _first_value(content: bytes) -> bytes:
    text = content.decode().lstrip(" \t\r\n")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        # The next decoder raises the error.
        return content
    return text[:end].encode()
