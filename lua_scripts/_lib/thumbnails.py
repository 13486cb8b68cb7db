"""A module for scripts in Python: [modules] in config.toml names it, and guestbook.lua requires "thumbnails".

It needs Pillow: pip install pillow
"""

import io
import threading
import warnings

from PIL import Image, ImageOps

import greenfcgi

#: Pixels of the longer side of a thumbnail.
SIZE = 960
# How many pixels a photo may have: a file of a few KB can say that it has a billion. Pillow warns beyond this, and the
# warning is an error here.
Image.MAX_IMAGE_PIXELS = 30_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
#: One at a time: a photo takes up to some 200 MB while it is made small.
_turn = threading.Lock()


@greenfcgi.export(blocking=True)
def make(path: bytes) -> dict[str, bytes | int] | tuple[None, str]:
    """A small JPEG of a photo in a file, as {jpeg, width, height}, the right way up; or None and why there is none.

    Nothing else of the file is kept: not where the photo was taken, nor comments in it.
    """
    try:
        with _turn, Image.open(path.decode(), formats=_FORMATS) as photo:
            photo.draft("RGB", (SIZE, SIZE))
            photo.thumbnail((SIZE, SIZE))
            upright = ImageOps.exif_transpose(photo).convert("RGBA")
            small = Image.new("RGB", upright.size, "white")
            small.paste(upright, mask=upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None, "The photo has too many pixels."
    except Exception:  # a decoder fails in many ways on what is broken, and all of them are the file's fault
        return None, "The photo cannot be read. It can be a JPEG, PNG, GIF or WebP."
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85, optimize=True)
    return {"jpeg": data.getvalue(), "width": small.width, "height": small.height}
