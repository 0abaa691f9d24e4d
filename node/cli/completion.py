"""tally completion: what makes a shell complete our verbs, options and values."""

from __future__ import annotations

import click

from tallystick.node.cli.context import COMPLETING, Context, verb
from tallystick.node.cli.output import say

SHELLS = ("bash", "zsh", "fish")


@verb("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(context: Context, shell: str) -> None:
    """Print what makes a shell complete verbs, options, channels, periods and peers.

    \b
    bash:  eval "$(tally completion bash)"  in ~/.bashrc
    zsh:   eval "$(tally completion zsh)"  in ~/.zshrc, after compinit
    fish:  tally completion fish > ~/.config/fish/completions/tally.fish
    """
    from click.shell_completion import get_completion_class

    from tallystick.node.cli import tally

    found = get_completion_class(shell)
    assert found is not None
    say(found(tally, {}, "tally", COMPLETING).source())
