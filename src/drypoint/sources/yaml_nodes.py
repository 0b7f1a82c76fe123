"""YAML as Compose reads it, as a graph of nodes: nothing is expanded, so time and memory are proportional to the file's length.

Format: YAML 1.1 and 1.2 as Go's yaml.v3 has them (``resolve.go``, ``decode.go``), with which Compose reads: ``1:30`` and ``on``
are text, ``0777`` is a number, a key may be there once, ``<<`` merges.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TypeAlias

import msgspec

from ..errors import UsageError

_MAX_NODES = 100_000
_MAX_DEPTH = 100
_MERGE = "<<"
_STRING = "str"
_PREFIX = "tag:yaml.org,2002:"
_OTHER_TYPES = re.compile(
    r"""(?P<null>~|null|Null|NULL|)
    |(?P<bool>true|True|TRUE|false|False|FALSE)
    |(?P<number>
        [-+]?0[xX](?=_*[0-9a-fA-F])[0-9a-fA-F_]+ | [-+]?0[bB](?=_*[01])[01_]+ | [-+]?0[oO]?(?=_*[0-7])[0-7_]+
        |[-+]?[0-9][0-9_]* (?:\.[0-9_]*)? (?:[eE][-+]?[0-9][0-9_]*)?
        |[-+]?\.[0-9][0-9_]* (?:[eE][-+]?[0-9][0-9_]*)?
        |[-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN))
    |(?P<timestamp>[0-9]{4}-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])
        (?:(?:[Tt]|[ ]+)[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]*)?(?:[ ]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?)""",
    re.VERBOSE,
)


class Scalar(msgspec.Struct, frozen=True):
    """Attributes:
    kind: ``str``, ``null``, ``bool``, ``number`` or ``timestamp``, or another tag of YAML's own.
    is_plain: whether it is written without quotes and without a tag.
    """

    text: str
    kind: str
    is_plain: bool


class Items(msgspec.Struct, frozen=True):
    """A sequence."""

    nodes: list[Node]


class Mapping(msgspec.Struct, frozen=True):
    """Attributes:
    own: the values by key, in the order of the file, without what ``<<`` merges.
    merged: what it merges, the first before the later.
    fields: the values of the keys that the reader asked for, with what is merged.
    """

    own: dict[str, Node]
    merged: list[Mapping]
    fields: dict[str, Node]


Node: TypeAlias = Scalar | Items | Mapping


def load_yaml(text: str, what: str, fields: Collection[str]) -> Node | None:
    """The only document of *text*; None if it is empty. An alias is the node that it stands for.

    Args:
        what: how errors name it.
        fields: the keys for :attr:`Mapping.fields`.

    Raises:
        UsageError: it is not YAML, or yaml.v3 refuses it; or it has several documents, too many nodes, or too deep ones.
    """
    # Imported here: it takes longer than the rest of the start.
    import yaml

    # libyaml, where it is there, is ten times as fast. Its events only: what builds nodes of them calls itself for each depth.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    builder = _Builder(what, fields)
    try:
        for event in yaml.parse(text, Loader=loader):
            match event:
                case yaml.ScalarEvent():
                    is_plain = event.style in (None, "") and event.tag is None
                    builder.add(
                        Scalar(event.value, _kind(event.value, event.tag, is_plain=is_plain), is_plain), event.anchor
                    )
                case yaml.AliasEvent():
                    builder.add_alias(event.anchor)
                case yaml.SequenceStartEvent():
                    builder.begin(Items([]), event.anchor)
                case yaml.MappingStartEvent():
                    builder.begin(Mapping({}, [], {}), event.anchor)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    builder.end()
                case yaml.DocumentStartEvent() if builder.root is not None:
                    raise UsageError(f"{what} has several YAML documents; expected one")
                case _:
                    pass
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        shown = " ".join(str(error).split())
        raise UsageError(f"{what} is not well formed: {shown[:300]}") from error
    return builder.root


class _Builder:
    def __init__(self, what: str, fields: Collection[str]) -> None:
        self.root: Node | None = None
        self._what = what
        self._fields = fields
        self._nodes = 0
        self._open: list[Items | Mapping] = []
        self._keys: list[Node | None] = []
        self._merges: list[Node | None] = []
        self._anchors: dict[str, Node] = {}

    def add(self, node: Node, anchor: str | None) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise UsageError(f"{self._what} has more than {_MAX_NODES} YAML nodes")
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Items):
            parent.nodes.append(node)
        elif (key := self._keys[-1]) is None:
            self._keys[-1] = node
        else:
            self._keys[-1] = None
            self._put(parent, key, node)

    def add_alias(self, anchor: str | None) -> None:
        node = self._anchors.get(anchor or "")
        shown = repr((anchor or "")[:80])
        if node is None:
            raise self._fault(f"unknown anchor {shown}")
        if any(node is one for one in self._open):
            raise self._fault(f"the value of anchor {shown} contains itself")
        self.add(node, None)

    def begin(self, node: Items | Mapping, anchor: str | None) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise self._fault(f"it is more than {_MAX_DEPTH} levels deep")
        if self._open and isinstance(self._open[-1], Mapping) and self._keys[-1] is None:
            raise self._fault("a key is not a text")
        self.add(node, anchor)
        self._open.append(node)
        self._keys.append(None)
        self._merges.append(None)

    def end(self) -> None:
        ended, merge = self._open.pop(), self._merges.pop()
        self._keys.pop()
        if isinstance(ended, Mapping):
            for one in merge.nodes if isinstance(merge, Items) else (merge,) if merge is not None else ():
                if not isinstance(one, Mapping):
                    raise self._fault("'<<' merges what is not a mapping")
                ended.merged.append(one)
            # What is merged has ended before, so its fields are known: no chain of merges is gone through twice.
            for field in self._fields:
                found = next((one[field] for one in _by_rank(ended) if field in one), None)
                if found is not None:
                    ended.fields[field] = found

    def _put(self, mapping: Mapping, key: Node, value: Node) -> None:
        if not isinstance(key, Scalar):
            raise self._fault("a key is not a text")
        if key.is_plain and key.text == _MERGE:
            if self._merges[-1] is not None:
                raise self._fault("the key '<<' is there twice in a mapping")
            self._merges[-1] = value
        elif key.text in mapping.own:
            raise self._fault(f"the key {key.text[:80]!r} is there twice in a mapping")
        else:
            mapping.own[key.text] = value

    def _fault(self, text: str) -> UsageError:
        return UsageError(f"{self._what} is not well formed: {text}")


def _by_rank(mapping: Mapping) -> Iterator[dict[str, Node]]:
    yield mapping.own
    for one in mapping.merged:
        yield one.fields


def _kind(text: str, tag: str | None, *, is_plain: bool) -> str:
    if tag is not None and tag.startswith(_PREFIX):
        return tag.removeprefix(_PREFIX)
    if not is_plain:
        return _STRING
    found = _OTHER_TYPES.fullmatch(text)
    return _STRING if found is None else str(found.lastgroup)


def values_of(mapping: Mapping) -> dict[str, Node]:
    """All values of *mapping* by key, with what it merges: its own first, then of what is merged the earlier before the later.

    Each mapping that is merged counts once, however often it is named: the second time, all its keys are there.
    """
    found: dict[str, Node] = {}
    merged: set[int] = set()
    waiting = [mapping]
    while waiting:
        one = waiting.pop()
        if id(one) not in merged:
            merged.add(id(one))
            for key, value in one.own.items():
                found.setdefault(key, value)
            waiting.extend(reversed(one.merged))
    return found
