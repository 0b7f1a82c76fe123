"""Parsing URLs of OData requests as balena's API does: the text as it was sent, with percent signs.

Format: ``@balena/odata-parser`` (``odata-parser.pegjs``), with its quirks: ``and`` and ``or`` have the same precedence, from
the left; an order without a direction is descending; only ``%20``, ``%24``, ``%27`` and ``%2B`` are decoded outside quoted
text. What the grammar accepts and this module does not support is a :class:`NotKnownError`, never a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote

from tests.support.odata_terms import (
    Any,
    Call,
    Expression,
    Literal,
    Not,
    Operation,
    Options,
    Order,
    Path,
    Request,
)

_T = TypeVar("_T")
_NAME = re.compile(r"[^:/?#\[\]@!$*&()+,;= %]+")
_TEXT = re.compile(r"[^:/?#\[\]@!$*&()+,;=]*")
_SPACE = re.compile(r"(?: |%20|\+)")
_NUMBER = re.compile(r"(\+|%2B|-|)([0-9]+(?:\.[0-9]+)?)")
_QUOTED = re.compile(r"(?:'|%27)((?>(?:(?!'|%27).|(?:'|%27){2})*))(?:'|%27)")
_NATURAL_KEY = re.compile(r"[^:/?#\[\]@!$*&()+,;= %']+=")
_METHOD = re.compile(r"[a-z]+(?=\()")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ARGUMENTS = {"contains": 2, "endswith": 2, "startswith": 2, "tolower": 1, "toupper": 1, "length": 1}
_OTHER_METHODS = frozenset(
    (
        "cast", "ceiling", "concat", "date", "day", "floor", "fractionalseconds", "hour", "indexof", "isof", "maxdatetime",
        "mindatetime", "minute", "month", "now", "replace", "round", "second", "substringof", "substring", "time",
        "totaloffsetminutes", "totalseconds", "trim", "year",
    )
)  # fmt: skip
_PRECEDENCE = {"or": 0, "and": 0, "eq": 1, "ne": 1, "gt": 1, "ge": 1, "lt": 1, "le": 1}
_ARITHMETIC = frozenset(("sub", "add", "mod", "div", "mul"))


class MalformedUrlError(ValueError):
    """The grammar does not accept it: the server answers 400."""


class UnreadableUrlError(ValueError):
    """The grammar accepts it, but its percent-encoding is invalid: the server answers 500."""


class NotKnownError(ValueError):
    """The server accepts it, but the stand-in does not support it."""


def parse_url(url: str) -> Request:
    """Parse *url*, from the slash before the resource on, as it was sent.

    Raises:
        MalformedUrlError, UnreadableUrlError: the server refuses it.
        NotKnownError: this module does not support it.
    """
    parser = _Parser(url)
    request = parser.request()
    if not parser.at_end:
        raise MalformedUrlError(url)
    return request


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._text)

    def request(self) -> Request:
        self._expect("/")
        if self.at_end:
            raise NotKnownError("the list of resources")
        resource = self._name()
        key = None
        if self._take("("):
            self._refuse_alias()
            if _NATURAL_KEY.match(self._text, self._place):
                raise NotKnownError("keys by name")
            key = self._literal_of(self._number, self._quoted)
            self._expect(")")
        if self._text[self._place : self._place + 1] == "/":
            raise NotKnownError(f"what is below a row: {self._text}")
        options = Options()
        if self._take("?") and not self.at_end:
            options = _gathered(self._list("&", self._option))
        return Request(resource, key, options)

    def _option(self) -> tuple[str, object]:
        return self._one_of(self._known_option, self._other_option)

    def _known_option(self) -> tuple[str, object]:
        self._one_of(lambda: self._expect("$"), lambda: self._expect("%24"))
        for name, read in (
            ("select", self._select),
            ("filter", self._expression),
            ("expand", lambda: dict(self._list(",", self._expand))),
            ("orderby", lambda: tuple(self._list(",", self._order))),
            ("top", self._digits),
            ("skip", self._digits),
            ("count", self._boolean),
        ):
            if self._take(f"{name}="):
                return name, read()
        if self._take("inlinecount=") or self._take("format="):
            raise NotKnownError(self._text)
        raise self._malformed()

    def _other_option(self) -> tuple[str, object]:
        self._refuse_alias()
        name = _decoded(self._match(_TEXT))
        self._expect("=")
        return f"?{name}", _decoded(self._match(_TEXT))

    def _select(self) -> tuple[str, ...] | None:
        if self._take("*"):
            return None
        paths = self._list(",", self._path)
        if any(len(path.names) > 1 for path in paths):
            raise NotKnownError("$select of a path")
        return tuple(path.names[0] for path in paths)

    def _expand(self) -> tuple[str, Options]:
        name, inner = self._name(), Options()
        if self._text.startswith("/", self._place):
            raise NotKnownError("$expand of a path")
        if self._take("(") and not self._take(")"):
            inner = _gathered(self._list(";&", self._option))
            self._expect(")")
        return name, inner

    def _order(self) -> Order:
        path = self._path()
        start = self._place
        if self._boundary():
            for word in ("asc", "desc"):
                if self._take(word):
                    return Order(path, word == "desc")
        self._place = start
        return Order(path, descending=True)

    def _expression(self, minimum: int = 0) -> Expression:
        left = self._value()
        while True:
            start = self._place
            self._spaces()
            word = next((one for one in (*_PRECEDENCE, *_ARITHMETIC) if self._take(one)), None)
            if word is None or not self._boundary():
                self._place = start
                return left
            if word in _ARITHMETIC:
                raise NotKnownError(word)
            if _PRECEDENCE[word] + 1 <= minimum:
                self._place = start
                return left
            left = Operation(word, left, self._expression(_PRECEDENCE[word] + 1))

    def _value(self) -> Expression:
        self._refuse_alias()
        return self._one_of(self._group, self._call, self._negation, self._primitive)

    def _group(self) -> Expression:
        self._expect("(")
        self._spaces()
        inner = self._expression()
        self._spaces()
        self._expect(")")
        return inner

    def _call(self) -> Expression:
        method = self._match(_METHOD)
        if method in _OTHER_METHODS:
            raise NotKnownError(method)
        arguments = self._arguments()
        if len(arguments) != _ARGUMENTS.get(method):
            raise self._malformed()
        return Call(method, arguments)

    def _arguments(self) -> tuple[Expression, ...]:
        arguments: list[Expression] = []
        self._expect("(")
        self._spaces()
        while not self._take(")"):
            if arguments:
                self._expect(",")
                self._spaces()
            arguments.append(self._expression())
            self._spaces()
        return tuple(arguments)

    def _negation(self) -> Expression:
        self._spaces()
        self._expect("not")
        if not self._boundary():
            raise self._malformed()
        return Not(self._value())

    def _primitive(self) -> Expression:
        return self._one_of(
            lambda: Literal(self._quoted()),
            lambda: Literal(self._number()),
            lambda: Literal(self._boolean()),
            self._null,
            self._lambda,
            self._path,
        )

    def _lambda(self) -> Expression:
        names = [self._name()]
        while self._take("/"):
            start = self._place
            names.append(self._name())
            if self._text.startswith("(", self._place):
                method = names.pop()
                if method in ("any", "all"):
                    try:
                        return self._condition(Path(tuple(names)), method)
                    except MalformedUrlError:
                        self._place = start + len(method)
                self._arguments()
                raise NotKnownError(f"{method} as a method of a resource")
        raise self._malformed()

    def _condition(self, path: Path, method: str) -> Expression:
        self._expect("(")
        self._spaces()
        alias = self._name()
        self._expect(":")
        condition = self._expression()
        self._spaces()
        self._expect(")")
        return Any(path, alias, condition, method == "all")

    def _path(self) -> Path:
        names = [self._name()]
        while self._take("/"):
            if self._take("$count"):
                raise NotKnownError("$count")
            names.append(self._name())
        return Path(tuple(names))

    def _quoted(self) -> str:
        found = _QUOTED.match(self._text, self._place)
        if found is None:
            raise self._malformed()
        self._place = found.end()
        return _decoded(re.sub("(?:'|%27){2}", "'", found[1]))

    def _number(self) -> int | float:
        found = _NUMBER.match(self._text, self._place)
        if found is None:
            raise self._malformed()
        self._place = found.end()
        value = float(found[2]) if "." in found[2] else int(found[2])
        return -value if found[1] == "-" else value

    def _digits(self) -> int:
        return int(self._match(re.compile("[0-9]+")))

    def _boolean(self) -> bool:
        if self._take("true"):
            return True
        self._expect("false")
        return False

    def _null(self) -> Expression:
        self._expect("null")
        return Literal(None)

    def _refuse_alias(self) -> None:
        if self._text.startswith("@", self._place):
            raise NotKnownError("parameter aliases")

    def _literal_of(self, *readers: Callable[[], str | int | float]) -> str | int | float:
        return self._one_of(*readers)

    def _name(self) -> str:
        return self._match(_NAME)

    def _boundary(self) -> bool:
        """Whether an opening parenthesis or white space, which is skipped, comes next."""
        return self._text.startswith("(", self._place) or self._spaces()

    def _spaces(self) -> bool:
        start = self._place
        while (found := _SPACE.match(self._text, self._place)) is not None:
            self._place = found.end()
        return self._place > start

    def _list(self, separators: str, read: Callable[[], _T]) -> list[_T]:
        found = [read()]
        while True:
            start = self._place
            if self._text[start : start + 1] not in tuple(separators):
                return found
            self._place += 1
            try:
                found.append(read())
            except MalformedUrlError:
                self._place = start
                return found

    def _one_of(self, *alternatives: Callable[[], _T]) -> _T:
        start = self._place
        for read in alternatives:
            try:
                return read()
            except MalformedUrlError:
                self._place = start
        raise self._malformed()

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._place)
        if found is None:
            raise self._malformed()
        self._place = found.end()
        return found[0]

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._place)
        self._place += len(text) * found
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._malformed()

    def _malformed(self) -> MalformedUrlError:
        return MalformedUrlError(f"cannot be read from {self._text[self._place :][:40]!r} on")


def _decoded(text: str) -> str:
    """As ``decodeURIComponent``: a plus sign stays."""
    if _PERCENT.search(text):
        raise UnreadableUrlError(text)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise UnreadableUrlError(text) from None


def _gathered(found: Sequence[tuple[str, object]]) -> Options:
    """The last of repeated options counts; requests for a count, and other names, are ignored."""
    values = {name: value for name, value in found if name[0] != "?" and name != "count"}
    if "orderby" in values:
        values["order"] = values.pop("orderby")
    return Options(**values)  # type: ignore[arg-type]
