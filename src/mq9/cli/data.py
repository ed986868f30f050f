"""What the commands share that work on data directories themselves, and not through a broker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from mq9.cli.exits import Exit

data_dir_option = click.option("--data-dir", help="The broker's data directory.  [default: mq9-data]")
config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="The broker's configuration file, which may say where that is."
)


def data_dir_of(data_dir: str | None, config: Path | None) -> Path:
    """Where the data of a broker is that is started with these options in this environment."""
    from mq9.server.config import Config

    return Path(Config.load(config, os.environ, {"data_dir": data_dir}).data_dir)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Have what cannot be done end the command with one sentence."""
    from mq9.server.config import ConfigError
    from mq9.store.contract import StoreError

    try:
        yield
    except (ConfigError, StoreError) as error:
        raise click.ClickException(str(error)) from None


def tell(damage: Iterable[str]) -> int:
    """Print what is damaged, a line for each; the exit code that says whether anything is."""
    code = Exit.OK
    for sentence in damage:
        click.echo(sentence)
        code = Exit.DAMAGED
    return code
