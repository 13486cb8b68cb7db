"""The target under atheris."""

from __future__ import annotations

import sys

import atheris

from .counts import Counts


def main() -> None:
    """Run libFuzzer with the options of the command line; it never comes back, but ends the process."""
    # Coverage is of what is tried only: the checks are quicker without.
    with atheris.instrument_imports(include=["greenfcgi"], exclude=["greenfcgi.client"]):
        from .target import LIMITS, check

    for module, name, value in LIMITS:
        setattr(module, name, value)
    counts = Counts(sys.argv[1])

    def try_one(data: bytes) -> None:
        counts.add(*check(data))

    atheris.Setup([sys.argv[0], *sys.argv[2:]], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
