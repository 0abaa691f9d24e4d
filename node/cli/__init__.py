"""The command line: `tally VERB`. Each verb's module is loaded when it is used, and not before."""

from __future__ import annotations

import difflib
import importlib
import os
import shutil
import sys
import textwrap
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from tallystick.node.cli.context import COMPLETING, Context, global_options, merge
from tallystick.protocol.errors import TallyError, lone_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# verb: (module, the command in it, what it does), in the order in which people meet them
VERBS = {
    "init": ("init", "init", "make a home with its keys"),
    "run": ("run", "command", "run the node"),
    "invite": ("pairing", "invite", "print a code with which a peer can pair"),
    "join": ("pairing", "join", "pair with the node that made a code"),
    "propose": ("founding", "propose", "propose terms to a peer"),
    "accept": ("founding", "accept", "accept proposed terms: found the channel"),
    "emit": ("emit", "emit", "record a delta"),
    "import": ("importing", "command", "record a file of usage"),
    "watch": ("watching", "command", "record the files of a folder as they come"),
    "correct": ("emit", "correct", "put a delta right, or void it"),
    "dispute": ("disputes", "dispute", "contest a balance line"),
    "answer": ("disputes", "answer", "answer a dispute, or insist on one"),
    "resolve": ("disputes", "resolve", "say what to settle a dispute for"),
    "withdraw": ("disputes", "withdraw", "give up a dispute"),
    "disputes": ("disputes", "disputes", "list what waits for whom, until when"),
    "certificate": ("certificates", "command", "prove that a deadline passed"),
    "derive": ("derive", "command", "show the balance, the same at both"),
    "compare": ("comparing", "command", "explain how a file differs from the record"),
    "passthrough": ("passthrough", "command", "check that what was bought is what was resold"),
    "reconcile": ("reconciling", "command", "find with a peer where two private files differ"),
    "declare": ("declaring", "command", "commit to your own totals of a period"),
    "checkpoint": ("closing", "checkpoint", "close a period, signed by both"),
    "bundle": ("closing", "bundle", "write a closed period's proof"),
    "statement": ("statement", "statement", "write a period's statement, as PDF or HTML"),
    "attach": ("statement", "attach", "put a period's proof into a UBL invoice"),
    "prove": ("proofs", "prove", "prove a delta or a balance line"),
    "verify": ("proofs", "verify", "check a bundle, a proof, a statement, evidence, offline"),
    "verifier": ("verifier", "command", "write the page that checks the same in a browser"),
    "audit": ("auditing", "command", "verify whole logs anew, in parallel"),
    "evidence": ("evidence", "command", "list, export, import or refute evidence"),
    "status": ("status", "command", "show how each channel stands"),
    "peers": ("pairing", "peers", "list the peers"),
    "channels": ("founding", "channels", "list the channels"),
    "events": ("events", "command", "list what happened, and follow it"),
    "webhooks": ("webhooks", "command", "send events to your own systems"),
    "witness": ("witness", "command", "show who co-signs our heads beside the peer"),
    "log": ("records", "log", "list records"),
    "show": ("records", "show", "show a delta"),
    "publish": ("publishing", "command", "write our log as tiles that anybody may read"),
    "seal": ("sealing", "command", "put records of closed periods into segments"),
    "backup": ("backup", "backup", "copy the home, while its node runs"),
    "restore": ("backup", "restore", "make a home of a backup"),
    "recover": ("recover", "command", "make a home of its seed; show what was lost"),
    "standby": ("standby", "command", "a second node that mirrors the first, and its state"),
    "promote": ("standby", "promote", "let a standby take over"),
    "doctor": ("doctor", "command", "check the store against its records"),
    "console": ("console", "command", "open the pages of the running node in a browser"),
    "keys": ("apikeys", "command", "keys of the HTTP interface: list, add, remove"),
    "vkey": ("init", "vkey", "print the verifier keys"),
    "config": ("config", "command", "explain each setting, or check the file"),
    "health": ("config", "health", "say whether the running node is well"),
    "completion": ("completion", "command", "print the completion for a shell"),
    "passphrase": ("keys", "passphrase", "encrypt the seed, or decrypt it"),
    "rotate-key": ("keys", "rotate_key", "change a key, for all channels or one"),
}


class _Verbs(click.Group):
    """The group that knows its verbs without loading them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, name, _ = VERBS[cmd_name]
        found: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f" Did you mean {near[0]}?" if near else " See tally --help."
            ctx.fail(f"There is no verb {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs and options; a verb is not loaded to be named."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=said)
            for name, (_, _, said) in VERBS.items()
            if name.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, said) for name, (_, _, said) in VERBS.items()])


@click.command(cls=_Verbs)
@click.version_option(package_name="tallystick", prog_name="tally")
@global_options
@click.pass_context
def tally(ctx: click.Context, home_: Path | None, channel: str | None, json_: bool) -> None:
    """Usage billing that two companies can prove to each other.

    Each runs a node beside its billing system; the two keep the same co-signed record.
    """
    ctx.obj = Context()
    merge(ctx.obj, home_, channel, json_)


def main() -> NoReturn:
    """Run the command line; its exit codes are 0 fine, 1 does not hold, 2 usage, 3 unreachable."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    json = "--json" in arguments
    try:
        tally.main(arguments, prog_name="tally", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        if COMPLETING not in os.environ:
            error.show()
        return 2
    except (SystemExit, click.exceptions.Exit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else stop.exit_code
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseExceptionGroup as group:
        return _fail(lone_error(group), json)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _fail(error, json)
    return 0


def _fail(error: BaseException, json: bool) -> int:
    """Say what went wrong, and give the exit code."""
    if COMPLETING in os.environ:
        return 1  # a person is typing: there is nothing to say to him
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, TallyError):
        message, advice, code = error.message, error.advice, error.exit_code
    else:
        if os.environ.get("TALLYSTICK_DEBUG"):
            traceback.print_exception(error)
        message = f"internal error: {type(error).__name__}: {error}"
        advice, code = "Please report it; TALLYSTICK_DEBUG=1 shows where", 70
    if json:
        from tallystick.node.cli.output import print_json

        kind = type(error).__name__
        print_json({"error": {"kind": kind, "message": message, "advice": advice}})
    width = shutil.get_terminal_size((80, 24)).columns if sys.stderr.isatty() else 80
    # Paths, ids and commands stay whole, so that they can be copied.
    wrapper = textwrap.TextWrapper(
        max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for row in wrapper.wrap(f"error: {message}"):
        click.echo(row, err=True)
    wrapper.initial_indent = "  "
    for line in advice.splitlines():
        for row in wrapper.wrap(line):
            click.echo(row, err=True)
    return code
