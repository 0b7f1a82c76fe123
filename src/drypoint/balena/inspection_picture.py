"""The picture of an inspection."""

from __future__ import annotations

from pathlib import Path

from ..errors import OutputError
from ..inspection.picture import InnerDisk, draw
from .inspecting import Inspection


def write_picture(found: Inspection, image: Path, output: Path) -> None:
    """Draw the inspection of *image* into the file *output*, as SVG.

    Raises:
        OutputError: it cannot be written, or is *image* itself.
    """
    inner = None
    store = found.store
    if found.inner is not None:
        inside = found.inner
        path = inside.path.decode("utf-8", "backslashreplace")
        inner = InnerDisk(inside.partition, inside.found.disk, f"/{path}", _subtitle(inside.found))
        store = store or inside.found.store
    text = draw(found.disk, store, title=image.name, subtitle=_subtitle(found), inner=inner)
    try:
        if output.exists() and output.samefile(image):
            raise OutputError(f"{output} is the disk image itself; choose another name for the picture")
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error


def _subtitle(found: Inspection) -> str:
    if found.os is None:
        return ""
    said = [" ".join(filter(None, (one.name, one.version))) for one in found.os.systems[:1]]
    said += [found.os.device_type.slug] if found.os.device_type is not None else []
    said += ["flasher"] if found.os.flasher else []
    return ", ".join(said)
