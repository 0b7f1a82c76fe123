"""What a balena user asks for, as one value."""

from __future__ import annotations

from pathlib import Path

import pytest

from drypoint.balena.boot_request import BootRequest
from drypoint.balena.cloud_states import CloudServer
from drypoint.balena.request import BalenaRequest
from drypoint.errors import UsageError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to preload"),
        ({"boot": BootRequest(), "server": CloudServer("t")}, "nothing to preload"),
        ({"images": ("alpine",), "replace": True}, "--replace needs the new release"),
        ({"images": ("alpine",), "supervisor_version": "1.2.3"}, "--supervisor-version needs"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BalenaRequest(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"fleets": ("a/b",)},
        {"device": "d"},
        {"apps_json": (Path("apps.json"),), "replace": True},
        {"images": ("alpine",)},
        {"compose": Path("compose.yaml")},
        {"supervisor_image": "alpine", "supervisor_version": "1.2.3"},
        {"boot": BootRequest(static_ip="10.0.0.1/24")},
    ],
)
def test_each_kind_of_input_is_enough(given: dict[str, object]) -> None:
    wanted = BalenaRequest(**given)  # type: ignore[arg-type]
    assert [name for name in given if getattr(wanted, name) != given[name]] == []


def test_secrets_do_not_show() -> None:
    wanted = BalenaRequest(
        fleets=("a/b",), server=CloudServer("hunter2"), boot=BootRequest(settings=("apiKey=hunter2",))
    )
    assert "hunter2" not in repr(wanted)
