"""Settings of connections with OAuth."""

from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import Duration


class OAuth(Struct, frozen=True, kw_only=True):
    """The settings of users' connections to MCP servers."""

    mcp_user_sessions: Annotated[
        int, Meta(ge=1, description="users who are connected to one MCP server with OAuth at a time")
    ] = 200
    mcp_user_idle: Annotated[Duration, Meta(description="how long such a connection stays open without a call")] = (
        Duration(300)
    )
