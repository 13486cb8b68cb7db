"""The table at the head of `rollout`, line by line: no process is forked, and nothing listens."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from greenfcgi.config.load import Config, defaults
from greenfcgi.errors import ConfigError
from greenfcgi.processes.children import Child, Children
from greenfcgi.processes.listeners import ListenerSet
from greenfcgi.processes.open_logs import error_log
from greenfcgi.processes.restarts import Restarts
from greenfcgi.processes.rollout import Phase, Rollout, Setup
from greenfcgi.system.privileges import Identity

pytestmark = pytest.mark.systems


class FakeChild(Child):
    """A process that is a number, and gets no signals."""

    def send(self, number: signal.Signals) -> None:
        """Nobody is there."""


class FakeListeners:
    """Has the listeners of one configuration, or those of two until `commit` or `roll_back`."""

    def __init__(self) -> None:
        self.bound: list[Any] = []
        self.can_roll_back = False

    def adapt(self, config: Config) -> Config:
        """Nothing is from systemd."""
        return config

    def change(self, config: Config, identity: Identity) -> None:
        """There are two now."""
        self.can_roll_back = True

    def commit(self) -> None:
        """The new ones stay."""
        self.can_roll_back = False

    def roll_back(self) -> None:
        """The old ones stay."""
        assert self.can_roll_back
        self.can_roll_back = False


class World:
    """A rollout of two processes, and what happens to it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.is_readable = True
        self.children: list[FakeChild] = []
        self.listeners = FakeListeners()
        self.restarts = Restarts()
        self.rollout = Rollout(
            Setup(0, config, Identity("", -1, -1), 2, error_log(config)), self._read, self._start,
            cast(Children, self.children), cast(ListenerSet, self.listeners), self.restarts, 63,
        )  # fmt: skip

    def _read(self) -> Config:
        if not self.is_readable:
            raise ConfigError("nonsense")
        return self.config

    def _start(self) -> None:
        setup = self.rollout.current
        self.children.append(FakeChild(1, 1, setup.generation, setup.config, -1, -1))

    def generations(self) -> list[int]:
        """Those of the processes that are to stay."""
        return [child.generation for child in self.children if not child.is_leaving]

    def settle(self) -> None:
        """Whatever has been asked to end ends, and the rest is done until nothing moves."""
        while self.rollout.reconcile():
            pass
        self.children[:] = [child for child in self.children if not child.is_leaving]

    def ready(self) -> None:
        """The first process that is being started becomes ready; the supervisor's loop goes on."""
        child = next(child for child in self.children if not child.is_ready and not child.is_leaving)
        child.is_ready = True
        self.rollout.on_ready(child)
        self.settle()

    def die(self, generation: int) -> bool:
        """A process of this generation ends unexpectedly, and the loop goes on. False: none takes its place."""
        child = next(child for child in self.children if child.generation == generation)
        self.children.remove(child)
        is_replaced = self.rollout.on_unexpected_exit(child, "SIGKILL")
        self.settle()
        return is_replaced

    def serve(self) -> World:
        """Until the first configuration serves."""
        self.settle()
        self.ready()
        self.ready()
        assert self.rollout.phase is Phase.SERVING
        return self

    def log(self) -> str:
        """The error log."""
        return Path(self.config.errorlog).read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """At the start."""
    (tmp_path / "lua_scripts").mkdir()
    return World(defaults(str(tmp_path))._replace(processes=2, errorlog=str(tmp_path / "error.log")))


def test_the_start(world: World) -> None:
    """STARTING, COMPLETING, SERVING; a process that ends meanwhile is no matter of the rollout."""
    world.settle()
    assert (world.rollout.phase, world.generations()) == (Phase.STARTING, [0, 0])
    assert (world.rollout.is_started, world.rollout.is_proven) == (False, False)
    world.ready()
    assert (world.rollout.phase, world.rollout.is_started) == (Phase.COMPLETING, False)
    assert world.rollout.is_proven
    world.ready()
    assert (world.rollout.phase, world.rollout.is_started) == (Phase.SERVING, True)
    assert world.die(0)
    assert (world.rollout.phase, world.generations()) == (Phase.SERVING, [0, 0])


