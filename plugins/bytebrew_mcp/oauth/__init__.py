"""OAuth 2.1 for MCP servers over HTTP, as the MCP specification 2026-07-28 profiles it."""
