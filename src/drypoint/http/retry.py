"""Retries: when, how long to wait, and when to give up."""

from __future__ import annotations

import email.utils
import logging
import random
import threading
import time

import msgspec

from ..concurrency.tasks import current, wait_for
from ..errors import TransferError

_log = logging.getLogger(__name__)


class RetryPolicy(msgspec.Struct, frozen=True):
    """The number of attempts in a row without progress, and the seconds between them.

    Attributes:
        attempts: attempts in a row, the first one included.
        first_wait: the wait after the first failure; it doubles with each further one.
        longest_wait: bound of every wait, also of those by Retry-After.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0


class TransientError(Exception):
    """A failure that a retry may fix. Internal to drypoint.

    Attributes:
        reason: what failed, without any secret.
        retry_after: seconds to wait, by the server's Retry-After.
        advice: what to do if it keeps failing.
        status: the status of the server's answer; None without an answer.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        advice: str = "Check the network and the server, then run the same again",
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.advice = advice
        self.status = status


class Patience:
    """Counts the failures of one transfer.

    Args:
        what: its host and path.
        closing: set when the source is closed; ends every wait.
    """

    def __init__(self, policy: RetryPolicy, what: str, closing: threading.Event) -> None:
        self._policy = policy
        self._what = what
        self._closing = closing
        self._in_a_row = 0
        self._altogether = 0

    def progress(self) -> None:
        """Reset the count of failures: there was progress."""
        self._in_a_row = 0

    def failed(self, failure: TransientError, received: str = "") -> None:
        """Wait before the retry after *failure*.

        Args:
            received: what has been received, for the message.

        Raises:
            TransferError: there were too many failures.
        """
        current().check()
        self._in_a_row += 1
        self._altogether += 1
        so_far = f", {received}" if received else ""
        if self._in_a_row >= self._policy.attempts:
            times = "once" if self._altogether == 1 else f"{self._altogether} times"
            raise TransferError(
                f"{self._what}: {failure.reason}; failed {times}{so_far}. {failure.advice}"
            ) from failure
        wait = min(self._policy.first_wait * 2.0 ** (self._in_a_row - 1), self._policy.longest_wait)
        # Half of it at random, so that many clients that failed together do not retry together.
        wait *= random.uniform(0.5, 1.0)
        if failure.retry_after is not None:
            wait = min(max(wait, failure.retry_after), self._policy.longest_wait)
        _log.info("%s: %s; trying again in %.1f s", self._what, failure.reason, wait)
        if wait_for(self._closing, wait):
            raise TransferError(f"{self._what}: {failure.reason}; the source was closed{so_far}") from failure


def parse_retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After header, a number or a date (RFC 9110, section 10.2.3); None if it is neither."""
    if value is None or len(value) > 100:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
