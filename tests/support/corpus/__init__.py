"""Unusual and hostile images, each unusual in one way, with the verdict of real engines.

:attr:`Case.refused` was observed with dockerd 20.10.24; the tests with a real engine check it.
"""

from tests.support.corpus.archives import ARCHIVES
from tests.support.corpus.attributes import ATTRIBUTES
from tests.support.corpus.case import Case, case
from tests.support.corpus.huge import HUGE_BYTES, huge_image
from tests.support.corpus.images import IMAGES
from tests.support.corpus.links import LINKS
from tests.support.corpus.names import NAMES
from tests.support.corpus.numbers import NUMBERS
from tests.support.corpus.order import ORDER
from tests.support.corpus.sparse import SPARSE

CORPUS: tuple[Case, ...] = (*NAMES, *NUMBERS, *SPARSE, *ORDER, *LINKS, *ATTRIBUTES, *ARCHIVES, *IMAGES)

__all__ = ["CORPUS", "HUGE_BYTES", "Case", "case", "huge_image"]
