"""`bytebrew token`: creates, lists and revokes API tokens in the data folder."""

import click
import msgspec

from bytebrew import Opened

from . import store


def token(opened: Opened) -> click.Group:
    """The command group, for the data folder of `opened`."""

    @click.group()
    def token() -> None:
        """Create, list and revoke API tokens; the engine may run."""

    @token.command("create")
    @click.argument("name")
    @click.option("--scope", "scopes", multiple=True, required=True, help="A scope; may be given several times.")
    @click.option(
        "--schema", "bound", multiple=True, help="Bind a chat token to this schema; may be given several times."
    )
    @click.option(
        "--view",
        type=click.Choice(["full", "public"]),
        help="What it is shown; public: answers without tools or names.",
    )
    @click.option("--expires", help="Time at which it expires, such as 2027-01-31T00:00:00Z.")
    def create(
        name: str, scopes: tuple[str, ...], bound: tuple[str, ...], view: str | None, expires: str | None
    ) -> None:
        """Create a token and print it, this once."""
        fields = {"name": name, "scopes": scopes, "schemas": bound or None, "view": view, "expires_at": expires}
        try:
            new = msgspec.convert(fields, store.NewToken)
        except msgspec.ValidationError as error:
            raise click.UsageError(str(error)) from error
        with opened(may_create=True) as (engine, conn):
            created = store.create(conn, engine.scopes, new)
        click.echo(created.token)

    @token.command("list")
    def list_all() -> None:
        """List tokens: id, name, scopes, last use, and where there are any, their end, schemas and a public view."""
        with opened() as (engine, conn):
            for listed in store.list_all(conn, engine.scopes):
                click.echo(_line(listed))

    @token.command("revoke")
    @click.argument("key")
    def revoke(key: str) -> None:
        """End a token, by name or id, at once."""
        with opened() as (_, conn):
            store.revoke(conn, key)

    return token


def _line(token: store.Token) -> str:
    name = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in token.name)
    end = f"  until {token.expires_at}" if token.expires_at else ""
    bound = f"  for {','.join(token.schemas)}" if token.schemas is not None else ""
    view = "  view public" if token.view == "public" else ""
    return f"{token.id}  {name:<24} {','.join(token.scopes):<40} {token.last_used_at or 'never used'}{end}{bound}{view}"
