"""The supervisor: keeps `processes` processes serving on one listener, and turns signals into what they mean.

Signals only enqueue; one loop takes them up, reaps who has ended, replaces who has stopped beating, and brings what is
nearer to what should be, one step at a time: a new process is ready before an old one leaves. It imports neither
gevent nor lupa, so that each process gets them fresh.

SIGTERM and SIGINT stop gracefully, and at once the second time; SIGQUIT at once. SIGHUP reads the configuration again
and replaces the processes; SIGUSR1 opens the logs anew; SIGUSR2 starts a new binary on the same sockets; SIGTTIN and
SIGTTOU add and take away a process.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from signal import Signals as Number
from time import monotonic

from . import __version__, exits, listening, successor, systemd
from .board import Board
from .children import Child, Children, how
from .config import Config
from .errors import BindError, BootError, ConfigError
from .history import History
from .listening import Bound
from .logs import error_log
from .pidfile import PidFile
from .privileges import identity, prepare_logs
from .signals import Signals

#: Seconds between two looks at what no signal tells of.
_LOOK = 0.25
#: Beats may be late by so many seconds, beside the time that a script has.
_LATE = 2.0
#: Seconds for a process to tell where it is stuck.
_ANSWER = 1.0
#: Seconds for hooks and logs after a graceful stop.
_AFTERWARDS = 2.0
#: Seconds before a process that has ended is started again: none the first time, then this, doubled each time.
_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 10.0
#: A process that has lived so many seconds was well.
_WELL = 5.0
#: The fewest slots: a configuration that is read again may want more processes.
_SLOTS = 64
_OLD = ".oldbin"


class Supervisor:
    """`read` reads the configuration again; it raises `ConfigError`. `run` serves until a signal says otherwise."""

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self._config = config
        self._read = read
        self._wanted = config.processes
        self._generation = 0
        #: What was before a reload, until a process of the new configuration is ready.
        self._before: tuple[Config, int, list[Bound]] | None = None
        self._is_started = False
        self._is_stopping = False
        #: Another SIGHUP came while the processes were being replaced.
        self._again = False
        self._cut = False
        self._back_off = 0.0
        self._not_before = 0.0
        self._failure: BootError | None = None
        self._successor = 0
        self._handed_over = systemd.listening()
        self._bound: list[Bound] = []
        self._is_fed = 0.0
        #: The last turn has changed something, so the next follows at once.
        self._is_moving = True

    def run(self) -> int:
        """Serve. Returns the exit status.

        Raises `ConfigError`, `BindError` and `BootError` before anything is served.
        """
        self._config = listening.instead(self._config, self._handed_over)
        self._who = identity(self._config)
        prepare_logs(self._config, self._who)
        self._log = error_log(self._config)
        inheritance = successor.inherited()
        self._bound = listening.listen_all(self._config, self._who, inheritance.sockets if inheritance else {})
        self._channel = inheritance.channel if inheritance else _channel()
        self._pid_file = PidFile(self._config.pidfile)
        self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._signals = Signals(_MEANINGS)
        self._board = Board(max(_SLOTS, 3 * self._wanted))
        self._history = History(self._board)
        self._children = Children(self._board, self._signals, self._lifeline)
        try:
            self._pid_file.write()
            while not (self._is_stopping and not self._children):
                self._wait()
                for number in self._signals.take():
                    _MEANINGS[number](self, number)
                self._reap()
                self._look_after()
                self._is_moving = self._approach()
        finally:
            self._release()
        if self._failure is not None:
            raise self._failure
        self._log.info("stopped")
        return exits.FAILED if self._cut else exits.OK

    # What should be

    def _active(self) -> list[Child]:
        return [child for child in self._children if not child.is_leaving]

    def _approach(self) -> bool:
        """One step from what is to what should be; False when there is none to take now."""
        if self._is_stopping:
            return False
        active = self._active()
        fresh = [child for child in active if child.generation == self._generation]
        old = [child for child in active if child.generation != self._generation]
        ready = sum(child.is_ready for child in fresh)
        is_booting = ready < len(fresh)
        if len(fresh) < self._wanted and not (old and is_booting) and monotonic() >= self._not_before:
            self._start()
        elif old and ready and len(old) > self._wanted - ready:
            self._retire(old[0])
        elif len(fresh) > self._wanted and not old:
            self._retire(fresh[-1])
        else:
            if ready == len(fresh) == self._wanted and not old:
                self._arrived()
            return False
        return True

    def _arrived(self) -> None:
        """All is as it should be."""
        if not self._is_started:
            self._is_started = True
            self._log.info(
                f"greenfcgi {__version__} ({self._config.lua.version}, {self._processes()}) serves "
                f"{self._config.scripts.root} on {listening.names(self._bound)}"
            )
            self._tell_ready()
        elif self._before is not None:
            self._forget_sockets(self._before[2])
            self._before = None
            self._log.info(f"the configuration has been read again, all {self._wanted} processes are new")
            self._tell_ready()
        if self._again:
            self._again = False
            self._reload(Number.SIGHUP)

    def _tell_ready(self) -> None:
        systemd.notify("READY=1", f"STATUS={self._processes()} on {listening.names(self._bound)}")

    def _processes(self) -> str:
        return f"{self._wanted} process{'es' if self._wanted > 1 else ''}"

    def _start(self) -> None:
        config, bound = self._config, self._bound
        board, channel, who = self._board, self._channel, self._who

        def work(slot: int, ready: int, lifeline: int, question: int) -> int:
            # Here, so that the supervisor stays without them.
            from .link import Link, Ties
            from .process import Process

            process = Process(config)
            who.assume()
            link = Link(Ties(board, slot, channel, ready, lifeline, question))
            return exits.OK if process.run(bound, link) else exits.FAILED

        try:
            if self._children.start(self._generation, config, work) is None:
                self._log.error(f"no room for another process: {len(self._children)} are there")
                self._delay()
        except OSError as problem:
            self._log.error(f"cannot start a process: {problem.strerror}")
            self._delay()

    def _retire(self, child: Child) -> None:
        """Let another process take over what this one has."""
        child.leave(Number.SIGHUP, child.config.graceful_timeout + _AFTERWARDS)

    def _delay(self) -> None:
        self._not_before = monotonic() + self._back_off
        self._back_off = min(max(2 * self._back_off, _BACK_OFF), _LONGEST_BACK_OFF)

    # What is

    def _wait(self) -> None:
        """Until a signal comes, a process is ready, or some time has passed."""
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        booting = {child.ready: child for child in self._children if child.ready != -1}
        for descriptor in booting:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0 if self._is_moving else _LOOK * 1000):
            if descriptor in booting:
                booting[descriptor].hear()

    def _reap(self) -> None:
        for child, status in self._children.reap():
            self._history.add(child.slot)
            if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == exits.FAILED:
                self._cut = self._cut or self._is_stopping
            if not child.is_leaving and not self._is_stopping:
                self._replace(child, status)
        if self._successor and os.waitpid(self._successor, os.WNOHANG)[0]:
            self._successor = 0
            self._pid_file.rename(_OLD, "")
            self._log.error("the new binary has ended; this one goes on")

    def _replace(self, child: Child, status: int) -> None:
        """A process has ended that nobody told to."""
        if not child.is_ready and not self._is_started:
            self._give_up(child.problem or how(status), exits.USAGE if status == exits.USAGE << 8 else exits.BOOT)
            return
        if not child.is_ready and self._before is not None and child.generation == self._generation:
            self._go_back(child.problem or how(status))
            return
        self._history.count_replaced()
        self._log.error(f"process {child.pid} has ended ({child.problem or how(status)}): another takes its place")
        if monotonic() - child.started > _WELL:
            self._back_off = 0.0
        self._delay()

    def _give_up(self, problem: str, status: int) -> None:
        """The start has failed."""
        if self._config.errorlog != "-":
            self._log.critical(f"not started: {problem}")
        self._failure = BootError(problem, status)
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGTERM, _ANSWER)

    def _look_after(self) -> None:
        now = monotonic()
        is_well = True
        for child in self._children:
            if child.killed_at is not None and now >= child.killed_at:
                self._cut = self._cut or self._is_stopping
                child.killed_at = None
                child.send(Number.SIGKILL)
            elif child.is_ready and not child.is_leaving:
                silence = now - self._board.last_beat(child.slot)
                if silence > child.config.timeout + _LATE:
                    is_well = False
                    self._log.critical(f"process {child.pid} has not beaten for {silence:.1f} s: it is replaced")
                    child.ask()
                    child.leave(None, _ANSWER)
        self._feed(now, is_well)

    def _feed(self, now: float, is_well: bool) -> None:
        """Tell systemd's watchdog that all is well, when it is."""
        interval = systemd.watchdog()
        if interval and is_well and now - self._is_fed >= interval:
            self._is_fed = now
            systemd.notify("WATCHDOG=1")

    # Signals

    def _stop(self, number: Number) -> None:
        if self._is_stopping:
            self._quit(number)
            return
        self._is_stopping = True
        systemd.notify("STOPPING=1")
        self._log.info(f"{number.name}: stopping {len(self._children)} processes")
        if self._successor:
            systemd.notify(f"MAINPID={self._successor}")
        for child in self._active():
            # With a successor, connections that are kept go to its processes.
            child.leave(
                Number.SIGHUP if self._successor and child.is_ready else Number.SIGTERM,
                child.config.graceful_timeout + _AFTERWARDS,
            )

    def _quit(self, number: Number) -> None:
        self._log.warning(f"{number.name}: stopping at once")
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGQUIT, _ANSWER)

    def _reload(self, number: Number) -> None:
        if self._is_stopping:
            return
        if self._before is not None or not self._is_started:
            self._again = True
            return
        systemd.reloading()
        try:
            config = listening.instead(self._read(), self._handed_over)
            who = identity(config)
            if config.processes == 0:
                raise ConfigError("processes: found 0, which takes a new start; expected 1 or more")
            there = {str(one.address): one.socket.fileno() for one in self._bound}
            prepare_logs(config, who)
            log = error_log(config)
            bound = listening.listen_all(config, who, there)
        except (ConfigError, BindError) as problem:
            self._log.error(f"SIGHUP: the old configuration stays: {problem}")
            self._tell_ready()
            return
        self._log.info("SIGHUP: the configuration has been read, processes are being replaced")
        self._log.close()
        self._log = log
        self._before = self._config, self._wanted, self._bound
        self._config, self._wanted, self._who = config, config.processes, who
        self._bound = self._kept(bound)
        self._generation += 1
        self._not_before = self._back_off = 0.0

    def _kept(self, bound: list[Bound]) -> list[Bound]:
        """The sockets of a new configuration, of which some have been there before."""
        old = {str(one.address): one for one in self._bound}
        kept = []
        for one in bound:
            there = old.get(str(one.address))
            if there is not None:
                # The same descriptor under another object.
                one.socket.detach()
            kept.append(there or one)
        return kept

    def _forget_sockets(self, bound: list[Bound]) -> None:
        """Close those that are not in use any more."""
        for one in bound:
            if one not in self._bound:
                one.remove()
                one.socket.close()

    def _go_back(self, reason: str) -> None:
        """No process of the new configuration could serve: the old one stays."""
        assert self._before is not None
        bound = self._bound
        self._config, self._wanted, self._bound = self._before
        self._before = None
        self._forget_sockets(bound)
        self._who = identity(self._config)
        for child in self._active():
            if child.generation == self._generation:
                child.leave(Number.SIGTERM, _ANSWER)
        self._generation -= 1
        self._log.error(f"SIGHUP: the old configuration stays: a process of the new one could not serve ({reason})")
        self._tell_ready()

    def _reopen_logs(self, number: Number) -> None:
        prepare_logs(self._config, self._who)
        self._log.reopen()
        for child in self._children:
            if child.is_ready:
                child.send(number)

    def _start_successor(self, number: Number) -> None:
        if self._successor or self._is_stopping:
            self._log.warning(f"{number.name}: a new binary has been started already, process {self._successor}")
            return
        self._pid_file.rename("", _OLD)
        try:
            self._successor = successor.start(self._bound, self._channel)
        except OSError as problem:
            self._pid_file.rename(_OLD, "")
            self._log.error(f"{number.name}: cannot start the new binary: {problem.strerror}")
            return
        self._log.info(
            f"{number.name}: the new binary is process {self._successor}; once it serves, end this one with SIGTERM, "
            f"or end that one to go back"
        )

    def _more(self, number: Number) -> None:
        if self._wanted < self._board.slots // 2:
            self._wanted += 1
        self._log.info(f"{number.name}: {self._wanted} processes")

    def _fewer(self, number: Number) -> None:
        self._wanted = max(1, self._wanted - 1)
        self._log.info(f"{number.name}: {self._wanted} processes")

    def _nothing(self, number: Number) -> None:
        """It has woken the loop."""

    def _release(self) -> None:
        """Remove what a successor does not need."""
        if not self._successor:
            for one in self._bound:
                one.remove()
        self._pid_file.remove()
        self._pid_file.remove(_OLD)


_MEANINGS: dict[Number, Callable[[Supervisor, Number], None]] = {
    signal.SIGTERM: Supervisor._stop,
    signal.SIGINT: Supervisor._stop,
    signal.SIGQUIT: Supervisor._quit,
    signal.SIGHUP: Supervisor._reload,
    signal.SIGUSR1: Supervisor._reopen_logs,
    signal.SIGUSR2: Supervisor._start_successor,
    signal.SIGTTIN: Supervisor._more,
    signal.SIGTTOU: Supervisor._fewer,
    signal.SIGCHLD: Supervisor._nothing,
}


def _channel() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel for connections: to give into the first, to take from the second."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends
