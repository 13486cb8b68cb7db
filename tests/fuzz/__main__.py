"""The protocol under atheris; with "lua" as the first argument, Lua programs in processes of their own."""

from __future__ import annotations

import sys


def protocol() -> None:
    """Run libFuzzer with the options of the command line; it never comes back, but ends the process."""
    import atheris

    from .counts import Counts

    # Coverage is of what is tried only: the checks are quicker without.
    with atheris.instrument_imports(include=["greenfcgi"], exclude=["greenfcgi.fastcgi.client"]):
        from .target import LIMITS, check

    for module, name, value in LIMITS:
        setattr(module, name, value)
    counts = Counts(sys.argv[1])

    def try_one(data: bytes) -> None:
        counts.add(*check(data))

    atheris.Setup([sys.argv[0], *sys.argv[2:]], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["lua"]:
        from .lua.command import main

        sys.exit(main(sys.argv[2:]))
    protocol()
