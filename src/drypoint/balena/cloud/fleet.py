"""Looking up fleets, releases and devices by the names that users give.

Sources: balena-sdk (``src/models/application.ts``, ``release.ts``), balena-cli (``src/utils/sdk.ts``) and open-balena-api's
model (``src/balena.sbvr``). A fleet is an ``application``, found by slug (``org/fleet``, lower case), uuid, id, or by its name
alone among those that the login has direct access to (balena-sdk, ``getAppByName``); the release of its devices is
``should_be_running__release``. A successfully built release has the status ``success``; a fleet has at most one such release
of a commit. A commit may be shortened if it stays unambiguous. The model is ``/v7/`` from open-balena-api 26.4.0 on and
``/v6/`` before, equal in everything that is used here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from ...decoders import json_decoder
from ...errors import SourceError, UsageError
from .client import CloudClient
from .query import odata_text

CURRENT = "current"
LATEST = "latest"
_MODELS = ("v7", "v6")
_NUMBER = re.compile(r"[0-9]+")
_LARGEST_ID = 2**31 - 1
"""Ids are integer columns of the server's database, which fails for larger ones."""
_UUID_LENGTH = 32
_UUID = re.compile(r"[0-9a-f]{32}")
_DIRECT_ACCESS = "is_directly_accessible_by__user/any(dau:1 eq 1)"
_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_DEVICE_UUID = re.compile(r"[0-9a-f]{7,64}")
_DEVICE_TYPE = "$select=slug;$expand=is_of__cpu_architecture($select=slug)"
_SHOWN = 5
_Row = TypeVar("_Row")


class CloudDeviceType(msgspec.Struct, frozen=True):
    """``slug`` names it (``raspberrypi4-64``), ``arch`` its processor in balena's words (``aarch64``); "" is not known."""

    slug: str = ""
    arch: str = ""


class Fleet(msgspec.Struct, frozen=True):
    """A fleet, block or app on the server.

    Attributes:
        slug: ``org/fleet``.
        running: the commit of the release that its devices should run, if set.
    """

    id: int
    uuid: str
    slug: str
    device_type: CloudDeviceType
    running: str | None


class Device(msgspec.Struct, frozen=True):
    """A registered device, its type, and the fleet that it belongs to."""

    uuid: str
    name: str
    device_type: CloudDeviceType
    fleet: Fleet


class _RawArchitecture(msgspec.Struct):
    slug: str = ""


class _RawDeviceType(msgspec.Struct):
    slug: str = ""
    is_of__cpu_architecture: list[_RawArchitecture] = []


class _RawRelease(msgspec.Struct):
    commit: str
    status: str = "success"


class _RawStanding(msgspec.Struct):
    is_final: bool = True
    is_invalidated: bool = False


class _RawFleet(msgspec.Struct):
    id: int
    uuid: str
    slug: str
    is_for__device_type: list[_RawDeviceType] = []
    should_be_running__release: list[_RawRelease] = []


class _RawNamed(msgspec.Struct):
    id: int
    slug: str
    app_name: str


class _RawDevice(msgspec.Struct):
    uuid: str
    device_name: str | None = None
    is_of__device_type: list[_RawDeviceType] = []


class _RawRows(msgspec.Struct):
    d: list[msgspec.Raw]


class CloudModel:
    """The server's OData model: filtered rows of a resource."""

    def __init__(self, client: CloudClient) -> None:
        self.client = client
        self._version = 0

    def rows(self, resource: str, shape: type[_Row], query: Sequence[tuple[str, str]]) -> list[_Row]:
        """Rows of *resource*, each decoded as *shape*.

        Raises:
            SourceError: the server refuses (AuthenticationError), cannot be reached (TransferError) or has no such model.
        """
        while True:
            path = f"/{_MODELS[self._version]}/{resource}"
            older = self._version + 1 < len(_MODELS)
            answer = self.client.get(path, query, expected=frozenset((401, 404) if older else (401,)))
            if answer.status == 401:
                # The status for an unknown login, and for a resource that does not exist.
                self.client.check_login()
                raise SourceError(
                    f"{self.client.settings.host}{path}: the server has no such resource, or none for this login (status 401)"
                    ". The key of a device or of a fleet (provisioning) is not a user's login: give a user's token with "
                    "--token, or name the fleet as ORGANISATION/FLEET"
                )
            if answer.status == 200:
                rows = self.client.read(answer, _RawRows, path).d
                try:
                    return [json_decoder(shape).decode(row) for row in rows]
                except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                    raise SourceError(
                        f"{self.client.settings.host}{path} answers with rows that lack requested fields"
                    ) from None
            self._version += 1


