"""The Supervisor's rules for apps.json by its version: a table of changes.

Source: balena-supervisor's tags, and the results of their own loaders for the cases in tests/data/supervisor-verdicts.json:
src/types/state.ts and basic.ts with io-ts since 12.11.15, src/lib/validation.ts before, src/device-state/preload.ts,
src/lib/contracts.ts since 10.4.0, and deep-object-diff as locked (:attr:`Rules.throws_on_names`).
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from .supervisor_version import SupervisorVersion

Numbers: TypeAlias = "tuple[int, int, int]"
"""The three numbers of a version."""

FIRST_OF_VERSION_2: Numbers = (7, 0, 0)
FIRST_TO_PIN: Numbers = (7, 11, 0)
FIRST_OF_VERSION_3: Numbers = (13, 0, 0)


class Names(msgspec.Struct, frozen=True):
    """A rule for names. *allowed* is the rule in words."""

    pattern: re.Pattern[str]
    allowed: str


class ContractRules(msgspec.Struct, frozen=True):
    """The rules for a service's contract.

    Attributes:
        requirements: the valid types of a requirement.
        needs_slug: whether it must have a slug and the type ``sw.container``.
        checks_matchers: whether a requirement's slug must be a text, and its data an object.
        alternatives: whether a requirement may be ``{"or": [...]}``.
    """

    requirements: frozenset[str]
    needs_slug: bool = True
    checks_matchers: bool = False
    alternatives: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one range of Supervisors.

    Attributes:
        typed: whether every field has a checked type; if not, ids may be negative, and volumes, networks, ``running`` and a
            service's name are not checked.
        empty_is_missing: whether ``false``, 0 and an empty text count as missing for fields with a default.
        digit_is_number: whether an app's key that only begins with a number is taken for an id, and so for version 2.
        label_names: names of labels.
        config_names: names in ``config``.
        throws_on: names of members of an app, a service or the file on which it fails.
        throws_on_names: names of labels and variables on which it fails.
        contract: None if contracts are not checked.
    """

    typed: bool = False
    empty_is_missing: bool = False
    digit_is_number: bool = False
    label_names: Names
    config_names: Names
    throws_on: frozenset[str] = frozenset()
    throws_on_names: frozenset[str] = frozenset()
    contract: ContractRules | None = None


ENVIRONMENT_NAMES = Names(
    re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*"), "letters, digits and underscores, of which a digit is not the first"
)
DOCKER_NAMES = Names(
    re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"), "letters, digits, dots, dashes and underscores, a letter or digit first"
)
ANY_NAMES = Names(re.compile(r".*", re.DOTALL), "anything")
_LABELS_BEFORE = Names(re.compile(r"[a-zA-Z][a-zA-Z0-9.-]*"), "letters, digits, dots and dashes, a letter first")
_LABELS = Names(re.compile(r"[!#-&(-_a-~]+"), "printable ASCII without space, quotes and backtick")
_CONFIG_WITH_COLON = Names(
    re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*"), "letters, digits, underscores and colons, a letter or underscore first"
)
_OWN_PROPERTY = frozenset({"hasOwnProperty"})
_CONTRACT = ContractRules(frozenset({"sw.supervisor"}))
_WITH_L4T = replace(_CONTRACT, requirements=_CONTRACT.requirements | {"sw.l4t"})
_WITH_DEVICE_TYPE = replace(_WITH_L4T, requirements=_WITH_L4T.requirements | {"hw.device-type"})
_WITH_ARCHITECTURE = replace(_WITH_DEVICE_TYPE, requirements=_WITH_DEVICE_TYPE.requirements | {"arch.sw"})
_WITHOUT_SLUG = replace(_WITH_ARCHITECTURE, needs_slug=False)
_WITH_MATCHERS = replace(_WITHOUT_SLUG, checks_matchers=True)
_WITH_OS = replace(_WITH_MATCHERS, requirements=_WITH_MATCHERS.requirements | {"sw.os", "sw.kernel"})
_WITH_ALTERNATIVES = replace(_WITH_OS, alternatives=True)

_FIRST = Rules(label_names=_LABELS_BEFORE, config_names=ENVIRONMENT_NAMES)
CHANGES: tuple[tuple[Numbers, dict[str, object]], ...] = (
    ((10, 4, 0), {"contract": _CONTRACT}),
    ((10, 6, 13), {"contract": _WITH_L4T}),
    ((11, 1, 0), {"contract": _WITH_DEVICE_TYPE}),
    ((12, 0, 0), {"throws_on_names": _OWN_PROPERTY}),
    ((12, 11, 15), {"typed": True, "empty_is_missing": True, "throws_on": _OWN_PROPERTY}),
    (FIRST_OF_VERSION_3, {"digit_is_number": True}),
    ((13, 1, 11), {"digit_is_number": False}),
    ((14, 0, 21), {"empty_is_missing": False}),
    ((14, 2, 11), {"label_names": _LABELS}),
    ((14, 6, 0), {"config_names": _CONFIG_WITH_COLON}),
    ((14, 11, 0), {"contract": _WITH_ARCHITECTURE}),
    ((15, 0, 0), {"throws_on_names": frozenset()}),
    ((16, 2, 36), {"throws_on": frozenset()}),
    ((17, 0, 3), {"contract": _WITHOUT_SLUG}),
    ((17, 0, 4), {"contract": _WITH_MATCHERS}),
    ((17, 4, 0), {"contract": _WITH_OS}),
    ((17, 4, 2), {"contract": _WITH_ALTERNATIVES}),
)
"""The changes of rules by version, oldest first."""


def rules_of(supervisor: SupervisorVersion) -> Rules:
    """The rules of *supervisor*."""
    rules = _FIRST
    for since, changed in CHANGES:
        if supervisor.numbers >= since:
            rules = replace(rules, **changed)
    return rules


def versions_with_changes(*, since: Numbers) -> tuple[SupervisorVersion, ...]:
    """The first version of each range of equal rules, oldest first, starting with the range of *since*."""
    firsts = [numbers for numbers, _ in CHANGES if numbers > since]
    return tuple(SupervisorVersion(*numbers) for numbers in (since, *firsts))


LATEST_RULES = rules_of(SupervisorVersion(*CHANGES[-1][0]))
