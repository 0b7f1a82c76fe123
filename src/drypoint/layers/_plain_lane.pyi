from ..fstree import Content
from ..lanes.tables import Seen
from .change import Add, Change

class PlainEntries:
    """Reads the plain entries at the front of a piece of a tar.

    Args:
        seen: cleaned names of the layer's entries so far; those of the entries taken are added.
    """

    def __init__(self, seen: Seen) -> None: ...
    def take(
        self, chunk: bytes, position: int, padding: int, record: int, pending: int, limit: int
    ) -> tuple[list[tuple[Change, Content | None]], bytes, int, int, int, int, bytes] | None:
        """The entries that lie whole in *chunk* behind *padding* bytes from *position* on, up to the first that is not plain.

        Args:
            record: the position of the next record of the tar-split.
            pending: bytes of the tar-split that are not compressed yet, as :class:`.tarsplit.TarSplitWriter` counts them.
            limit: stop when so many are.

        Returns:
            The changes, each with its content; the lines of the tar-split, two for each; the new position, padding and pending;
            size and name of the last entry. None if there is no plain entry.
        """
    def change_of(self, raw: bytes, padding: int) -> tuple[Add, int, bytes] | None:
        """What an entry means whose header is *raw*, behind *padding* bytes; its size and name. None if it is not plain."""
