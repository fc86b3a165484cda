"""What a file is, by its first bytes, whatever it is called."""

from __future__ import annotations

from runner.media.files import MediaError

SENDABLE = ("image/png", "image/jpeg", "image/gif", "image/webp")  # what Bedrock takes as it is
NAMES = {
    "image/png": "a PNG",
    "image/jpeg": "a JPEG",
    "image/gif": "a GIF",
    "image/webp": "a WebP",
    "image/bmp": "a BMP",
    "image/tiff": "a TIFF",
    "image/avif": "an AVIF",
    "image/heic": "a HEIC",
}

EXPORT = "export it as jpeg from the program that develops it"

_CONVERT = "convert it to png, jpeg, gif or webp"
_DOWNLOAD = "it stands for a picture that could not be had: download that again"
_PULL = "fetch it with `git lfs pull`"
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_RAW = (b"IIU\0", b"IIRO", b"MMOR", b"FUJIFILMCCD-RAW")  # Panasonic, Olympus, Fujifilm
_OTHERS = {
    b"%PDF": "a PDF document",
    b"\0\0\1\0": "an ICO image",
    b"8BPS": "a Photoshop file",
    b"II+\0": "a BigTIFF image",
    b"MM\0+": "a BigTIFF image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
}


def of_image(path: str, head: bytes) -> str:
    """The media type of the image that begins with `head`. Raises MediaError for what is no image that can be sent."""
    brands = _brands(head)
    if _is_raw(head, brands):
        raise MediaError(f"the image {path!r} is a raw photograph", EXPORT)
    for magic, media_type in _IMAGES.items():
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if brands & _AVIF_BRANDS:
        return "image/avif"
    if brands & _HEIF_BRANDS:
        return "image/heic"
    if is_lfs_pointer(head):
        raise MediaError(f"the image {path!r} is a Git LFS pointer and not the file itself", _PULL)
    if is_html(head):
        raise MediaError(f"the image {path!r} is an HTML page", _DOWNLOAD)
    raise MediaError(f"the image {path!r} is {'a video' if brands else _other(head)}", _CONVERT)


def _is_raw(head: bytes, brands: frozenset[bytes]) -> bool:
    """Whether it is what the sensor of a camera saw. Some that look like a TIFF are only told by their tags."""
    of_canon = (head[:4] in {b"II*\0", b"MM\0*"} and head[8:10] == b"CR") or b"crx " in brands
    return of_canon or head.startswith(_RAW)


def _brands(head: bytes) -> frozenset[bytes]:
    """What a file of boxes (HEIC, AVIF, MP4) says it is."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset({head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))})


def _other(head: bytes) -> str:
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            return name
    if _text(head).startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "an SVG or XML file"
    return "of a format that is not known here"


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is an image that can be sent."""
    try:
        of_image("", head)
    except MediaError:
        return False
    return True


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file is what Git LFS puts in the place of one that it has not fetched."""
    return head.startswith(b"version https://git-lfs")


def is_html(head: bytes) -> bool:
    """Whether a file is a page of the web."""
    return _text(head).startswith((b"<!doctype html", b"<html"))


def _text(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
