"""Several target states made one, and whether everything runs on the device."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from drypoint.balena.apps_json import ANY_VERSION, AppsJson, read_apps_json
from drypoint.balena.architecture import NeededArchitecture, check_architecture, runs_on
from drypoint.balena.device_type import DeviceType
from drypoint.balena.merge import merge_apps_json
from drypoint.errors import UsageError
from drypoint.oci import Image, Platform, parse_config, parse_reference

from .test_apps_json import APP, STATE
from .test_compatibility import V2

BLOCK = "b" * 32


def read(state: object) -> AppsJson:
    return read_apps_json(json.dumps(state).encode(), "apps.json", ANY_VERSION)


def second(**changes: object) -> dict[str, Any]:
    """The state of a block, beside the fleet's."""
    app = {**STATE["apps"][APP], "id": 7, "name": "block", "class": "block"}
    return {"apps": {BLOCK: app}, "config": {"SECOND": "x"}, "pinDevice": False, **changes}


def test_apps_and_config_of_all_are_in_the_result() -> None:
    merged = merge_apps_json([("one", read(STATE)), ("two", read(second()))])
    state = json.loads(merged.content)
    assert state["apps"] == {**STATE["apps"], **second()["apps"]}
    assert state["config"] == {**STATE["config"], "SECOND": "x"}
    assert state["pinDevice"] is False
    assert merged.content == merge_apps_json([("two", read(second())), ("one", read(STATE))]).content


def test_a_single_one_stays_byte_by_byte() -> None:
    only = read(STATE)
    assert merge_apps_json([("one", only)]) is only


def test_the_same_app_twice_is_no_conflict() -> None:
    assert json.loads(merge_apps_json([("one", read(STATE)), ("two", read(STATE))]).content)["apps"] == STATE["apps"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            {**STATE, "config": {"SUPERVISOR_POLL_INTERVAL": "1"}},
            "config.SUPERVISOR_POLL_INTERVAL has one value in one and another in two",
        ),
        ({**STATE, "apps": {APP: {**STATE["apps"][APP], "name": "x"}}}, f"the app {APP} is in one and in two"),
        (
            second(apps={BLOCK: {**STATE["apps"][APP], "name": "heat"}}),
            r"2 apps are of class fleet: lights \(one\), heat \(two\)",
        ),
        (second(pinDevice=True), "pinned or it is not"),
        (V2, "two is of version 2"),
    ],
)
def test_contradictions_are_named(state: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        merge_apps_json([("one", read(STATE)), ("two", read(state))])


def test_the_config_of_the_fleet_counts() -> None:
    """A server gives each app a RESIN_SUPERVISOR_POLL_INTERVAL, so a fleet that sets it differs from every block."""
    block = read(second(config={"SUPERVISOR_POLL_INTERVAL": "1", "SECOND": "x"}))
    for states in ([("one", read(STATE)), ("two", block)], [("two", block), ("one", read(STATE))]):
        assert json.loads(merge_apps_json(states).content)["config"] == {**STATE["config"], "SECOND": "x"}


def test_without_a_fleet_differing_config_is_a_contradiction() -> None:
    app = {**second()["apps"][BLOCK], "class": "app"}
    states = [("one", read(second())), ("two", read(second(apps={APP: app}, config={"SECOND": "y"})))]
    with pytest.raises(UsageError, match=r"config\.SECOND has one value in one and another in two"):
        merge_apps_json(states)


def test_many_contradictions_are_bounded() -> None:
    config = {f"C{number}": "1" for number in range(1000)}
    other = dict.fromkeys(config, "2")
    with pytest.raises(UsageError, match="and 990 more") as caught:
        merge_apps_json([("one", read({**STATE, "config": config})), ("two", read({**STATE, "config": other}))])
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("device", "program", "runs"),
    [
        ("aarch64", "aarch64", True), ("aarch64", "armv7hf", True), ("aarch64", "rpi", True), ("aarch64", "amd64", False),
        ("armv7hf", "rpi", True), ("armv7hf", "aarch64", False), ("rpi", "armv7hf", False), ("amd64", "i386", True),
        ("i386", "amd64", False), ("riscv64", "riscv64", True), ("riscv64", "rpi", False),
    ],
)  # fmt: skip
def test_which_architecture_runs_which(device: str, program: str, runs: bool) -> None:
    assert runs_on(device, program) is runs
    need = NeededArchitecture("org/fleet", "a-board", program)
    if runs:
        check_architecture(DeviceType("board", device), [need])
    else:
        with pytest.raises(UsageError, match=f"org/fleet is for a-board \\({program}\\)(.|\n)*--dont-check-arch"):
            check_architecture(DeviceType("board", device), [need])


def image_for(architecture: str, variant: str = "") -> Image:
    config = parse_config(b'{"rootfs": {"type": "layers", "diff_ids": []}}', "test")
    return Image((parse_reference("app:1"),), replace(config, platform=Platform("linux", architecture, variant)), ())


@pytest.mark.parametrize(
    ("device", "architecture", "variant", "runs"),
    [
        ("aarch64", "arm64", "", True), ("aarch64", "arm64", "v8", True), ("aarch64", "arm", "v7", True),
        ("aarch64", "arm", "", True), ("aarch64", "amd64", "", False), ("armv7hf", "arm64", "", False),
        ("rpi", "arm", "v7", False), ("rpi", "arm", "v6", True), ("rpi", "arm", "", True), ("amd64", "386", "", True),
        ("i386", "amd64", "", False), ("amd64", "arm", "", False), ("amd64", "", "", True), ("mips", "amd64", "", True),
    ],
)  # fmt: skip
def test_which_images_run_where(device: str, architecture: str, variant: str, runs: bool) -> None:
    if runs:
        check_architecture(DeviceType("board", device), [], [image_for(architecture, variant)])
    else:
        with pytest.raises(UsageError, match=f"the image app:1 is for linux/{architecture}"):
            check_architecture(DeviceType("board", device), [], [image_for(architecture, variant)])


def test_a_disk_image_that_does_not_say_what_it_is_for_is_not_checked() -> None:
    check_architecture(None, [NeededArchitecture("f", "t", "amd64")], [image_for("s390x")])
