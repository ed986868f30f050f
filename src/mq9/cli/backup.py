"""`mq9 backup`: copy the data of a broker, which may go on meanwhile."""

from __future__ import annotations

from pathlib import Path

import click

from mq9.cli.data import config_option, data_dir_of, data_dir_option, refusals, tell


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@data_dir_option
@config_option
@click.option("--no-check", is_flag=True, help="Do not look at the copy afterwards.")
def backup(directory: Path, data_dir: str | None, config: Path | None, no_check: bool) -> int:
    """Copy the data of a broker to DIR, which must be empty or not there.

    The broker may run, and need not be told. The copy has everything that was acknowledged when it was begun.
    """
    from mq9.server.checking import check
    from mq9.store.backup import back_up

    with refusals():
        made = back_up(data_dir_of(data_dir, config), directory)
        click.echo(f"{directory}: {len(made.files)} files, {made.size} bytes")
        return 0 if no_check else tell(check(directory).damage)
