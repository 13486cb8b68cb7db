"""A statement and its parameters, brought together for drivers that want `%s`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .driver import Parameters
from .placeholders import Statement
from .problem import SqlError


def supplied(translate: Callable[[str], Statement], sql: str, parameters: Parameters) -> tuple[str, Any]:
    """The text and the parameters for the driver. Raises `SqlError` where they do not fit together."""
    statement = translate(sql)
    if isinstance(parameters, Mapping):
        missing = sorted(statement.names - {*parameters})
        if missing:
            raise SqlError(f"no value for the parameter :{missing[0]}")
        return statement.text, parameters
    if statement.names and not statement.marks and parameters:
        raise SqlError(f"the statement has named parameters such as :{min(statement.names)}, expected a table of them")
    if not parameters and not statement.marks:
        # As it is: nothing in it means anything to the driver.
        return (sql if "??" not in sql else statement.text.replace("%%", "%")), None
    if statement.marks != len(parameters):
        raise SqlError(f"the statement has {statement.marks} parameters, got {len(parameters)}")
    return statement.text, parameters
