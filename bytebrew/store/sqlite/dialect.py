"""Expressions and statements of SQLite's own that the core uses outside store/sqlite."""

URGENCY = "julianday({0}.created_at) - {0}.priority / 144.0"
"""When a task is due, as a day number: ten minutes earlier for each step of priority. `{0}` is the table's alias."""
CAN_RUN = """{0}.status in ('pending', 'approved') and {0}.mode = 'background' and {0}.blockers = 0
  and {0}.not_before is null"""
"""The condition of the index tasks_ready. `{0}` is the table's alias."""
