"""Where this machine's pip has packages from, for a Debian system that shall have them from there too."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_OPTIONS = frozenset(
    {
        "cert",
        "client-cert",
        "constraint",
        "default-timeout",
        "extra-index-url",
        "find-links",
        "index-url",
        "no-index",
        "proxy",
        "retries",
        "timeout",
        "trusted-host",
    }
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's; what this machine trusts may be more than what a new system does."""


def pip_environment() -> dict[str, str]:
    """The variables with which a pip elsewhere asks the same servers as this machine's.

    They may hold a password of an index, and are not for showing.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    variables = parse_settings(listed.stdout)
    if _CERTIFICATES.exists():
        variables.setdefault("PIP_CERT", str(_CERTIFICATES))
    return variables | {name: os.environ[name] for name in _PROXIES if name in os.environ}


def parse_settings(listed: str) -> dict[str, str]:
    """Variables for what ``pip config list`` printed: a line ``section.option='value'`` for each setting."""
    files: dict[str, str] = {}
    environment: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if option not in _OPTIONS or section not in ("global", "install", ":env:"):
            continue
        # A value in a file may have several lines, in a variable they are words.
        words = " ".join(str(ast.literal_eval(value)).split())
        variables = environment if section == ":env:" else files
        variables[f"PIP_{option.upper().replace('-', '_')}"] = words
    return files | environment


def local_paths(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files and directories of this machine that the variables name, as paths or ``file:`` URLs."""
    for value in environment.values():
        for word in value.split():
            path = Path(unquote(urlsplit(word).path)) if word.startswith("file://") else Path(word)
            if path.is_absolute() and path.exists():
                yield path
