"""Limits of agents that spawn agents."""

from msgspec import Struct


class SpawnLimits(Struct, frozen=True, kw_only=True):
    """Limits of the spawn tree: its depth, the children of one turn, and all turns below one turn."""

    depth: int
    children: int
    total: int
