"""Every odd image of the corpus, through drypoint alone: taken, or refused with an error that names the entry.

Whether that is what engines do is for tests/engine/test_corpus.py, which asks one. This half needs nothing and takes seconds.
"""

from __future__ import annotations

import pytest

from drypoint.errors import ContentError, StoreError
from drypoint.verification import Severity, verify_store
from tests.support.corpus import CORPUS, Case
from tests.support.corpus.memory import preload_into_memory

TAKEN = [case for case in CORPUS if case.refused is None]
REFUSED = [case for case in CORPUS if case.refused is not None]


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case.name)
def test_taken(case: Case) -> None:
    tree = preload_into_memory(case.image())
    assert tree.lookup(b"docker/image/overlay2/repositories.json") is not None
    # What drypoint reads back is sound, also where engines cannot rebuild the tar from what they stored.
    findings = verify_store(tree, b"docker").findings
    assert [finding for finding in findings if finding.severity is Severity.ERROR] == []


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_by_name(case: Case) -> None:
    with pytest.raises((ContentError, StoreError)) as caught:
        preload_into_memory(case.image())
    assert case.refused is not None
    assert case.refused in str(caught.value)


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CORPUS]
    assert len(set(names)) == len(names)
