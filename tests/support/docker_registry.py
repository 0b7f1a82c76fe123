"""Debian's docker-registry on loopback, as a context manager.

Blobs are written directly to its storage tree, which is fast and lets a test serve bytes with a wrong digest; manifests are
pushed by HTTP, so that the registry checks the blobs that they name.

Format of the tree: github.com/distribution/distribution, registry/storage/paths.go.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import urllib3

from drypoint.digest import Digest, digest_of, hex_of, parse_digest
from drypoint.errors import ToolError
from drypoint.samples.registry import RegistryContent
from drypoint.samples.tools import find_tool, tool_environment

USER = "reader"
PASSWORD = "drypoint-reads"
_HTPASSWD = f"{USER}:$2b$04$33mufn/DvRO15yvvk2pqyef2gKf39ElzMwzOv5zz0u4MP9rYE834O\n"
"""bcrypt of PASSWORD, the only hash that the registry accepts, at the lowest cost."""

_ATTEMPTS = 5
_READY_SECONDS = 15.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """Token authentication: the token server, and what the registry checks tokens against.

    Attributes:
        realm: the token server's address.
        service: the audience of tokens.
        certificate: a PEM file; tokens are signed with its key.
        push_token: returns a token for pushing to a repository.
    """

    realm: str
    service: str
    issuer: str
    certificate: Path
    push_token: Callable[[str], str]


class DockerRegistry:
    """A running registry at ``address`` (``127.0.0.1:PORT``); storage and log are removed at its end.

    Args:
        authenticated: require USER and PASSWORD (basic authentication) for every request.
        token_auth: require a token of that server for every request.

    Raises:
        ToolError: docker-registry is missing, does not come up, or refuses a manifest.
    """

    def __init__(self, *, authenticated: bool = False, token_auth: TokenAuth | None = None) -> None:
        self._authenticated = authenticated
        self._token_auth = token_auth
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path()
        self._port = 0

    def __enter__(self) -> DockerRegistry:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def reference(self, repository: str, tag_or_digest: str) -> str:
        """The reference of an image in this registry."""
        separator = "@" if ":" in tag_or_digest else ":"
        return f"{self.address}/{repository}{separator}{tag_or_digest}"

    def log(self) -> str:
        """The registry's log so far, with one line for every request."""
        return (self._directory / "log").read_text(errors="replace")

    def _start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix=f"drypoint-registry-{os.getpid()}-"))
        self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._stack.callback(self._stop_process)
        for _ in range(_ATTEMPTS):
            self._port = free_port()
            self._spawn()
            if self._wait_until_ready():
                return
            self._stop_process()
        raise ToolError(
            f"docker-registry did not start in {_ATTEMPTS} attempts; the end of its log:\n{self.log()[-3000:]}"
        )

    def _spawn(self) -> None:
        configuration = self._directory / "config.yml"
        # JSON is YAML too.
        configuration.write_text(json.dumps(self._configuration()))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_tool("setpriv"), "--pdeathsig=KILL", find_tool("docker-registry"), "serve", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=tool_environment({"OTEL_TRACES_EXPORTER": "none"}),
                start_new_session=True,
            )

    def _configuration(self) -> dict[str, object]:
        configuration: dict[str, object] = {
            "version": "0.1",
            "storage": {
                "filesystem": {"rootdirectory": str(self._directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address},
        }
        if self._authenticated:
            passwords = self._directory / "htpasswd"
            passwords.write_text(_HTPASSWD)
            configuration["auth"] = {"htpasswd": {"realm": "drypoint", "path": str(passwords)}}
        if self._token_auth is not None:
            configuration["auth"] = {
                "token": {
                    "realm": self._token_auth.realm,
                    "service": self._token_auth.service,
                    "issuer": self._token_auth.issuer,
                    "rootcertbundle": str(self._token_auth.certificate),
                }
            }
        return configuration

    def _wait_until_ready(self) -> bool:
        """Whether it started: False if it ended by itself, as when another program has taken the port."""
        assert self._process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            # By the registry's own log: an answer on the port could be from another program.
            if f"listening on {self.address}" in self.log():
                return True
            time.sleep(_POLL_SECONDS)
        raise ToolError(
            f"docker-registry did not listen within {_READY_SECONDS:g} s; the end of its log:\n{self.log()[-3000:]}"
        )

    def _stop_process(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the registry and remove its storage. Further calls do nothing."""
        self._stack.close()

    def push(self, content: RegistryContent) -> None:
        """Add *content* to the registry.

        Raises:
            ToolError: a manifest names a blob that *content* does not have, or the registry refuses a manifest.
        """
        for (repository, _), (_, manifest) in content.manifests.items():
            for digest in _blobs_of(manifest):
                if digest in content.blobs:
                    self._place(repository, digest, content.blobs[digest])
        with urllib3.PoolManager(maxsize=1) as client:
            # Indexes come last: the registry requires the manifests that they name.
            ordered = sorted(content.manifests.items(), key=lambda item: _is_index(item[1][1]))
            for (repository, reference), (media_type, manifest) in ordered:
                self._put_manifest(client, repository, reference, media_type, manifest)

    def _place(self, repository: str, digest: Digest, blob: bytes | Path) -> None:
        name = hex_of(digest)
        tree = self._directory / "storage/docker/registry/v2"
        data = tree / "blobs/sha256" / name[:2] / name / "data"
        if not data.exists():
            data.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(blob, Path):
                shutil.copyfile(blob, data)
            else:
                data.write_bytes(blob)
        link = tree / "repositories" / repository / "_layers/sha256" / name / "link"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text(digest)

    def _put_manifest(
        self, client: urllib3.PoolManager, repository: str, reference: str, media_type: str, manifest: bytes
    ) -> None:
        headers = {"Content-Type": media_type}
        if self._authenticated:
            headers.update(urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}"))
        if self._token_auth is not None:
            headers["Authorization"] = f"Bearer {self._token_auth.push_token(repository)}"
        url = f"http://{self.address}/v2/{repository}/manifests/{reference}"
        answer = client.request("PUT", url, body=manifest, headers=headers, retries=False, timeout=30.0)
        if answer.status != 201:
            raise ToolError(
                f"docker-registry refused the manifest {digest_of(manifest)} of {repository} with status {answer.status}: "
                f"{answer.data[:1000].decode(errors='replace')}"
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_index(manifest: bytes) -> bool:
    return "manifests" in json.loads(manifest)


def _blobs_of(manifest: bytes) -> list[Digest]:
    fields = json.loads(manifest)
    descriptors = [*fields.get("layers", ()), *([fields["config"]] if "config" in fields else [])]
    return [parse_digest(descriptor["digest"]) for descriptor in descriptors]
