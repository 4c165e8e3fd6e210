"""More servers without any promise, for requests that tests/bench/floor.py has no route for."""
