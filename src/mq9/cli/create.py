"""`mq9 create`: create a mailbox."""

from __future__ import annotations

import click

from mq9.cli.client import client_options, connected, print_json


@click.command()
@click.argument("name", required=False)
@click.option(
    "--ttl", type=click.IntRange(0), metavar="SECONDS", help="How long it lives; 0: for ever.  [default: the broker's]"
)
@click.option("--public", is_flag=True, help="Let `mq9 list` show it; needs a NAME.")
@click.option("--desc", metavar="TEXT", help="A description, for `mq9 list`.")
@click.option("--renew", is_flag=True, help="Restart the clock of the mailbox called NAME.")
@click.option("--owner-only", is_flag=True, help="Let nobody but this user do more with it than send.")
@click.option("--drop-id", "show_drop_id", is_flag=True, help="Print its drop_id, too, after the mail_id and a space.")
@client_options
def create(
    name: str | None,
    ttl: int | None,
    public: bool,
    desc: str | None,
    renew: bool,
    owner_only: bool,
    show_drop_id: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Create a mailbox and print its mail_id.

    Without a NAME it is private: the broker makes up the mail_id, and whoever knows it can read and write the mailbox. Give the
    drop_id to those who are only to send.
    """
    with connected(server, timeout) as mailbox:
        box = mailbox.create(ttl, name=name, public=public, desc=desc, renew=renew, owner_only=owner_only)
    if as_json:
        print_json(
            {
                "mail_id": str(box),
                "drop_id": box.drop_id,
                "is_new": box.is_new,
                "public": box.public,
                "ttl": box.ttl,
                "created_at": box["created_at"],
                "expires_at": box["expires_at"],
                "owner_only": box.owner_only,
            }
        )
    else:
        click.echo(f"{box} {box.drop_id}" if show_drop_id else str(box))
