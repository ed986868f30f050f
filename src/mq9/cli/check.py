"""`mq9 check`: look for damage in a data directory or a backup."""

from __future__ import annotations

from pathlib import Path

import click

from mq9.cli.data import refusals, tell


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def check(directory: Path) -> int:
    """Look at everything in DIR, a data directory that no broker has open or a backup, and say what is damaged.

    Nothing is changed. The exit code is 6 when something is damaged.
    """
    from mq9.server.checking import check as look

    with refusals():
        report = look(directory)
    code = tell(report.damage)
    click.echo(
        f"{directory}: {report.segments} segments, {report.blocks} blocks, {report.records} messages, {report.rows} rows;"
        f" {len(report.damage) or 'nothing'} damaged"
    )
    return code
