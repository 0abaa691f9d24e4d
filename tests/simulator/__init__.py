"""A deterministic simulation of several nodes: their real code over a made-up disk and network.

`disk` and `network` are the faulty world, `party` runs the nodes' own code in it, `watch` looks on
from outside, `plan` decides by a seed what happens, `judge` says in the end whether the invariants
of the design held. Nothing here reads a real clock; one seed gives one history.
"""
