"""tally backup and restore: a copy of the home, and a home made of one."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say


@verb("backup")
@click.option(
    "-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path),
    help="A folder that is not there yet.",
)  # fmt: skip
@click.option("--without-seed", is_flag=True, help="Leave the seed out: the party's identity.")
def backup(context: Context, output: Path, without_seed: bool) -> None:
    """Copy the home to a new folder; its node may go on running."""
    import msgspec

    from tallystick.node.backup import make_backup

    manifest = make_backup(context.open_home(), output, with_seed=not without_seed)
    if context.json:
        document = msgspec.to_builtins(manifest)
        print_json({"folder": str(output), "seed": manifest.has_seed, **document})
        return
    size = sum(entry.size for entry in manifest.files.values())
    say(f"Wrote {output}: {len(manifest.files)} files, {size:,} bytes.")
    for channel in manifest.channels:
        own, theirs = channel["own"]["size"], channel["theirs"]["size"]
        say(f"  {channel['channel'][:8]} with {channel['peer']}: {own:,} and {theirs:,} records")
    alone = sum(c[log]["in_archive_alone"] for c in manifest.channels for log in ("own", "theirs"))
    if alone:
        say(
            folded(
                f"{alone:,} of these records are in the archive alone and not in this copy: it is"
                " needed to restore. Keep it as safe as the home itself.",
                indent=2,
            )
        )
    if manifest.has_seed:
        say(
            folded(
                "The seed is in it: whoever reads this copy can sign as"
                f" {manifest.party}. Keep it as safe as the home itself.",
                indent=2,
            )
        )
    else:
        say("The seed is not in it: keep a copy of that elsewhere.")


@verb("restore")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--seed-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="The seed, if the backup was made without it.",
)  # fmt: skip
def restore(context: Context, folder: Path, seed_file: Path | None) -> None:
    """Make a home of the backup in DIR, at the place that --home names."""
    from tallystick.node.backup import restore_backup

    manifest = restore_backup(folder, context.home, seed_file)
    channels = [
        {"channel": c["channel"], "peer": c["peer"], "own": c["own"]["size"],
         "theirs": c["theirs"]["size"]}
        for c in manifest.channels
    ]  # fmt: skip
    if context.json:
        print_json(
            {
                "home": str(context.home),
                "party": manifest.party,
                "made_at": manifest.made_at,
                "channels": channels,
            }
        )
        return
    say(f"Made {context.home} for {manifest.party}, as it was at {manifest.made_at}.")
    for channel in channels:
        say(
            f"  {channel['channel'][:8]} with {channel['peer']}:"
            f" {channel['own']:,} and {channel['theirs']:,} records"
        )
    context.hint(
        "Everything in it checks. Nothing new is signed until each peer has said what\n"
        f"it holds and returned what is missing.\nNext: tally --home {context.home} run"
    )
