"""The one exception of the benchmark."""


class BenchError(Exception):
    """The benchmark cannot go on; the message is one line for the person who runs it."""
