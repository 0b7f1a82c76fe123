"""Queries of the API's addresses, spelled as its parser reads them.

Format: OData 4.01 URL conventions, as ``@balena/odata-parser`` (its grammar, ``odata-parser.pegjs``) reads them: the parser
gets the address as it was sent. Outside quoted text it knows ``%20``, ``%24``, ``%27`` and ``%2B`` only, so
``, ( ) = ; : /`` have to be literal; inside quoted text everything may be encoded, and a quote is doubled. Other queries
(``service``, ``scope``) are decoded before they are read, so either spelling serves.
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
    """*query* as it stands in an address, without the question mark.

    Args:
        query: names and values, not encoded; text of users stands in literals that :func:`odata_text` made.
    """
    return "&".join(f"{quote(name, safe='$')}={_encoded(value)}" for name, value in query)


def odata_text(text: str) -> str:
    """*text* as a literal of an OData filter.

    Raises:
        UsageError: no name on the server is like that.
    """
    if not text.isprintable() or len(text) > _MAX_TEXT:
        raise UsageError(f"{text[:100]!r} is not a valid name on a balena server")
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _encoded(value: str) -> str:
    # Odd parts are the quoted ones; an apostrophe that opens nothing is encoded with the rest.
    parts = _QUOTED.split(value)
    return "".join(quote(part, safe="'/" if number % 2 else _STRUCTURE) for number, part in enumerate(parts))
