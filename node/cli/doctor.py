"""tally doctor: everything derived anew from the records and compared, and mended if asked."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say

if TYPE_CHECKING:
    from tallystick.node.doctor.findings import Check
    from tallystick.node.home import Home

_VERDICTS = {True: "ok  ", False: "FAIL", None: "--  "}


@verb("doctor")
@click.option("--mend", is_flag=True, help="Make anew what can be; the node must be stopped.")
def command(context: Context, mend: bool) -> None:
    """Check the whole store against its records; a running node is not disturbed.

    With --mend, rows that follow from records are made anew, and a damaged log is cut back to the
    newest sound head: the peer returns the rest. What is taken out is kept in the home's folder
    damaged.
    """
    from tallystick.node.doctor.child import examine_apart

    home = context.open_home()
    mended: list[str] = []
    with home.lock() if mend else nullcontext():
        checks = examine_apart(home.store_path, home.path / "ids", home.name)
        if mend and not _good(checks):
            if not context.json:
                _say_checks(checks)
                say("")
            mended = _mend(home)
            checks = examine_apart(home.store_path, home.path / "ids", home.name)
    if context.json:
        print_json(_document(checks, mended))
    else:
        for sentence in mended:
            say(folded(f"mended: {sentence}", indent=8))
        if mended:
            say("")
        _say_checks(checks)
        say("")
        say("everything fits" if _good(checks) else "NOT EVERYTHING FITS")
        if not _good(checks) and not mend:
            context.hint("Stop the node and run: tally doctor --mend")
    if not _good(checks):
        raise SystemExit(1)


def _mend(home: Home) -> list[str]:
    from tallystick.node.doctor.child import mend_apart

    return mend_apart(home, home.path / "damaged" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))


def _good(checks: list[Check]) -> bool:
    return all(check.ok for check in checks)


def _say_checks(checks: list[Check]) -> None:
    for check in checks:
        say(folded(f"{_VERDICTS[check.ok]} {check.name}: {check.detail}", indent=5))


def _document(checks: list[Check], mended: list[str]) -> dict[str, Any]:
    return {
        "ok": _good(checks),
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks],
        "mended": mended,
    }
