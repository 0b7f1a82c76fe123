"""An apps.json is refused exactly for the Supervisors that pass over it.

tests/data/supervisor-verdicts.json says what the loaders of real Supervisors made of each case, one letter a version: T took it
(``loadTargetFromFile``, into its database and back as a target), ``-`` passed over the file, X failed on the target that it
took, R took it but rejected the app.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
from tests.support.scripts import ROOT

from drypoint.balena import supervisor_rules
from drypoint.balena.apps_json import ANY_VERSION, AppsJson, read_apps_json
from drypoint.balena.compatibility import check_as_it_is, fit
from drypoint.balena.effects import effects
from drypoint.balena.first_boot import pinned_release
from drypoint.balena.identifiers import begins_with_number, first_key, is_identifier_text
from drypoint.balena.supervisor_version import SupervisorVersion, parse_supervisor_version
from drypoint.errors import UsageError

VERDICTS: dict[str, Any] = json.loads((ROOT / "tests/data/supervisor-verdicts.json").read_text())
JUDGED = [(part, version) for part, section in VERDICTS.items() for version in section["versions"]]
APP, RELEASE = "ab" * 16, "deadbeef" * 4
UNMET = frozenset("-XR")


def text_of(base: Any, case: dict[str, Any]) -> bytes:
    if "text" in case:
        return str(case["text"]).encode()
    state = copy.deepcopy(base)
    for change in case["changes"]:
        owner, (*path, last) = state, change["at"]
        for key in path:
            owner = owner[key]
        if "rename" in change:
            owner[change["rename"]] = owner.pop(last)
        elif "value" in change:
            owner[last] = change["value"]
        else:
            del owner[last]
    return json.dumps(state).encode()


@cache
def texts(part: str) -> list[bytes]:
    """The files of all cases of *part*: made once, since each is held to dozens of versions."""
    return [text_of(VERDICTS[part]["base"], case) for case in VERDICTS[part]["cases"]]


@cache
def parsed(content: bytes) -> AppsJson:
    return read_apps_json(content, "apps.json", ANY_VERSION)


def fit_to(content: bytes, supervisor: SupervisorVersion) -> AppsJson:
    return fit(parsed(content), supervisor)


def is_taken(content: bytes, supervisor: SupervisorVersion) -> bool:
    try:
        fit_to(content, supervisor)
    except UsageError:
        return False
    return True


def is_undecided(content: bytes, supervisor: SupervisorVersion) -> bool:
    """Whether there is a warning that it depends on the device."""
    try:
        return any("it is not known whether" in one for one in effects(fit_to(content, supervisor), supervisor))
    except UsageError:
        return False


def differing(part: str, version: str) -> list[str]:
    section = VERDICTS[part]
    column = section["versions"].index(version)
    supervisor = parse_supervisor_version(version)
    found = []
    for case, content in zip(section["cases"], texts(part), strict=True):
        verdict = case["verdicts"][column]
        if is_taken(content, supervisor) != (verdict == "T") and not (
            verdict in UNMET and is_undecided(content, supervisor)
        ):
            found.append(json.dumps({key: value for key, value in case.items() if key != "verdicts"}))
    return found


@pytest.mark.parametrize(("part", "version"), JUDGED)
def test_each_supervisor_takes_what_it_takes(part: str, version: str) -> None:
    assert differing(part, version) == []


def test_the_verdicts_find_a_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    later = tuple(
        ((14, 2, 12) if since == (14, 2, 11) else since, changed) for since, changed in supervisor_rules.CHANGES
    )
    monkeypatch.setattr(supervisor_rules, "CHANGES", later)
    assert differing("3", "14.2.10") == []
    found = differing("3", "14.2.11")
    assert found
    assert all('"labels"' in one for one in found)


def state(**service: object) -> dict[str, Any]:
    """A state of version 3 with one service, which has *service* besides."""
    own = {"id": 100, "image_id": 1000, "image": "a/b:1", "environment": {}, "labels": {}, **service}
    release = {"id": 10, "services": {"main": own}}
    return {"apps": {APP: {"id": 1, "name": "lights", "releases": {RELEASE: release}}}, "config": {}}


def encoded(content: object) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("content", "supervisor", "said"),
    [
        (
            state(labels={"a_b": "x"}),
            "14.2.10",
            ["labels.a_b: the name may hold letters", "The Supervisor 14.2.11 accepts it"],
        ),
        ({**state(), "config": {"A:b": "x"}}, "14.5.2", ["config.A:b", "The Supervisor 14.6.0 accepts it"]),
        (state(environment={"hasOwnProperty": "x"}), "13.1.11", ["hasOwnProperty", "The Supervisor 15.0.0 accepts it"]),
        (state(labels={"hasOwnProperty": "x"}), "14.13.14", ["hasOwnProperty", "The Supervisor 15.0.0 accepts it"]),
        (state(contract={}), "16.12.9", ["contract.slug", "contract.type", "The Supervisor 17.0.3 accepts it"]),
        (
            {"apps": {"1" + APP[1:]: state()["apps"][APP]}},
            "13.1.10",
            ["begins with a number", "The Supervisor 13.1.11 accepts it"],
        ),
        (
            state(labels={"a_b": "x"}),
            "12.11.43",
            ["apps.1.services.100.labels.a_b", "The Supervisor 14.2.11 accepts it"],
        ),
        ({**state(), "config": False}, "14.0.21", ["config: expected", "No later Supervisor accepts it"]),
    ],
)
def test_a_refusal_names_the_rule_and_the_version_that_takes_the_file(
    content: object, supervisor: str, said: list[str]
) -> None:
    apps = read_apps_json(encoded(content), "mine.json")
    with pytest.raises(UsageError) as caught:
        fit(apps, parse_supervisor_version(supervisor), "mine.json", "/etc/x in resin-rootA")
    for text in ("mine.json", f"Supervisor {supervisor} (/etc/x in resin-rootA)", *said):
        assert text in str(caught.value)


def test_a_file_is_held_against_the_supervisor_as_it_is() -> None:
    apps = read_apps_json(encoded(state()), "apps.json")
    assert check_as_it_is(apps, SupervisorVersion(13, 0, 0)) == apps
    with pytest.raises(UsageError, match=r"of version 3, but the disk image's Supervisor 12\.11\.43 reads version 2"):
        check_as_it_is(apps, SupervisorVersion(12, 11, 43))
    two = fit(apps, SupervisorVersion(12, 11, 43))
    assert check_as_it_is(two, SupervisorVersion(12, 11, 43)).version == 2
    with pytest.raises(UsageError, match="only reads online"):
        check_as_it_is(two, SupervisorVersion(13, 1, 6))


def test_what_is_taken_but_does_something_else_is_said() -> None:
    def said(content: object, supervisor: SupervisorVersion) -> str:
        return "\n".join(effects(read_apps_json(encoded(content), "apps.json", ANY_VERSION), supervisor))

    new, older = SupervisorVersion(19, 0, 5), SupervisorVersion(14, 0, 20)
    assert said({**state(), "pinDevice": True}, new) == ""
    assert "lights/main: running is false, and its container is made, but not started" in said(
        state(running=False), new
    )
    assert "14.0.20 starts it all the same" in said(state(running=False), older)
    assert "not started" in said(state(composition={"running": False}), new)
    assert "hasOwnProperty" in said(state(labels={"hasOwnProperty": "x"}), SupervisorVersion(16, 12, 9))
    assert said(state(labels={"hasOwnProperty": "x"}), SupervisorVersion(17, 1, 7)) == ""
    two = {**state(), "pinDevice": True}
    two["apps"]["cd" * 16] = {**two["apps"][APP], "name": "heat"}
    assert "the apps lights, heat have the id 1" in said(two, new)
    assert "of 2 apps of class fleet in apps.json, the Supervisor pins the first one: lights" in said(two, new)
    for app in two["apps"].values():
        app["class"] = "block"
    # Which first_boot.pinning_warning says.
    assert "pins" not in said(two, new)
    releases = state()
    app = releases["apps"][APP]
    app["releases"]["7"] = app["releases"][RELEASE]
    assert "lights has 2 releases in apps.json, of which the Supervisor runs 7 only" in said(releases, new)


def test_javascript_reads_numbers_as_it_does() -> None:
    assert first_key({"b": 1, "10": 1, "2": 1, "02": 1, "4294967295": 1}) == "2"
    assert first_key({"b": 1, "a": 1}) == "b"
    numbers = ["0", "12", "12.0", "+5", "0e1", " 5\n", "\ufeff5", "-0", "5.", "1e0", "0x0", "1" * 400]
    others = ["", "a", "0x10", "1e3", "-1", "5.5", ".5", "1_0", "1a", "\u0663", "Infinity", "1" * 22 + "a"]
    assert [is_identifier_text(text) for text in numbers] == [True] * len(numbers)
    assert [is_identifier_text(text) for text in others] == [False] * len(others)
    assert [begins_with_number(text) for text in ("1a", " +1a", "0x10", "-1a")] == [True] * 4
    assert [begins_with_number(text) for text in ("a1", ".5", "+-1", "", "+")] == [False] * 5


@pytest.mark.parametrize("number", ["12", " 12 ", "12.0", "+12", "12.", 12, 12.0])
def test_ids_that_are_written_oddly_are_the_numbers_that_they_are(number: object) -> None:
    content = state(id=number)
    content["apps"][APP]["id"] = content["apps"][APP]["releases"][RELEASE]["id"] = number
    apps = read_apps_json(encoded({**content, "pinDevice": True}), "apps.json")
    made = json.loads(fit(apps, SupervisorVersion(12, 11, 43)).content)
    assert list(made["apps"]) == ["12"]
    assert list(made["apps"]["12"]["services"]) == ["12"]
    assert pinned_release(apps) == 12


# --- requirements ---


def requiring(*requires: dict[str, object], **service: object) -> dict[str, Any]:
    return state(contract={"type": "sw.container", "slug": "main", "requires": list(requires)}, **service)


@pytest.mark.parametrize(("supervisor", "does"), [("16.4.6", "ignores apps.json"), ("16.7.0", "does not run the app")])
def test_a_requirement_that_the_supervisor_does_not_meet_is_refused(supervisor: str, does: str) -> None:
    version = parse_supervisor_version(supervisor)
    with pytest.raises(UsageError, match=rf"(?s)so that it {does}:\n  lights/main requires sw\.supervisor >=99\n"):
        fit_to(encoded(requiring({"type": "sw.supervisor", "version": ">=99"})), version)
    assert is_taken(encoded(requiring({"type": "sw.supervisor", "version": ">=12 <99"})), version)


def test_contracts_do_not_count_before_the_supervisor_looks_at_them() -> None:
    content = encoded(requiring({"type": "sw.supervisor", "version": ">=99"}))
    assert is_taken(content, parse_supervisor_version("10.3.7"))
    assert not is_taken(content, parse_supervisor_version("10.4.0"))
    assert not is_taken(content, parse_supervisor_version("12.11.43"))


def test_an_optional_service_is_left_out() -> None:
    version = parse_supervisor_version("19.0.5")
    content = encoded(
        requiring({"type": "sw.supervisor", "version": "99"}, labels={"io.balena.features.optional": "True"})
    )
    [said] = effects(fit_to(content, version), version)
    assert (
        said == "lights/main requires sw.supervisor 99, so that the Supervisor 19.0.5 does not run it (it is optional)"
    )


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        ({"type": "arch.sw", "slug": "aarch64"}, "arch.sw aarch64"),
        ({"type": "sw.l4t", "version": ">=32"}, "sw.l4t >=32"),
        ({"type": "sw.supervisor", "version": ">=99.0.0-rc.1"}, "sw.supervisor >=99.0.0-rc.1"),
        ({"or": [{"type": "arch.sw", "slug": "i386"}, {"type": "sw.os"}]}, "arch.sw i386 or sw.os"),
    ],
)
def test_what_the_disk_image_does_not_decide_is_a_warning(requirement: dict[str, object], text: str) -> None:
    version = parse_supervisor_version("19.0.5")
    [said] = effects(fit_to(encoded(requiring(requirement)), version), version)
    assert said == (
        f"lights/main: it is not known whether the device has {text}, as the contract requires; if not, the Supervisor does "
        "not run the app"
    )


@pytest.mark.parametrize(
    "requirement",
    [{"type": "arch.sw"}, {"or": [{"type": "sw.supervisor", "version": "^19"}, {"type": "arch.sw", "slug": "i386"}]}],
)
def test_what_is_met_is_not_mentioned(requirement: dict[str, object]) -> None:
    version = parse_supervisor_version("19.0.5")
    assert effects(fit_to(encoded(requiring(requirement)), version), version) == ()
