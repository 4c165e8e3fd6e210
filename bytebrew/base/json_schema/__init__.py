"""JSON Schema (draft 2020-12), in bounded time."""