def test_a_configuration_that_cannot_be_used(world: World) -> None:
    """SERVING, as before."""
    world.serve()
    world.is_readable = False
    world.rollout.reload()
    assert (world.rollout.phase, world.rollout.previous) == (Phase.SERVING, None)
    assert "SIGHUP: keeping the old configuration: nonsense" in world.log()


def test_a_new_configuration(world: World) -> None:
    """TRYING, REPLACING, SERVING: one process at a time, and there are always two that serve."""
    world.serve().rollout.reload()
    world.settle()
    assert (world.rollout.phase, world.generations()) == (Phase.TRYING, [0, 0, 1])
    assert not world.rollout.is_proven
    world.ready()
    assert (world.rollout.phase, world.generations()) == (Phase.REPLACING, [0, 1, 1])
    assert world.listeners.can_roll_back
    world.ready()
    assert (world.rollout.phase, world.generations()) == (Phase.SERVING, [1, 1])
    assert (world.rollout.previous, world.listeners.can_roll_back) == (None, False)


def test_one_that_cannot_serve(world: World) -> None:
    """TRYING is rolled back to SERVING when a process of the new configuration ends, not when one of the old does."""
    world.serve().rollout.reload()
    world.settle()
    assert world.die(0)
    assert world.rollout.phase is Phase.TRYING
    assert not world.die(1)
    assert (world.rollout.phase, world.rollout.current.generation) == (Phase.SERVING, 0)
    assert world.generations() in ([0], [0, 0])
    world.rollout.reload()
    assert world.rollout.current.generation == 2, "a generation is never used again"


def fail(world: World) -> None:
    """Until a new configuration has been proven, and then loses a process."""
    world.serve().rollout.reload()
    world.settle()
    world.ready()
    assert world.die(1)
    assert (world.rollout.phase, world.rollout.is_proven) == (Phase.FAILING, True)


def test_one_that_does_not_last(world: World) -> None:
    """FAILING ends in SERVING all the same, once its processes last."""
    fail(world)
    while world.rollout.phase is Phase.FAILING:
        world.ready()
    assert (world.rollout.phase, world.generations()) == (Phase.SERVING, [1, 1])


@pytest.mark.parametrize("is_committed", [False, True])
def test_one_that_does_not_last_and_another(world: World, is_committed: bool) -> None:
    """FAILING, and another SIGHUP: the one before comes back if it can; then the next one is tried."""
    fail(world)
    if is_committed:
        world.listeners.commit()
    world.rollout.reload()
    assert world.rollout.phase is Phase.TRYING
    assert world.rollout.previous is not None
    assert world.rollout.previous.generation == (1 if is_committed else 0)
    assert world.rollout.current.generation == 2


@pytest.mark.parametrize("until", [lambda world: world.settle(), lambda world: (world.settle(), world.ready())])
def test_a_reload_meanwhile(world: World, until: Callable[[World], Any]) -> None:
    """It is remembered until SERVING."""
    until(world)
    phase = world.rollout.phase
    world.rollout.reload()
    assert world.rollout.phase is phase
    while world.rollout.current.generation == 0:
        world.ready()
    assert world.rollout.phase is Phase.TRYING


def test_the_number_of_processes(world: World) -> None:
    """It changes what there should be, and comes back with the configuration that it was for."""
    world.serve().rollout.resize(1)
    world.settle()
    assert world.generations() == [0, 0, 0]
    world.ready()
    world.rollout.reload()
    assert world.rollout.current.processes == 2
    world.settle()
    world.die(1)
    assert world.rollout.current.processes == 3
    for _ in range(5):
        world.rollout.resize(-1)
    assert world.rollout.current.processes == 1
    with pytest.raises(ConfigError, match="from 1 to 63 are possible"):
        world.rollout.resize(63)
