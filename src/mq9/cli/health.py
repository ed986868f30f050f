"""`mq9 health`: whether the broker of this machine stores messages, for whoever restarts it when it does not."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mq9.cli.data import refusals
from mq9.cli.exits import Exit


@click.command()
@click.option("--http-port", type=int, help="The broker's monitoring port.  [default: as for mq9 serve]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The broker's configuration file, which may say which that is."
)
@click.option("--timeout", type=float, default=5.0, show_default=True, help="Seconds to wait for its answer.")
def health(http_port: int | None, config: Path | None, timeout: float) -> int:
    """Ask the broker of this machine, on its monitoring port, whether it stores messages.

    The exit code is 0 when it does, 1 when it does not, and 3 when it cannot be reached.
    """
    from http.client import HTTPConnection, HTTPException

    from mq9.server.config import Config

    with refusals():
        settings = Config.load(config, os.environ, {"http_port": http_port})
    if not settings.http_port:
        raise click.ClickException("no monitoring port is configured: give it with --http-port or MQ9_HTTP_PORT")
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    connection = HTTPConnection(everywhere.get(settings.host, settings.host), settings.http_port, timeout=timeout)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.read(1024).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        click.echo(f"the broker cannot be reached: {error}", err=True)
        return Exit.UNREACHABLE
    finally:
        connection.close()
    click.echo(said)
    return Exit.OK if answer.status == 200 else Exit.ERROR
