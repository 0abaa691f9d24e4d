"""The half of Tallystick that touches the world: files, sockets, clocks, tasks and terminals."""
