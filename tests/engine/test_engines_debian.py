"""Where debootstrap is sent: to what the machine's own apt uses, whatever form its configuration has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.debian import archive_mirror

pytestmark = pytest.mark.needs("apt-get")

MIRROR = ("mirror.example_debian_dists_bookworm", "Debian", "Debian")
SECURITY = ("mirror.example_debian-security_dists_bookworm-security", "Debian", "Debian-Security")
THIRD_PARTY = ("other.example_apt_dists_bookworm", "Other", "Other")
ONE_LINE = """\
deb [trusted=yes] http://other.example/apt bookworm main
deb [trusted=yes] http://mirror.example/debian-security bookworm-security main
deb [trusted=yes arch=amd64] http://mirror.example/debian/ bookworm contrib main
"""
DEB822 = """\
Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Trusted: yes

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
Trusted: yes
"""


def configure(directory: Path, monkeypatch: pytest.MonkeyPatch, sources: str, kind: str) -> None:
    """Give apt a configuration of its own, with the lists that an update would have fetched."""
    lists, parts = directory / "lists", directory / "parts"
    (lists / "partial").mkdir(parents=True)
    parts.mkdir()
    (parts / f"test.{kind}").write_text(sources)
    configuration = directory / "apt.conf"
    configuration.write_text(
        f'Dir::State::lists "{lists}";\nDir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n'
        'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    for name, origin, label in (MIRROR, SECURITY, THIRD_PARTY):
        (lists / f"{name}_Release").write_text(
            f"Origin: {origin}\nLabel: {label}\nCodename: bookworm\nComponents: main\nArchitectures: amd64\n"
            "Date: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n"
            " e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n"
        )
        (lists / f"{name}_main_binary-amd64_Packages").write_bytes(b"")


@pytest.mark.parametrize(("sources", "kind"), [(ONE_LINE, "list"), (DEB822, "sources")])
def test_the_archive_is_told_from_its_updates_and_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: str, kind: str
) -> None:
    configure(tmp_path, monkeypatch, sources, kind)
    assert archive_mirror() == "http://mirror.example/debian/"


@pytest.mark.parametrize("sources", ["", "deb [trusted=yes] http://other.example/apt bookworm main\n"])
def test_no_source_of_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: str) -> None:
    configure(tmp_path, monkeypatch, sources, "list")
    assert archive_mirror() is None