def find_fleet(model: CloudModel, name: str) -> Fleet:
    """The fleet *name*: its slug, uuid, id, or its name alone if only one fleet has it.

    Raises:
        UsageError: several fleets have that name; they are listed.
        SourceError: there is none that this login can see.
        AuthenticationError: the server does not accept the login.
    """
    text = name.strip()
    lower = text.lower()
    found: list[Fleet] = []
    if _NUMBER.fullmatch(text) and len(text) < _UUID_LENGTH:
        # A larger number can still be a fleet's name.
        if int(text) <= _LARGEST_ID:
            found = _fleets(model, f"id eq {int(text)}")
    elif "/" in text or _UUID.fullmatch(lower):
        literal = odata_text(lower)
        found = _fleets(model, f"(slug eq {literal}) or (uuid eq {literal})")
    if not found and "/" not in text:
        number = _by_name(model, text)
        found = [] if number is None else _fleets(model, f"id eq {number}")
    if found:
        return found[0]
    # Without a login, only public fleets are visible: report a bad login first.
    model.client.check_login()
    hint = ""
    if _NUMBER.fullmatch(text) and int(text[:_UUID_LENGTH]) > _LARGEST_ID:
        hint = f", and a fleet's id is at most {_LARGEST_ID}"
    raise SourceError(
        f"{model.client.settings.host} has no fleet {name[:100]!r} that this login can see{hint}. "
        "'balena fleet list' shows those that it can see, by name and as ORGANISATION/FLEET"
    )


def _fleets(model: CloudModel, chosen: str) -> list[Fleet]:
    """The fleets that the filter *chosen* selects."""
    found = model.rows(
        "application",
        _RawFleet,
        [
            ("$select", "id,uuid,slug"),
            ("$filter", chosen),
            ("$expand", f"should_be_running__release($select=commit),is_for__device_type({_DEVICE_TYPE})"),
        ],
    )
    return [
        Fleet(
            one.id,
            one.uuid,
            one.slug,
            _device_type(one.is_for__device_type),
            one.should_be_running__release[0].commit if one.should_be_running__release else None,
        )
        for one in found
    ]


def _by_name(model: CloudModel, name: str) -> int | None:
    """The id of the one fleet named *name*, by exact spelling, else in any case; None if there is none.

    Public fleets of other owners are never chosen, only listed: anyone can create one with a given name.

    Raises:
        UsageError: several fleets have the name, or only one of another owner.
    """
    chosen = f"tolower(app_name) eq {odata_text(name.lower())}"
    query = [("$select", "id,slug,app_name"), ("$orderby", "slug asc"), ("$top", "100")]
    own = model.rows("application", _RawNamed, [("$filter", f"({chosen}) and ({_DIRECT_ACCESS})"), *query])
    spelled = [one for one in own if one.app_name == name]
    found = spelled or own
    if len(found) == 1:
        return found[0].id
    choices = found or model.rows("application", _RawNamed, [("$filter", chosen), *query])
    if not choices:
        return None
    shown = ", ".join(one.slug[:100] for one in choices[:_SHOWN]) + (" and more" if len(choices) > _SHOWN else "")
    what = f"{len(choices)} fleets are called" if found else "this login has no fleet of its own called"
    raise UsageError(f"{what} {name[:100]!r}; give one with its organisation: {shown}")


