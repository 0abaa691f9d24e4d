"""tally console: the running node's pages, opened in a browser that is logged in."""

from __future__ import annotations

import os
import webbrowser
from html import escape
from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say
from tallystick.node.errors import HomeError

_FORM = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Tallystick</title>
</head>
<body>
<form method="post" action="{address}login">
<input type="hidden" name="ticket" value="{ticket}">
<button>Open the console</button>
</form>
<script>document.forms[0].submit()</script>
</body>
</html>
"""


@verb("console")
@click.option("--print", "printed", is_flag=True, help="Start no browser: print a code to log in.")
def command(context: Context, printed: bool) -> None:
    """Open the pages of the running node in a browser, logged in as the owner of this home.

    With --print it prints the address, and a code to type in there; so also with --json.
    """
    if not (printed or context.json) and _open(context):
        return
    answer = context.call("console", typed=True)
    if context.json:
        print_json(answer)
        return
    say(answer["address"])
    say(f"code  {answer['code']}")
    context.hint(f"It works once, within {answer['seconds'] // 60} minutes.")


def _open(context: Context) -> bool:
    """Start a browser with the form; False if there is none."""
    answer = context.call("console", typed=False)
    file = _write(context.open_home().path, answer["address"], answer["ticket"])
    if webbrowser.open(file.as_uri()):
        say(answer["address"])
        context.hint("If no browser shows it: tally console --print")
        return True
    file.unlink(missing_ok=True)
    return False


def _write(home: Path, address: str, ticket: str) -> Path:
    """The form, in a file that only the owner can read, whatever was there before."""
    from tallystick.node.console.login import PAGE_FILE

    file = home.resolve() / PAGE_FILE
    text = _FORM.format(address=escape(address), ticket=escape(ticket))
    try:
        file.unlink(missing_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(text)
    except OSError as error:
        raise HomeError(f"{file} cannot be written: {error.strerror}") from None
    return file
