"""Which proxy, which host is loopback, which text may be shown: pure rules."""

from __future__ import annotations

import email.utils
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import TransferError, UsageError
from drypoint.http.address import is_listed, is_loopback, origin, shown
from drypoint.http.proxy import Proxy, proxy_rules
from drypoint.http.retry import Patience, TransientError, parse_retry_after
from drypoint.sources.registry import RetryPolicy


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("", "https://example.com/", True),
        ("", "https://localhost/", False),
        ("", "https://127.0.0.1:5000/", False),
        ("", "https://127.8.8.8/", False),
        ("", "https://[::1]/", False),
        ("*", "https://example.com/", False),
        ("example.com", "https://example.com/", False),
        ("example.com", "https://a.example.com/", False),
        ("example.com", "https://badexample.com/", True),
        (".example.com", "https://example.com/", True),
        (".example.com", "https://a.example.com/", False),
        ("*.example.com", "https://a.example.com/", False),
        ("*.example.com", "https://example.com/", True),
        ("EXAMPLE.com , other", "https://Example.COM/", False),
        ("example.com:8443", "https://example.com/", True),
        ("example.com:443", "https://example.com/", False),
        ("example.com:8443", "https://example.com:8443/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.0.0.0/8", "https://ten.example.com/", True),
        ("10.1.2.3", "https://10.1.2.3:99/", False),
        ("10.1.2.3:98", "https://10.1.2.3:99/", True),
        ("fd00::/8", "https://[fd00::1]/", False),
        ("[fd00::1]:443", "https://[fd00::1]/", False),
        ("fd00::1", "https://[fd00::1]/", False),
        (":443,,nonsense/8", "https://example.com/", True),
    ],
)
def test_no_proxy(no_proxy: str, url: str, proxied: bool) -> None:
    rules = proxy_rules({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    assert (rules.proxy_for(url) is not None) is proxied


def test_each_scheme_has_its_variable() -> None:
    rules = proxy_rules({"HTTP_PROXY": "one:1", "https_proxy": "https://two"})
    assert rules.proxy_for("http://example.com/") == Proxy("http://one:1")
    assert rules.proxy_for("https://example.com/") == Proxy("https://two")
    assert proxy_rules({}).proxy_for("https://example.com/") is None
    assert proxy_rules({"HTTPS_PROXY": "a", "https_proxy": "b"}).https == Proxy("http://a")


def test_a_cgi_program_does_not_take_its_proxy_from_a_request() -> None:
    assert proxy_rules({"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}).http is None
    assert proxy_rules({"http_proxy": "http://good", "REQUEST_METHOD": "GET"}).http == Proxy("http://good")


def test_a_login_is_taken_from_the_address_and_does_not_show() -> None:
    proxy = proxy_rules({"HTTPS_PROXY": "http://ann:p%40ss@[fd00::2]:3128/"}).https
    assert proxy == Proxy("http://[fd00::2]:3128", "ann", "p@ss")
    assert "p@ss" not in repr(proxy)


@pytest.mark.parametrize("address", ["socks5://ann:hush@proxy", "http://", "http://proxy:hush", "http://[hush"])
def test_a_proxy_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        proxy_rules({"HTTPS_PROXY": address})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("128.0.0.1", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("domain", "listed"),
    [
        ("reg.lan:5000", True),
        ("REG.lan:5000", True),
        ("reg.lan", False),
        ("10.9.8.7:5000", True),
        ("11.9.8.7:5000", False),
        ("ten.example", False),
    ],
)
def test_insecure_registries_are_named_one_by_one_or_by_block(domain: str, listed: bool) -> None:
    assert is_listed(domain, ("reg.lan:5000", "10.0.0.0/8", "not/a/block")) is listed


@pytest.mark.parametrize("url", ["ftp://a/", "https://ann@a/", "https:///x", "https://a:99999/", "https://[x/", "x"])
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(url)


def test_shown_is_host_and_path() -> None:
    assert shown("https://ann:hush@example.com:1/a/b?X-Signature=hush#hush") == "example.com:1/a/b"
    assert shown("https://[hush") == "(an address that cannot be read)"
    assert shown("https://a/\x1b[31m") == "a/?[31m"
    assert len(shown("https://a/" + "x" * 1000)) < 310


@given(st.text(max_size=100))
def test_shown_takes_any_text_and_gives_one_line(text: str) -> None:
    assert all(character.isprintable() for character in shown(text))


def test_retry_after() -> None:
    assert parse_retry_after("7") == 7.0
    assert parse_retry_after(None) is None
    assert parse_retry_after("soon") is None
    assert parse_retry_after("9" * 200) is None
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    ahead = parse_retry_after(email.utils.formatdate(time.time() + 30, usegmt=True))
    assert ahead is not None
    assert 25 < ahead <= 31


def failing(policy: RetryPolicy, closing: threading.Event | None = None) -> Patience:
    return Patience(policy, "example.com/v2/x", closing or threading.Event())


def test_patience_ends_after_failures_in_a_row() -> None:
    patience = failing(RetryPolicy(attempts=3, first_wait=0.0))
    for _ in range(5):
        patience.failed(TransientError("one"))
        patience.failed(TransientError("two"))
        patience.progress()
    patience.failed(TransientError("one"))
    patience.failed(TransientError("two"))
    with pytest.raises(
        TransferError, match=r"example\.com/v2/x: three; failed 13 times, 5 of 9 bytes received\. Check"
    ):
        patience.failed(TransientError("three"), "5 of 9 bytes received")


def test_waits_grow_are_bounded_and_heed_retry_after() -> None:
    class Recorder(threading.Event):
        waits: list[float] = []  # noqa: RUF012

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.waits.append(timeout)
            return False

    recorder = Recorder()
    patience = failing(RetryPolicy(attempts=20, first_wait=1.0, longest_wait=10.0), recorder)
    for _ in range(6):
        patience.failed(TransientError("x"))
    for wait, most in zip(recorder.waits, [1, 2, 4, 8, 10, 10], strict=True):
        assert most / 2 <= wait <= most
    patience.failed(TransientError("x", retry_after=10_000.0))
    assert recorder.waits[-1] == 10.0
    patience.progress()
    patience.failed(TransientError("x", retry_after=3.0))
    assert recorder.waits[-1] == 3.0


def test_no_wait_outlasts_the_source() -> None:
    closing = threading.Event()
    closing.set()
    with pytest.raises(TransferError, match="the source was closed"):
        failing(RetryPolicy(), closing).failed(TransientError("x", retry_after=60.0))
