"""tally config: each setting, its value, where that came from, and what it means."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.config import Config

ENVIRONMENT = {
    "TALLYSTICK_HOME": "where the home is, without --home",
    "TALLYSTICK_SEED_FILE": "where the seed is, if not in the home",
    "TALLYSTICK_PASSPHRASE_FILE": "where the seed's passphrase is",
    "TALLYSTICK_DEBUG": "if set, what failed inside tally is shown in full",
}


@verb("config")
@click.argument("what", metavar="[check|TABLE|SETTING]", required=False)
@click.option("--changed", is_flag=True, help="Only what is not the default, or set by the file.")
def command(context: Context, what: str | None, changed: bool) -> None:
    """Explain each setting: its value, where that came from, what it means.

    TABLE or SETTING (quotas, log.level) shows only these. With check, say whether the file is
    right; the exit code is 2 if it is not.
    """
    from tallystick.node.config import load_config
    from tallystick.node.settings import settings
    from tallystick.protocol.toml import toml_text

    home = context.open_home()
    path = home.config_path
    config = load_config(path)
    found = settings(config, toml_text(path.read_bytes()))
    if what == "check":
        _check(context, path, config, sum(one.line is not None for one in found))
        return
    if what:
        found = [one for one in found if one.name == what or one.name.startswith(f"{what}.")]
        if not found:
            raise InputError(f"there is no setting or table {what!r}", "tally config lists them")
    if changed:
        found = [one for one in found if one.line is not None]
    running = _running(context, config)
    documents = [
        {
            "name": one.name,
            "value": one.value,
            "default": one.default,
            "from": "default" if one.line is None else "file",
            "line": one.line,
            "means": one.means,
            "takes": one.takes,
            **({"running": running[one.name]} if one.name in running else {}),
        }
        for one in found
    ]
    if context.json:
        print_json(
            {
                "home": str(home.path),
                "home_from": context.home_from,
                "file": str(path),
                "environment": [name for name in ENVIRONMENT if os.environ.get(name)],
                "settings": documents,
            }
        )
        return
    say(f"{home.path}  the home, from {context.home_from}")
    for name, means in ENVIRONMENT.items():
        if os.environ.get(name):
            say(f"{name} is set: {means}")
    for document in documents:
        say("")
        _say(document)


def _say(one: dict[str, Any]) -> None:
    from tallystick.node.settings import shown

    where = "default" if one["line"] is None else f"line {one['line']}"
    say(folded(f"{one['name']} = {shown(one['value'])}  ({where})", 4))
    if "running" in one:
        now = f"the running node has {shown(one['running']['value'])}, {one['running']['why']}"
        say(folded(f"  {now}", 2))
    for row in one["means"].split("\n"):
        indent = 2 + len(row) - len(row.lstrip())
        say(folded(" " * indent + row.lstrip(), indent))
    default = "" if one["line"] is None else f"; default {shown(one['default'])}"
    say(folded(f"  Takes {one['takes']}{default}.", 2))


def _running(context: Context, config: Config) -> dict[str, dict[str, object]]:
    """The settings that the running node has other values of, and why, if one runs."""
    from tallystick.node.settings import differing

    answer = context.ask("settings")
    if answer is None:
        return {}
    flags = answer["flags"]
    return {
        name: {
            "value": value,
            "why": f"from its {flags[name]}" if name in flags else "from before the file changed",
        }
        for name, value in differing(config, answer["settings"])
    }


def _check(context: Context, path: Path, config: Config, count: int) -> None:
    """Look at what the types of the settings cannot tell."""
    from tallystick.node.api.listening import checked_address
    from tallystick.node.intake.eventmap import load_event_mapping
    from tallystick.node.transport.tls import parse_address
    from tallystick.node.witnessing.asked import asked_witnesses
    from tallystick.node.witnessing.known import configured_logs

    checks: dict[str, Callable[[], object]] = {
        "network.listen": lambda: parse_address(config.network.listen),
        "network.advertise": lambda: parse_address(config.network.advertise or "none:0"),
        "http.listen": lambda: (
            not config.http.listen
            or checked_address("http", config.http.listen, remote=config.http.remote)
        ),
        "witness.listen": lambda: checked_address(
            "witness", config.witness.listen, remote=config.witness.remote
        ),
        "witness": lambda: configured_logs(config.witness),
        "witnessing": lambda: asked_witnesses(config.witnessing),
    }
    for name, check in checks.items():
        try:
            check()
        except InputError as error:
            raise InputError(f"{path}: {name}: {error.message}", error.advice) from None
    for rule in config.reconcile.rules:
        if not Path(rule.map).is_file():
            raise InputError(
                f"{path}: reconcile.rules: there is no file {rule.map}",
                f"It is the map of the rule for {rule.peer}",
            )
    if config.timestamps.url:
        from tallystick.node.timestamping.asking import Asker, load_trusted

        Asker(config.timestamps, load_trusted(config.timestamps, path.parent))
    for event_rule in config.intake.cloudevents:
        load_event_mapping(path.parent / event_rule.map)
    if context.json:
        print_json({"file": str(path), "ok": True, "set": count})
        return
    much = "1 setting is" if count == 1 else f"{count} settings are"
    say(folded(f"{path}: nothing is wrong; {much} set in it", 2))


@verb("health")
@click.option("--ready", is_flag=True, help="Also fail while the node does not serve.")
def health(context: Context, ready: bool) -> None:
    """Say whether the running node is well; the exit code is 1 if it is not, 3 if none runs.

    A peer that is away is told, and is no failure.
    """
    found = context.call("health")
    fine = found["healthy"] and (found["ready"] or not ready)
    if context.json:
        print_json({"ok": fine, **found})
    else:
        say("healthy" if found["healthy"] else "not healthy")
        for said in [*found["problems"], *found["unready"]]:
            say(folded(f"  {said}", 4))
        for said in found["degraded"]:
            say(folded(f"  degraded: {said}", 4))
    if not fine:
        raise SystemExit(1)
