"""The exceptions of the benchmark."""


class BenchError(Exception):
    """The benchmark cannot go on; the message is one line for the person who runs it."""


class NotInstalled(BenchError):
    """A program is missing: the message names it and the packages that bring it."""
