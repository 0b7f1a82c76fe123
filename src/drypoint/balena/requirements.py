"""Requirements of services' contracts that the Supervisor's version decides.

Sources: balena-supervisor, src/lib/contracts.ts and what its loaders made of the cases in tests/data/supervisor-verdicts.json:
since 10.4.0 an app does not run if a service's requirements are not met, unless the service has the label
``io.balena.features.optional``; before 16.7.0 the whole apps.json is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .identifiers import Json, JsonObject, first_key
from .supervisor_rules import rules_of
from .supervisor_version import SupervisorVersion
from .version_range import satisfies

_OPTIONAL = "io.balena.features.optional"
_TRUTHY = frozenset(("1", "true", "on"))
_REJECTS_APP = (16, 7, 0)
_SUPERVISOR = "sw.supervisor"
_WITHOUT_SLUG = frozenset(("hw.device-type", "arch.sw"))
"""Types that every device has, so that a requirement without a slug is met."""
_SHOWN = 80


class Requirement(msgspec.Struct, frozen=True):
    """A requirement that is not met, or not decided.

    Attributes:
        service: ``app/service``.
        text: what is required: ``sw.supervisor >=99``.
        met: False, or None if the disk image does not decide it.
        optional: whether the app runs without the service.
    """

    service: str
    text: str
    met: bool | None
    optional: bool


def open_requirements(state: JsonObject, supervisor: SupervisorVersion) -> tuple[Requirement, ...]:
    """The requirements in *state*, a checked one, that are unmet or undecided on a device with *supervisor*."""
    if rules_of(supervisor).contract is None:
        return ()
    return tuple(_open(state, supervisor))


def consequence(supervisor: SupervisorVersion) -> str:
    """What *supervisor* does if a requirement is not met, as a clause."""
    return "does not run the app" if supervisor.numbers >= _REJECTS_APP else "ignores apps.json"


def _open(state: JsonObject, supervisor: SupervisorVersion) -> Iterator[Requirement]:
    for app in _objects(state, "apps").values():
        # In version 2 an app has the fields of its release. Of several releases, the first counts.
        releases = _objects(app, "releases")
        for release in (app, *([releases[first_key({**releases})]] if releases else [])):
            for key, service in _objects(release, "services").items():
                name = f"{app.get('name')}/{service.get('serviceName', key)}"[: 2 * _SHOWN]
                requires = _members(service, "contract").get("requires")
                optional = _is_truthy(_members(service, "labels").get(_OPTIONAL))
                for one in requires if isinstance(requires, list) else ():
                    if isinstance(one, dict) and (met := _is_met(one, supervisor)) is not True:
                        yield Requirement(name, _shown(one), met, optional)


def _is_met(requirement: JsonObject, supervisor: SupervisorVersion) -> bool | None:
    given = {key for key, value in requirement.items() if value is not None}
    alternatives = requirement.get("or")
    if given == {"or"} and isinstance(alternatives, list):
        verdicts = [_is_met(one, supervisor) for one in alternatives if isinstance(one, dict)]
        return True if True in verdicts else None if None in verdicts or not verdicts else False
    kind, version = requirement.get("type"), requirement.get("version")
    if given == {"type"} and kind in _WITHOUT_SLUG:
        return True
    if kind == _SUPERVISOR and given <= {"type", "version"} and isinstance(version, (str, type(None))):
        return satisfies(supervisor.numbers, version or "")
    return None


def _shown(requirement: JsonObject) -> str:
    alternatives = requirement.get("or")
    if isinstance(alternatives, list) and "type" not in requirement:
        shown = " or ".join(_shown(one) for one in alternatives[:5] if isinstance(one, dict))
        return shown if len(alternatives) <= 5 else f"{shown} or more"
    words = [requirement.get(key) for key in ("type", "slug", "version")]
    return " ".join(word[:_SHOWN] for word in words if isinstance(word, str) and word)


def _is_truthy(label: Json) -> bool:
    return isinstance(label, str) and label.lower() in _TRUTHY


def _objects(owner: JsonObject, key: str) -> dict[str, JsonObject]:
    return {name: item for name, item in _members(owner, key).items() if isinstance(item, dict)}


def _members(owner: JsonObject, key: str) -> JsonObject:
    value = owner.get(key)
    return value if isinstance(value, dict) else {}
