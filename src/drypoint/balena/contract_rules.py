"""The Supervisor's rules for a service's contract, which lists the service's requirements.

Source: balena-supervisor, src/lib/contracts.ts at 10.4.0, 14.11.0, 17.0.3, 17.0.4, 17.4.0 and 17.4.2: one contract that breaks
a rule makes it ignore the whole target state.
"""

from __future__ import annotations

from collections.abc import Iterator

from .identifiers import Json, JsonObject
from .supervisor_rules import ContractRules

_TYPE = "sw.container"


def contract_faults(contract: JsonObject, rules: ContractRules) -> Iterator[tuple[str, str]]:
    """The faults of *contract*: the path in it, empty for the contract itself, and the expected value."""
    if rules.needs_slug:
        if not isinstance(contract.get("slug"), str):
            yield "slug", "expected a text"
        if contract.get("type") != _TYPE:
            yield "type", f"expected {_TYPE}"
    else:
        if not isinstance(contract.get("slug"), (str, type(None))):
            yield "slug", "expected a text"
        if not isinstance(contract.get("type"), (str, type(None))):
            yield "type", "expected a text"
    requires = contract.get("requires")
    if requires is None:
        return
    if not isinstance(requires, list):
        yield "requires", "expected a list"
        return
    for index, requirement in enumerate(requires):
        for path, text in _requirement_faults(requirement, rules):
            yield f"requires.{index}{path}", text


def _requirement_faults(requirement: Json, rules: ContractRules) -> Iterator[tuple[str, str]]:
    if not isinstance(requirement, dict):
        yield "", "expected an object"
        return
    if rules.alternatives and "or" in requirement and not _is_atomic(requirement):
        alternatives = requirement["or"]
        if not isinstance(alternatives, list):
            yield ".or", "expected a list"
            return
        for index, one in enumerate(alternatives):
            for path, text in _atomic_faults(one, rules):
                yield f".or.{index}{path}", text
        return
    yield from _atomic_faults(requirement, rules)


def _is_atomic(requirement: JsonObject) -> bool:
    return isinstance(requirement.get("type"), str)


def _atomic_faults(requirement: Json, rules: ContractRules) -> Iterator[tuple[str, str]]:
    if not isinstance(requirement, dict):
        yield "", "expected an object"
        return
    kind = requirement.get("type")
    if not isinstance(kind, str) or kind not in rules.requirements:
        yield ".type", f"expected one of {', '.join(sorted(rules.requirements))}"
    texts = ("version", "slug") if rules.checks_matchers else ("version",)
    for name in texts:
        if not isinstance(requirement.get(name), (str, type(None))):
            yield f".{name}", "expected a text"
    if rules.checks_matchers and not isinstance(requirement.get("data", {}), dict):
        yield ".data", "expected an object"
