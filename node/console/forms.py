"""Forms as browsers send them: fields and files, within limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from tallystick.node.api.problems import Refused
from tallystick.node.quotas import MEBIBYTE

FIELDS_MAX = 40
FIELD_BYTES_MAX = 256 * 1024
_PLAIN = "application/x-www-form-urlencoded"
_PARTS = "multipart/form-data"


@dataclass(slots=True)
class Form:
    """What came: each field once, the last one counts."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, UploadFile] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field; empty if it did not come. Line ends are as this machine has them."""
        return self.texts.get(name, "").replace("\r\n", "\n")

    def word(self, name: str) -> str:
        """A field without the space around it."""
        return self.text(name).strip()

    def sentence(self, name: str) -> str:
        """A field in one line, as a record holds it."""
        return " ".join(self.texts.get(name, "").split())

    def words(self, name: str) -> list[str]:
        """A field's lines, without empty ones."""
        return [line.strip() for line in self.text(name).split("\n") if line.strip()]


async def read_form(request: Request, mebibytes_max: int) -> Form:
    """The form of a request; `Refused` if it is none, or too large. Nothing is read of one that
    does not say how large it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_PLAIN, _PARTS):
        raise Refused(415, "this is not a form")
    length = request.headers.get("content-length", "")
    # A body in chunks is as long as it likes, whatever length it announces beside that.
    if not length.isdigit() or "transfer-encoding" in request.headers:
        raise Refused(411, "the form does not say how large it is")
    most = mebibytes_max * MEBIBYTE if kind == _PARTS else FIELD_BYTES_MAX
    if len(length) > 18 or int(length) > most:
        raise Refused(
            413,
            f"this is larger than {most:,} bytes",
            "A larger file is compared with: tally compare FILE",
        )
    form = Form()
    try:
        found = await request.form(
            max_files=1, max_fields=FIELDS_MAX, max_part_size=FIELD_BYTES_MAX
        )
    except ClientDisconnect:
        raise Refused(400, "the form broke off") from None
    except HTTPException as error:
        raise Refused(400, f"the form cannot be read: {error.detail}") from None
    for name, value in found.multi_items():
        if isinstance(value, UploadFile):
            form.files[name] = value
        else:
            form.texts[name] = value
    return form
