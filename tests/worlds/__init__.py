"""Worlds: pairs of exports that disagree for reasons that are known, made from a seed.

Two honest systems observe the same requests of a real trace. What each of them does to what it saw
is drawn from the seed, applied in one documented order, and written down exactly; so whatever says
why two exports disagree can be scored. See `observing` for the order, `world` for the whole.
"""

from worlds.world import World, make_world

__all__ = ["World", "make_world"]
