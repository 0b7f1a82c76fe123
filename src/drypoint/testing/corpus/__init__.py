"""Odd and hostile images, each odd in one way, with what real engines make of them.

What :attr:`Case.refused` says was observed with dockerd 20.10.24; the tests with a real engine observe it anew.
"""

from .archives import ARCHIVES
from .attributes import ATTRIBUTES
from .case import Case, case
from .huge import HUGE_BYTES, huge_image
from .images import IMAGES
from .links import LINKS
from .names import NAMES
from .numbers import NUMBERS
from .order import ORDER
from .sparse import SPARSE

CORPUS: tuple[Case, ...] = (*NAMES, *NUMBERS, *SPARSE, *ORDER, *LINKS, *ATTRIBUTES, *ARCHIVES, *IMAGES)

__all__ = ["CORPUS", "HUGE_BYTES", "Case", "case", "huge_image"]
