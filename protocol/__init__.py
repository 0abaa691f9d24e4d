"""What two honest nodes must agree on, to the byte: values in, values out.

Nothing here does I/O, reads a clock, draws randomness or starts a task; `tallystick.node` imports
this package and never the other way round.
"""
