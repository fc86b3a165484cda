"""Small documents and videos as programs write them, made here so that no test depends on others' files."""

from __future__ import annotations

import io
import struct
import zipfile

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
TEXT = b"# Minutes\n\nThe water butt leaks.\n"


def pdf(pages: int = 2) -> bytes:
    """A PDF of blank pages."""
    kids = " ".join(f"{number} 0 R" for number in range(3, 3 + pages))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    objects += ["<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>"] * pages
    out, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{each}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    tail = f"trailer << /Root 1 0 R /Size {len(objects) + 1} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + (head + tail).encode()


def office(*parts: str, pictures: int = 0, text: str = "") -> bytes:
    """A ZIP archive with these entries that say `text`, the one that all files of Office have, and a picture."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<xml/>" * 10)
        for part in parts:
            archive.writestr(part, "<xml/>" * 9 + f"<xml>\n  <t>{text}</t>\n</xml>")
        if pictures:
            archive.writestr("media/image1.png", bytes(pictures), zipfile.ZIP_STORED)
    return out.getvalue()


DOCX, XLSX, PPTX = office("word/document.xml"), office("xl/workbook.xml"), office("ppt/presentation.xml")


def old_office(stream: str) -> bytes:
    """The container of Office before 2007, as far as anything looks: its magic, and a directory that names a stream."""
    return OLE + bytes(504) + f"{stream}\0".encode("utf-16-le")


def mp4(seconds: int = 10) -> bytes:
    """The boxes of a film of this length, without pictures."""
    header = struct.pack(">4sIIIII", b"mvhd", 0, 0, 0, 1000, seconds * 1000) + bytes(80)
    movie = struct.pack(">I4s", 8 + 4 + len(header), b"moov") + struct.pack(">I", 4 + len(header)) + header
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + movie
