"""The rejects file: which rows were not taken, and why, beside the file that was read."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tallystick.node.errors import StoreError
from tallystick.node.formulas import shown_as_text
from tallystick.node.importing.drafts import Reject


class RejectsFile:
    """Made at the first reject, so that a clean import leaves none."""

    def __init__(self, source: Path) -> None:
        self.path = source.with_name(f"{source.name}.rejects.csv")
        self.count = 0
        self._file: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, reject: Reject) -> None:
        """Add a line."""
        try:
            if self._file is None:
                # Never through a link: whoever may write to the folder could aim it anywhere.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                file = os.open(self.path, flags, 0o666)
                self._file = os.fdopen(file, "w", newline="", encoding="utf-8", errors="replace")
                self._writer = csv.writer(self._file)
                self._writer.writerow(["row", "column", "value", "reason"])
            texts = map(shown_as_text, (reject.column, reject.value, reject.reason))
            self._writer.writerow([reject.row, *texts])
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from None
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
