"""Fitting an apps.json to the Supervisor on a disk image.

Sources: balena-supervisor's tags. Up to 6 it reads version 1, one container an app. From 7.0.0 to 12.11.43 it reads version 2;
``pinDevice`` takes effect from 7.11.0 on. From 13.0.0 on it reads version 3. It reads version 2 too, but then asks the API for
the uuid of each app, so that version 2 is useless without a network. No version works for all, so the Supervisor's version
must be known.
"""

from __future__ import annotations

import msgspec

from ..errors import UsageError
from .apps_json import (
    AppsJson,
    AppsJsonVersion,
    check_state,
    first_to_take,
    listed,
    parse_state,
)
from .apps_json_v2 import to_version_2
from .requirements import consequence, open_requirements
from .supervisor_rules import FIRST_OF_VERSION_2, FIRST_OF_VERSION_3, FIRST_TO_PIN
from .supervisor_version import SupervisorVersion
from .target_state import MAX_FAULTS_SHOWN


def version_for(supervisor: SupervisorVersion) -> AppsJsonVersion:
    """The version of apps.json that *supervisor* reads without a network.

    Raises:
        UsageError: it is too old.
    """
    if supervisor.numbers < FIRST_OF_VERSION_2:
        raise UsageError(
            f"the disk image has the Supervisor {supervisor}, which runs only one container and reads an apps.json of "
            "version 1; 7.0.0 or later is needed. Use a newer balenaOS"
        )
    return 2 if supervisor.numbers < FIRST_OF_VERSION_3 else 3


def fit(apps: AppsJson, supervisor: SupervisorVersion, what: str = "apps.json", said_by: str = "") -> AppsJson:
    """*apps* in the version that *supervisor* reads: unchanged, or converted to version 2.

    Args:
        what: its name in errors.
        said_by: the source of the Supervisor's version, for errors.

    Raises:
        UsageError: that is not possible; the message has each fault, and the version that accepts the file.
    """
    wanted = version_for(supervisor)
    reader = f"the disk image's Supervisor {supervisor}" + (f" ({said_by})" if said_by else "")
    if wanted == 3 and apps.version == 2:
        raise UsageError(
            f"{what} is of version 2, which {reader} only reads online, as it gets each app's uuid from the API. "
            "Use version 3 (--fleet, or --save-apps-json)"
        )
    if apps.pin_device and supervisor.numbers < FIRST_TO_PIN:
        raise UsageError(
            f"{what} pins the device to its release, which {reader} does not support: "
            "{}.{}.{} or later is needed. Use a newer balenaOS, or do not pin".format(*FIRST_TO_PIN)
        )
    state = given = parse_state(apps.content, what)
    content = apps.content
    if wanted != apps.version:
        state = to_version_2(given)
        content = msgspec.json.encode(state, order="sorted")
        what = f"{what} for the Supervisor {supervisor} (version 2)"
    found = check_state(state, wanted, supervisor)
    if found.faults:
        later = first_to_take(state, wanted, supervisor) or first_to_take(given, apps.version, supervisor)
        advice = (
            "No later Supervisor accepts it either: correct it"
            if later is None
            else f"The Supervisor {later} accepts it unchanged: use a balenaOS with it or a later one, or correct the file"
        )
        raise UsageError(f"{reader} would ignore {what}:\n{listed(found)}\n{advice}")
    unmet = [one for one in open_requirements(state, supervisor) if one.met is False and not one.optional]
    if unmet:
        shown = "\n".join(f"  {one.service} requires {one.text}" for one in unmet[:MAX_FAULTS_SHOWN])
        raise UsageError(
            f"{what} has requirements that {reader} does not meet, so that it {consequence(supervisor)}:\n{shown}\n"
            "Take a balenaOS whose Supervisor meets them, or a release whose contracts require less"
        )
    return AppsJson(content, found.services, apps.pin_device, wanted)


def check_as_it_is(
    apps: AppsJson, supervisor: SupervisorVersion, what: str = "apps.json", said_by: str = ""
) -> AppsJson:
    """Check that *supervisor* accepts *apps* unchanged, without a network.

    Args:
        what, said_by: see :func:`fit`.

    Raises:
        UsageError: it does not.
    """
    fitting = fit(apps, supervisor, what, said_by)
    if fitting.version != apps.version:
        raise UsageError(
            f"{what} is of version {apps.version}, but the disk image's Supervisor {supervisor}"
            + (f" ({said_by})" if said_by else "")
            + f" reads version {fitting.version}; {FIRST_OF_VERSION_3[0]} and later take it"
        )
    return apps
