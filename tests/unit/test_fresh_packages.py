"""A pip elsewhere asks the servers that this machine's pip asks."""

from __future__ import annotations

from pathlib import Path

from tests.fresh.packages import local_paths, parse_settings, pip_environment

_LISTED = r"""
:env:.default-timeout='180'
:env:.index-url='https://user:secret@packages.example/simple'
:env:.cache-dir='/var/cache/pip'
global.index-url='https://other.example/simple'
global.extra-index-url='\nfile:///srv/a\nfile:///srv/b'
list.format='columns'
"""


def test_settings_become_variables() -> None:
    """Only those on where packages come from; variables win over files, as with pip."""
    assert parse_settings(_LISTED) == {
        "PIP_DEFAULT_TIMEOUT": "180",
        "PIP_INDEX_URL": "https://user:secret@packages.example/simple",
        "PIP_EXTRA_INDEX_URL": "file:///srv/a file:///srv/b",
    }


def test_what_lies_on_this_machine_is_found(tmp_path: Path) -> None:
    (tmp_path / "an index").mkdir()
    wheels = tmp_path / "wheels"
    wheels.touch()
    variables = {
        "PIP_EXTRA_INDEX_URL": f"https://example.com{tmp_path} file://{tmp_path}/an%20index file:///no/such",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_RETRIES": "5",
    }
    assert list(local_paths(variables)) == [tmp_path / "an index", wheels]


def test_this_machine_has_settings_that_can_be_read() -> None:
    assert all(name.startswith("PIP_") or name.lower().endswith("_proxy") for name in pip_environment())