def find_release(model: CloudModel, fleet: Fleet, wanted: str = CURRENT) -> str:
    """The commit of a release of *fleet*.

    Args:
        wanted: ``current`` is the release that the fleet's devices should run, or else the latest; ``latest`` is the newest
            one that was built, is final and was not invalidated, even if the fleet is pinned to another; anything else is a
            commit or its first digits.

    Raises:
        UsageError: *wanted* is malformed, or matches the commits of several releases.
        SourceError: there is no such release.
    """
    if wanted == CURRENT and fleet.running is not None:
        return fleet.running
    if wanted in (CURRENT, LATEST):
        return _latest(model, fleet)
    commit = wanted.strip().lower()
    if _COMMIT.fullmatch(commit) is None:
        raise UsageError(
            f"{wanted[:100]!r} is not a release: expected 'current', 'latest', or a commit of 4 to 64 hexadecimal digits"
        )
    chosen = f"(belongs_to__application eq {fleet.id}) and (startswith(commit,{odata_text(commit)}))"
    found = model.rows("release", _RawRelease, [("$select", "commit,status"), ("$filter", chosen), ("$top", "100")])
    built = sorted({release.commit for release in found if release.status == "success"})
    if commit in built:
        return commit
    if len(built) > 1:
        shown = ", ".join(one[:64] for one in built[:_SHOWN]) + (" and more" if len(built) > _SHOWN else "")
        raise UsageError(f"several releases of {fleet.slug} begin with {commit}: {shown}. Give more digits")
    if built:
        return built[0]
    if found:
        raise SourceError(
            f"the release {found[0].commit[:64]} of {fleet.slug} was not built: its status is {found[0].status[:40]!r}. "
            "Only a release whose status is 'success' can be preloaded"
        )
    raise SourceError(f"{fleet.slug} has no release whose commit begins with {commit}")


def release_note(model: CloudModel, fleet: Fleet, commit: str) -> str | None:
    """A note about a release that *latest* would not choose, a draft or an invalidated one; else None.

    Raises:
        SourceError: the server does not answer.
    """
    chosen = f"(belongs_to__application eq {fleet.id}) and (commit eq {odata_text(commit)}) and (status eq 'success')"
    query = [("$select", "is_final,is_invalidated"), ("$filter", chosen), ("$top", "1")]
    what = f"the release {commit} of {fleet.slug}"
    for found in model.rows("release", _RawStanding, query):
        if found.is_invalidated:
            return f"{what} was invalidated; '--commit {LATEST}' takes the newest one that was not"
        if not found.is_final:
            return f"{what} is a draft; '--commit {LATEST}' takes the newest one that is final"
    return None


def find_device(model: CloudModel, uuid: str) -> Device:
    """The device with *uuid*, or whose uuid starts with it.

    Raises:
        UsageError: it is not a uuid, or matches several devices.
        SourceError: there is no such device that this login can see.
    """
    text = uuid.strip().lower()
    if _DEVICE_UUID.fullmatch(text) is None:
        raise UsageError(f"{uuid[:100]!r} is not a device's uuid: expected 7 to 64 hexadecimal digits")
    found = model.rows(
        "device",
        _RawDevice,
        [
            ("$select", "uuid,device_name"),
            ("$filter", f"startswith(uuid,{odata_text(text)})"),
            ("$expand", f"is_of__device_type({_DEVICE_TYPE})"),
            ("$top", "100"),
        ],
    )
    exact = [device for device in found if device.uuid == text]
    if not found:
        model.client.check_login()
        raise SourceError(f"{model.client.settings.host} has no device {text} that this login can see")
    if len(found) > 1 and not exact:
        raise UsageError(f"the uuids of {len(found)} devices begin with {text}; give more digits")
    raw = (exact or found)[0]
    fleets = _fleets(model, f"owns__device/any(d:d/uuid eq {odata_text(raw.uuid)})")
    if not fleets:
        raise SourceError(
            f"{model.client.settings.host} does not show this login the fleet of the device {raw.uuid[:64]}"
        )
    return Device(raw.uuid, raw.device_name or "", _device_type(raw.is_of__device_type), fleets[0])


def _latest(model: CloudModel, fleet: Fleet) -> str:
    chosen = (
        f"(belongs_to__application eq {fleet.id}) and (status eq 'success') and (is_final eq true) "
        "and (is_invalidated eq false)"
    )
    found = model.rows(
        "release",
        _RawRelease,
        [("$select", "commit,status"), ("$filter", chosen), ("$orderby", "created_at desc,id desc"), ("$top", "1")],
    )
    if not found:
        raise SourceError(
            f"{fleet.slug} has no successful release that is final and was not invalidated, so there is nothing to preload; "
            f"make one with 'balena push {fleet.slug}', or give another one with --commit"
        )
    return found[0].commit


def _device_type(found: Sequence[_RawDeviceType]) -> CloudDeviceType:
    if not found:
        return CloudDeviceType()
    architectures = found[0].is_of__cpu_architecture
    return CloudDeviceType(found[0].slug, architectures[0].slug if architectures else "")
