"""`bytebrew token`: creates, lists and revokes API tokens in the data folder."""

import click
import msgspec

from bytebrew.cli.setup import Setup, opened
from bytebrew.store import tokens


@click.group()
def token() -> None:
    """Create, list and revoke API tokens; the engine may run."""


@token.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="A scope; may be given several times.")
@click.option("--schema", "bound", multiple=True, help="Bind a chat token to this schema; may be given several times.")
@click.option("--expires", help="Time at which it expires, such as 2027-01-31T00:00:00Z.")
@click.pass_obj
def create_token(setup: Setup, name: str, scopes: tuple[str, ...], bound: tuple[str, ...], expires: str | None) -> None:
    """Create a token and print it, this once."""
    fields = {"name": name, "scopes": scopes, "schemas": bound or None, "expires_at": expires}
    try:
        new = msgspec.convert(fields, tokens.NewToken)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
    engine = setup.engine(may_create=True)
    with opened(engine) as conn:
        created = tokens.create(conn, engine.scopes, new)
    click.echo(created.token)


@token.command("list")
@click.pass_obj
def list_tokens(setup: Setup) -> None:
    """List tokens: id, name, scopes, last use, and where there are any, their end and schemas."""
    engine = setup.engine()
    with opened(engine) as conn:
        for listed in tokens.list_all(conn, engine.scopes):
            name = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in listed.name)
            end = f"  until {listed.expires_at}" if listed.expires_at else ""
            bound = f"  for {','.join(listed.schemas)}" if listed.schemas is not None else ""
            used = listed.last_used_at or "never used"
            click.echo(f"{listed.id}  {name:<24} {','.join(listed.scopes):<40} {used}{end}{bound}")


@token.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke_token(setup: Setup, key: str) -> None:
    """End a token, by name or id, at once."""
    with opened(setup.engine()) as conn:
        tokens.revoke(conn, key)
