"""`mq9 serve`: run a broker in the foreground."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mq9.cli.data import refusals

if TYPE_CHECKING:
    from mq9.server.broker import Server
    from mq9.server.config import Config
    from mq9.server.supervisor import Supervisor

log = logging.getLogger("mq9")


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 4222]")
@click.option("--data-dir", help="Where messages are kept.  [default: mq9-data]")
@click.option("--memory", is_flag=True, default=None, help="Keep nothing: everything is gone when the broker stops.")
@click.option("--http-port", type=int, help="Answer /healthz, /metrics, /varz, /connz and /subsz on this port.")
@click.option(
    "--insecure", is_flag=True, default=None, help="Let others than this machine in without users or a token."
)
@click.option(
    "--lame-duck-grace-period", type=float, help="Seconds after SIGUSR2 before any client is sent off.  [default: 10]"
)
@click.option(
    "--lame-duck-duration", type=float, help="Seconds after SIGUSR2 until all clients are sent off.  [default: 120]"
)
@click.option("--log-level", help="Log nothing less than debug, info, warning or error.  [default: info]")
@click.option("--log-format", help="Log lines as text or as json.  [default: text]")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with any key of docs/configuration.md.")
def serve(config: Path | None, **given: Any) -> None:
    """Run a broker until it is told to stop (SIGTERM, SIGINT), or to send its clients off little by little and then stop (SIGUSR2).

    SIGHUP has it read its configuration again: users, certificates, limits, and how it logs. An option wins over the environment
    (MQ9_PORT, MQ9_DATA_DIR …), which wins over the configuration file.
    """
    import uvloop

    from mq9.server import process
    from mq9.server.config import Config

    process.prepare()
    with refusals():
        uvloop.run(_run(lambda: Config.load(config, os.environ, given)))


async def _run(load: Callable[[], Config]) -> None:
    """Run a broker, configured by what `load` gives, to its end."""
    from mq9.server import logs
    from mq9.server.broker import Server
    from mq9.server.supervisor import Supervisor

    settings = load()
    logs.set_up(settings.log_level, settings.log_format)
    supervisor = Supervisor(os.environ)
    server = Server(settings)
    loop = asyncio.get_running_loop()
    stopping, reading = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reading.set)
    await server.start()
    loop.add_signal_handler(signal.SIGUSR2, server.leave)
    click.echo(server.announcement)
    supervisor.ready(server.announcement)
    waits = [asyncio.ensure_future(event.wait()) for event in (stopping, server.left, server.failed)]
    reloading = asyncio.ensure_future(_reload_when_told(server, load, reading, supervisor))
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in (*waits, reloading):
        wait.cancel()
    if server.failed.is_set():
        # Nothing that was acknowledged is lost; what may be wrong is this process. Whoever supervises it starts it again.
        raise click.ClickException("the broker ended because of an error of its own; the log says which")
    supervisor.stopping()
    await server.stop()


async def _reload_when_told(
    server: Server, load: Callable[[], Config], reading: asyncio.Event, supervisor: Supervisor
) -> None:
    """Take over from the configuration, whenever `reading` is set, what can be taken over without a restart."""
    from mq9.server import logs
    from mq9.server.config import ConfigError

    while await reading.wait():
        reading.clear()
        supervisor.reloading()
        try:
            settings = load()
            logs.set_up(settings.log_level, settings.log_format)
            await server.reload(settings)
        except ConfigError as error:
            logs.set_up(server.config.log_level, server.config.log_format)
            log.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - a sentence says it all
        supervisor.ready(server.announcement)
