"""A seeded workload against a real engine: clients at random, a hostile world, and a model of what must hold."""
