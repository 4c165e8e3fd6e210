"""Several nodes behind a balancer: mixed work by seeds while nodes, connections and the database fail."""
