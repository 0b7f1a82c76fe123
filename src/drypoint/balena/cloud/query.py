"""The query part of the API's URLs, encoded for its parser.

Format: OData 4.01 URL conventions, by the grammar of ``@balena/odata-parser`` (``odata-parser.pegjs``), which parses the URL as
it was sent. Outside quoted text it only accepts ``%20``, ``%24``, ``%27`` and ``%2B``, so ``, ( ) = ; : /`` must be literal;
inside quoted text everything may be encoded, and a quote is doubled. Other queries (``service``, ``scope``) are decoded first,
so both spellings work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from ...errors import UsageError

_QUOTED = re.compile(r"('(?:[^']|'')*')")
_STRUCTURE = "$,()=;:/*"
_MAX_TEXT = 255


def encoded_query(query: Sequence[tuple[str, str]]) -> str:
    """*query* encoded for a URL, without the question mark.

    Args:
        query: names and values, not encoded; users' text is in literals from :func:`odata_text`.
    """
    return "&".join(f"{quote(name, safe='$')}={_encoded(value)}" for name, value in query)


def odata_text(text: str) -> str:
    """*text* as a literal of an OData filter.

    Raises:
        UsageError: it cannot be a name on the server.
    """
    if not text.isprintable() or len(text) > _MAX_TEXT:
        raise UsageError(f"{text[:100]!r} is not a valid name on a balena server")
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _encoded(value: str) -> str:
    # Odd parts are the quoted ones; an unpaired apostrophe is encoded with the rest.
    parts = _QUOTED.split(value)
    return "".join(quote(part, safe="'/" if number % 2 else _STRUCTURE) for number, part in enumerate(parts))
