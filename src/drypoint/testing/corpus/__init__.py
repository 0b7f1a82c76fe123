"""Odd and hostile images, each odd in one way, with what real engines make of them.

What :attr:`Case.refused` says was observed with dockerd 20.10.24; the tests with a real engine observe it anew.
"""

from .archives import ARCHIVES
from .attributes import ATTRIBUTES
from .case import Case, case
from .images import IMAGES
from .links import LINKS
from .names import NAMES
from .numbers import NUMBERS
from .order import ORDER
from .sparse import SPARSE, write_huge

CORPUS: tuple[Case, ...] = (*NAMES, *NUMBERS, *SPARSE, *ORDER, *LINKS, *ATTRIBUTES, *ARCHIVES, *IMAGES)

__all__ = ["CORPUS", "Case", "case", "write_huge"]
