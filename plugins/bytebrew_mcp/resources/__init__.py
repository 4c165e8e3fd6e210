"""Resources and prompts of servers: lists for operators, and tools for agents where that is opted in."""
