"""Usage from a billing system: JSON deltas, streams of them, CloudEvents, and watched folders."""
