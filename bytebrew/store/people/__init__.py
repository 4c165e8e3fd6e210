"""People: what the core stores of a person, and the requests to forget one."""
