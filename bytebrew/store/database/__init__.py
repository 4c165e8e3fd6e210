"""The engine's database: a writer that commits works together, readers and scanners, over any driver."""
