from ..lanes.tables import Seen
from .records import Record

class PlainRecords:
    """Reads plain lines of a tar-split.

    Args:
        seen: cleaned names of the entries so far; those of the entries taken are added.
    """

    def __init__(self, seen: Seen) -> None: ...
    def take(self, text: bytes, start: int, position: int) -> tuple[list[Record], int]:
        """The records of whole lines of *text* from *start* on, up to the first that is not plain, and where that begins.

        Args:
            position: that of the first record.
        """
