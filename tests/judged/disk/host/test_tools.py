"""Programs of e2fsprogs are found where Debian has them, whatever PATH says."""

from __future__ import annotations

import pytest

from drypoint.disk.host.tools import find_tool, tool_path
from drypoint.errors import ToolError


@pytest.mark.needs("e2fsck")
def test_the_sbin_directories_are_searched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user of Debian has neither in PATH."""
    monkeypatch.setenv("PATH", "/usr/local/bin")
    assert tool_path("e2fsck") in ("/usr/sbin/e2fsck", "/sbin/e2fsck")


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(
        ToolError, match=r"the program no-such-program is missing; install it .*apt install some-package"
    ):
        find_tool("no-such-program", "some-package")
