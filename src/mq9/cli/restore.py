"""`mq9 restore`: make a data directory of a backup."""

from __future__ import annotations

from pathlib import Path

import click

from mq9.cli.data import config_option, data_dir_of, data_dir_option, refusals, tell


@click.command()
@click.argument("backup", metavar="DIR", type=click.Path(path_type=Path))
@data_dir_option
@config_option
@click.option("--damaged", is_flag=True, help="Restore what is left of a backup that is damaged.")
def restore(backup: Path, data_dir: str | None, config: Path | None, damaged: bool) -> int:
    """Make the backup in DIR the data directory of a broker, which must be empty or not there."""
    from mq9.store.backup import restore as copy_back

    problems: list[str] = []
    with refusals():
        target = data_dir_of(data_dir, config)
        restored = copy_back(backup, target, problems.append if damaged else None)
        click.echo(f"{target}: {len(restored.files)} files, {restored.size} bytes, of {restored.made}")
    return tell(problems)
