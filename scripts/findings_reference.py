"""Prints docs/reference/findings.md, made from the table of kinds. ``make docs`` writes the file; a test compares it."""

from __future__ import annotations

from drypoint.verification.kinds import SECTIONS

_HEADER = """\
# Findings of drypoint verify

Made from the program's own table by `make docs`; do not edit. Codes are stable. An **error** would lose an image or give a
program other files than the image holds; a **warning** is something that should not be so; a **note** is harmless, or a check
that could not be made. The exit status is 0 if there is nothing but notes. How the checks work:
[verification](../concepts/verification.md).
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEADER]
    for heading, kinds in SECTIONS.items():
        rows = [f"| `{code}` | {kind.severity} | {kind.meaning} | {kind.remedy} |" for code, kind in kinds.items()]
        parts.append(
            "\n".join([f"## {heading}\n", "| code | severity | meaning | remedy |", "|---|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
