"""One target under libFuzzer, in a process of its own: `python -m fuzzing.guided TARGET ARGUMENT…`.

The arguments are libFuzzer's: folders of inputs, the first of which takes what is found, and
options. `scripts/fuzz` is what people run.
"""

from __future__ import annotations

import sys
import warnings

import atheris

INSTRUMENTED = ["tallystick", "tomllib", "csv", "zoneinfo"]


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED), warnings.catch_warnings():
        from fuzzing.targets import TARGETS
    warnings.simplefilter("error")
    # To merge, libFuzzer starts its first argument again, as the shell reads it.
    atheris.Setup([f"{sys.executable} -m fuzzing.guided {name}", *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
