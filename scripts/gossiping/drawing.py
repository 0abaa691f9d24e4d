"""Curves as SVG: plain shapes and text, readable on light and on dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_all(figures: dict[str, Any], out: Path) -> None:
    """Nothing yet."""
