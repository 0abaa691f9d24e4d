"""A session's result for people: what was exchanged, then what differs, as `compare` tells it."""

from __future__ import annotations

from tallystick.node.comparing.report import render_comparison
from tallystick.node.reconciling.result import Result


def render_result(result: Result) -> str:
    """The report's text, 80 columns wide."""
    ended = result.ended
    about = ended.about
    lines = [
        f"session {ended.session[:8]} with {about.peer}, {about.period}",
        f"  {about.rows:>13,} rows here, {ended.rows_theirs:,} there",
        f"  {ended.opened_ours:>13,} shown to {about.peer}, {ended.opened_theirs:,} seen of it",
        f"  {ended.bytes_sent + ended.bytes_received:>13,} bytes exchanged"
        f" in {ended.seconds:.1f} s",
    ]
    if ended.reason:
        lines.append("  the session stopped before its end, so these are not all rows:")
        lines.append(f"    {ended.reason}"[:80])
    lines += ["", render_comparison(result.comparison)]
    return "\n".join(lines)
