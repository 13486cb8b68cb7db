"""What a script does with a database: statements, their rows, transactions. Each is a job in a thread.

The script waits for it until its time is over, its client has gone, or the `timeout` of the database has passed. Then
the statement is interrupted, and its connection reset or closed when it has ended.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar

from gevent import get_hub

from ...logs.text import described, traceback_of
from ...lua.bridge import Bridge, Outcome
from ..threads import Job, Threads
from . import quick
from .driver import NO_COLUMNS, ROWS, Columns, Connection, Cursor, Done, Parameters
from .pool import Claim, Pool, housekeeping
from .problem import Busy, Limited, SqlError
from .rows import Portion, crossing_of, portions

#: Seconds for which what others have locked is tried again, and between two tries.
_BUSY_TIMEOUT: Final = 5.0
_MIN_PAUSE, _MAX_PAUSE = 0.001, 0.02
#: Seconds between two attempts to interrupt what has perhaps not begun yet.
_INTERRUPT_AGAIN: Final = 0.02
#: Rows that a thread fetches before Lua gets them, and bytes.
_MAX_ROWS, _MAX_ROWS_OF_EACH = 2000, 100
_MAX_BYTES: Final = 1 << 20
#: Where rows are longer, they are fetched one by one.
_SHORT: Final = 1 << 16
#: Room in the state for each value beside its text.
_VALUE: Final = 32

T = TypeVar("T")


class Hold:
    """A connection that a script keeps over statements: a transaction's, or LuaSQL's.

    When a statement on it is interrupted, it is lost. LuaSQL's is made anew then; a transaction is over.
    """

    def __init__(self, pool: Pool, connection: Connection, is_permanent: bool) -> None:
        self.pool = pool
        self.connection = connection
        #: It stays when a run of the script is over.
        self.is_permanent = is_permanent
        #: A statement is being executed. It may have been given up, and whoever has the hold as well.
        self.is_busy = self._is_released = False
        #: Cursors that are not wanted any more. They are closed before the next statement.
        self.left: list[Cursor] = []
        #: What it takes of those that scripts may have.
        self.descriptors = 0

    def release(self) -> None:
        """Undo what is under way, and give it back."""
        if self.is_busy:
            self._is_released = True
        else:
            self.pool.recycle(self.connection)

    def ended(self, is_interrupted: bool) -> None:
        """A statement has ended; where nobody has waited for that, the connection is closed."""
        self.is_busy = False
        if is_interrupted:
            self.left.clear()
            self.pool.abandon(self.connection)
        if self._is_released:
            if is_interrupted:
                self.pool.give_back(None)
            else:
                self.pool.recycle(self.connection)


class Rows:
    """The rows of a statement that have been fetched, and those to come."""

    def __init__(self, pool: Pool, hold: Hold | None, is_long: bool, has_integers: bool) -> None:
        self.pool = pool
        self.hold = hold
        self.is_long = is_long
        self.has_integers = has_integers
        self.columns = NO_COLUMNS
        self.portions: deque[Portion] = deque()
        #: None when all have been fetched; and its connection, which is taken until then.
        self.cursor: Cursor | None = None
        self.done = Done(0)
        self.connection: Connection | None = None

    def fill(self) -> None:
        """Fetch some, in a thread. Raises `SqlError`."""
        cursor = self.cursor
        if cursor is None:
            return
        limit = _MAX_ROWS_OF_EACH if self.is_long else _MAX_ROWS
        number, count, size = ROWS, 0, 0
        while cursor is not None:
            rows = cursor.fetch(number)
            if rows:
                count += len(rows)
                for portion in portions(rows, self.has_integers):
                    size += portion.size
                    self.portions.append(portion)
            if len(rows) < number:
                cursor.close()
                self.cursor = cursor = None
            elif count >= limit or size >= _MAX_BYTES:
                return
            else:
                number = min(limit - count, 5 * ROWS) if size < _SHORT else 1

    def clear(self) -> None:
        """Nothing has come of the statement."""
        self.columns, self.done, self.connection = NO_COLUMNS, Done(0), None
        self.portions.clear()

    def close(self) -> None:
        """No more are wanted. Does not wait."""
        cursor, self.cursor = self.cursor, None
        if cursor is None:
            return
        if self.hold is not None:
            self.hold.left.append(cursor)
        elif self.connection is not None:
            self.pool.recycle(self.connection)
            self.connection = None


class _Work(Claim):
    """Work with a connection, for a script."""

    def __init__(self, bridge: Bridge, pool: Pool, hold: Hold | None, timeout: float) -> None:
        super().__init__(pool, hold.connection if hold is not None else None)
        self._bridge = bridge
        #: The request that it is for.
        self._exchange = bridge.exchange
        self._hold = hold
        left = bridge.budget.left()
        self._seconds = min(timeout, left) if timeout else left
        self._timeout = timeout
        self._timer: Any = None
        #: What went wrong; and that its time was over, whatever comes of it afterwards.
        self._problem: SqlError | None = None
        self._expired: SqlError | None = None
        self._traceback = ""
        #: Held while the connection is interrupted, which must not hit the next statement on it.
        self._lock = allocate_lock()
        self._is_done = False
        #: In the event loop, too. `ended` is also set when the client goes.
        self._has_ended = False

    def start(self) -> None:
        """As soon as there is a connection and a thread."""
        hold = self._hold
        if hold is not None:
            if hold.is_busy:
                # With what the timeout has interrupted.
                self._problem = SqlError("the connection is lost: a statement on it has timed out")
                self.ended.set()
                return
            hold.is_busy = True
        if self._timeout:
            self._timer = get_hub().loop.timer(self._timeout)
            self._timer.start(self._expire)
        super().start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    # In a thread

    def work(self) -> None:
        """Do it."""
        try:
            self._work()
        except BaseException as problem:
            self._failed(problem)
        with self._lock:
            self._is_done = True
        connection = self.connection
        if connection is not None and connection.is_lost:
            connection.close()

    def _failed(self, problem: BaseException) -> None:
        if isinstance(problem, SqlError):
            self._problem = problem
        else:
            self._problem = SqlError("the driver has failed, see the error log")
            self._traceback = f"{described(problem)}\n{traceback_of(problem)}"

    def _work(self) -> None:
        connection = self._connected() if self._hold is None else self._held(self._hold)
        if self.is_given_up:
            return
        self.perform(connection)
        if self._hold is None and self.leaves_no_transaction:
            is_open = connection.in_transaction
            if is_open or connection.is_changed:
                connection.reset()
            if is_open:
                raise SqlError("a transaction was left open, and undone: expected db:transaction(f)")

    def _connected(self) -> Connection:
        connection = self.connection
        if connection is not None and not connection.is_alive():
            connection.close()
            connection = self.connection = None
        if connection is None:
            connection = self.connection = self._new_connection()
        return connection

    def _new_connection(self) -> Connection:
        pool = self.pool
        return self.patiently(lambda: pool.driver.connect(pool.key.settings, self._seconds))

    def _held(self, hold: Hold) -> Connection:
        connection = hold.connection
        if hold.is_permanent and (connection.is_lost or (not connection.in_transaction and not connection.is_alive())):
            connection.close()
            hold.left.clear()
            self.connection = hold.connection = connection = self._new_connection()
        if connection.is_lost:
            raise SqlError("the connection is lost, and the transaction with it", "", True)
        while hold.left:
            hold.left.pop().close()
        return connection

    def patiently(self, action: Callable[[], T]) -> T:
        """Do it, again while somebody else holds what it needs."""
        deadline = monotonic() + min(_BUSY_TIMEOUT, self._seconds)
        pause = _MIN_PAUSE
        while True:
            try:
                return action()
            except Busy:
                if self.is_given_up or monotonic() >= deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    #: A transaction that is under way afterwards is a mistake.
    leaves_no_transaction = True

    def perform(self, connection: Connection) -> None:
        """The work itself, in a thread. Raises `SqlError`."""
        raise NotImplementedError

    # In the event loop

    def fail(self, problem: Exception) -> None:
        """There is no thread for it."""
        self._problem = SqlError("the process can have no more threads")

    def _expire(self) -> None:
        self._stop_timer()
        self._expired = SqlError(f"timed out after {self._timeout:g} s")
        self.give_up()
        self.ended.set()

    def give_up(self) -> None:
        """Nobody waits any more. It may have ended just now."""
        if self.is_given_up:
            return
        if self._has_ended:
            self.drop_result()
            return
        self.is_given_up = True
        self._stop_timer()
        if not self.withdraw():
            _Interruption(self).start()
        elif self._hold is not None:
            self._hold.ended(is_interrupted=False)

    def drop_result(self) -> None:
        """It has ended, and nobody takes what it has found."""

    def interrupt(self) -> bool:
        """End what is being executed, from another thread. Returns whether to ask again."""
        with self._lock:
            connection = self.connection
            # While it connects, nothing can be ended; once it has, it looks whether it has been given up.
            return connection is not None and not self._is_done and connection.interrupt()

    def end(self) -> None:
        """It has ended."""
        self._has_ended = True
        self._stop_timer()
        if self._hold is not None:
            self._hold.ended(self.is_given_up)
        elif self.is_given_up:
            self._abandon()
        else:
            self.settle()
        if self._traceback:
            title = self._exchange.title if self._exchange is not None else ""
            self._bridge.log_error("greenfcgi.sql: a driver has failed", self._traceback, title)
        super().end()

    def _abandon(self) -> None:
        if self.connection is not None and not self.connection.is_lost:
            self.pool.recycle(self.connection)
        else:
            self.pool.give_back(None)

    def settle(self) -> None:
        """The connection is free, unless it is kept."""
        self.pool.give_back(self.connection)

    def outcome(self) -> Outcome:
        """What Lua gets."""
        problem = self._expired or self._problem
        if problem is not None:
            text, code = problem.message.encode("utf-8", "backslashreplace"), problem.code.encode()
            return (None, text, code) if self._bridge.reserve(len(text) + len(code)) else False
        return self.result()

    def result(self) -> Outcome:
        """What Lua gets when nothing has failed."""
        return b"", 0


class _Interruption(Job):
    """A statement that nobody waits for is ended."""

    def __init__(self, work: _Work) -> None:
        super().__init__(housekeeping)
        self._work = work

    def work(self) -> None:
        """It may be about to begin."""
        while self._work.interrupt():
            time.sleep(_INTERRUPT_AGAIN)

    def fail(self, problem: Exception) -> None:
        """Then it runs to its end."""


class Execute(_Work):
    """A statement whose rows nobody wants."""

    def __init__(
        self,
        bridge: Bridge,
        pool: Pool,
        hold: Hold | None,
        timeout: float,
        sql: str,
        parameters: Parameters,
        has_integers: bool,
    ) -> None:
        super().__init__(bridge, pool, hold, timeout)
        self._has_integers = has_integers
        self._sql = sql
        self._parameters = parameters
        self._done = Done(0)

    def perform(self, connection: Connection) -> None:
        """Execute it."""
        self._done = self.patiently(lambda: connection.execute(self._sql, self._parameters))

    def result(self) -> Outcome:
        """No rows."""
        return done_result(self._done, self._has_integers)


class Query(_Work):
    """A statement that gives rows. `keep` keeps those that are still to come, and returns their number."""

    def __init__(
        self,
        bridge: Bridge,
        rows: Rows,
        timeout: float,
        sql: str,
        parameters: Parameters,
        shape: Callable[[Columns], int],
        keep: Callable[[Rows], int],
    ) -> None:
        super().__init__(bridge, rows.pool, rows.hold, timeout)
        self._sql = sql
        self._parameters = parameters
        self._rows = rows
        self._shape = shape
        self._keep = keep

    def start_and_wait(self, seconds: float) -> None:
        """The same; or it is executed here, where it is so quick that this takes less."""
        # Beside threads that are at work, each step might wait for the interpreter.
        if Threads.at_work or not quick.is_quick(self._sql) or not self._has_ended_at_once():
            super().start_and_wait(seconds)

    def _has_ended_at_once(self) -> bool:
        """Try it without a thread. False: nothing has come of it."""
        hold = self._hold
        # No thread is at work, so nothing is under way on it.
        connection = hold.connection if hold is not None else self.pool.take()
        if connection is None:
            return False
        if connection.is_lost or not connection.is_alive() or not self._is_tried(connection):
            if hold is None:
                self.pool.give_back(connection)
            return False
        self.connection = connection
        self.end()
        return True

    def _is_tried(self, connection: Connection) -> bool:
        limited, rows = self.pool.driver.limited, self._rows
        assert limited is not None, "only what can be limited is quick"
        has_ended = True
        began = monotonic()
        try:
            with limited(connection, quick.LIMIT):
                self._take_rows(connection, connection.query(self._sql, self._parameters, rows.is_long))
        except BaseException as problem:
            rows.clear()
            if isinstance(problem, Busy):
                return False
            has_ended = not isinstance(problem, Limited)
            if has_ended:
                self._failed(problem)
        quick.note_try(self._sql, monotonic() - began, has_ended)
        return has_ended

    def perform(self, connection: Connection) -> None:
        """Execute it, and fetch the first rows."""
        rows = self._rows
        began = monotonic()
        try:
            cursor = connection.query(self._sql, self._parameters, rows.is_long)
        except Busy:
            cursor = self.patiently(lambda: connection.query(self._sql, self._parameters, rows.is_long))
        self._take_rows(connection, cursor)
        if self.pool.driver.limited is not None:
            quick.note(self._sql, monotonic() - began)
        self.leaves_no_transaction = rows.cursor is None

    def _take_rows(self, connection: Connection, cursor: Cursor) -> None:
        rows = self._rows
        rows.columns, rows.done, rows.connection = cursor.columns, cursor.done, connection
        if rows.columns.names:
            rows.cursor = cursor
            self._fill(rows)
        else:
            cursor.close()

    def _fill(self, rows: Rows) -> None:
        try:
            rows.fill()
        except BaseException:
            if rows.cursor is not None:
                rows.cursor.close()
                rows.cursor = None
            raise

    def settle(self) -> None:
        """The connection is kept while there are rows to come."""
        if self._rows.cursor is None:
            super().settle()

    def drop_result(self) -> None:
        """The rest is not wanted."""
        self._rows.close()

    def result(self) -> Outcome:
        """The first rows; or what it has done, where it gives none."""
        rows = self._rows
        if not rows.columns.names:
            return done_result(rows.done, rows.has_integers)
        number = self._keep(rows) if rows.cursor is not None or len(rows.portions) > 1 else 0
        return portion(self._bridge, rows, number, self._shape(rows.columns))


class More(_Work):
    """The next rows."""

    def __init__(self, bridge: Bridge, rows: Rows, number: int, timeout: float, forget: Callable[[int], None]) -> None:
        super().__init__(bridge, rows.pool, rows.hold, timeout)
        if rows.hold is None:
            self.connection = rows.connection
        self.has_own = True
        self._rows = rows
        self._number = number
        self._forget = forget

    def _connected(self) -> Connection:
        assert self.connection is not None
        return self.connection

    def perform(self, connection: Connection) -> None:
        """Fetch them."""
        try:
            self._rows.fill()
        except BaseException:
            cursor, self._rows.cursor = self._rows.cursor, None
            if cursor is not None:
                cursor.close()
            raise
        self.leaves_no_transaction = self._rows.cursor is None

    def settle(self) -> None:
        """The connection is free when the last row has come."""
        if self._rows.cursor is None:
            super().settle()

    def withdraw(self) -> bool:
        """Where it has begun, the rest is not wanted: the connection is given back here, when it has ended."""
        if super().withdraw():
            return True
        self._rows.cursor = None
        return False

    def result(self) -> Outcome:
        """The next rows."""
        return next_portion(self._bridge, self._rows, self._number, self._forget)


class Control(_Work):
    """`act` in a thread: a part of a transaction. `keep` keeps the connection, and returns its number."""

    leaves_no_transaction = False

    def __init__(
        self,
        bridge: Bridge,
        pool: Pool,
        hold: Hold | None,
        timeout: float,
        act: Callable[[Connection], object],
        keep: Callable[[Hold], int] | None = None,
        is_permanent: bool = False,
    ) -> None:
        super().__init__(bridge, pool, hold, timeout)
        self._act = act
        self._keep = keep
        self._is_permanent = is_permanent
        self._kept = 0
        self._kept_hold: Hold | None = None
        #: What `act` has returned.
        self.found: object = None

    def perform(self, connection: Connection) -> None:
        """Do it."""
        self.found = self.patiently(lambda: self._act(connection))

    def settle(self) -> None:
        """It is kept from here on."""
        if self._keep is not None and self._problem is None and self.connection is not None:
            self._kept_hold = Hold(self.pool, self.connection, self._is_permanent)
            self._kept = self._keep(self._kept_hold)
        else:
            super().settle()

    def drop_result(self) -> None:
        """Nobody has the number of what is kept: it ends with the run of the script."""
        if self._kept_hold is not None:
            self._kept_hold.is_permanent = False

    def result(self) -> Outcome:
        """The number of what is kept."""
        return b"", self._kept


def done_result(done: Done, has_integers: bool) -> Outcome:
    """No rows: "", 0, 0, how many the statement has changed, and the last id."""
    return b"", 0, 0, done.affected, crossing_of(done.last_id, has_integers)


def portion(bridge: Bridge, rows: Rows, number: int, shape: int) -> Outcome:
    """The next values as Lua gets them: "", the number of the rows (0: these are the last), their shape, how many
    values, and these.
    """
    if not rows.portions:
        return b"", number, shape, 0
    values, size = rows.portions.popleft()
    count = len(values)
    return (b"", number, shape, count, *values) if bridge.reserve(size + _VALUE * count) else False


def next_portion(bridge: Bridge, rows: Rows, number: int, forget: Callable[[int], None]) -> Outcome:
    """The same of rows that have been fetched before."""
    if rows.cursor is None and len(rows.portions) <= 1:
        forget(number)
        number = 0
    return portion(bridge, rows, number, 0)
