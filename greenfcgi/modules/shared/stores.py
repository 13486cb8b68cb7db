"""The dictionaries of this process, opened once: by LMDB in a folder in memory, or by Redis."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Final

from ...config.shared import Shared
from ...errors import ConfigError
from ...system.memory_folder import MemoryFolder, base, why_not
from ...system.privileges import Identity

if TYPE_CHECKING:
    from .lmdb_store import LmdbStore
    from .redis_connection import RedisConnection
    from .redis_store import RedisStore

#: Behind the name of a file of LMDB's: that of its lock.
_LOCK: Final = "-lock"


class Stores:
    """What [shared] names. Nothing is opened before `open`."""

    def __init__(self, shared: Shared, folder: MemoryFolder | None) -> None:
        self.shared = shared
        #: The supervisor's; without one, a folder of this process's own is made.
        self._folder = folder
        self._own_folder: MemoryFolder | None = None
        #: Those of LMDB or those of Redis, by their names, once they are open.
        self.local: dict[str, LmdbStore] = {}
        self.remote: dict[str, RedisStore] = {}
        self.connection: RedisConnection | None = None

    def prepare(self, identity: Identity) -> None:
        """Import what is needed, and make the folder theirs who run scripts. Raises `ConfigError`."""
        problem = missing(self.shared)
        if problem:
            raise ConfigError(problem)
        _import_for(self.shared)
        if self.shared.redis is None:
            try:
                self._made_folder().own(identity)
            except OSError as error:
                raise ConfigError(f"[shared]: {why_not(error)}") from None

    def open(self) -> None:
        """Open them, unless they are, or there are none. Raises `ConfigError`."""
        if self.local or self.remote or not self.shared.sizes:
            return
        problem = missing(self.shared)
        if problem:
            raise ConfigError(problem)
        if self.shared.redis is not None:
            from .redis_connection import RedisConnection
            from .redis_store import RedisStore

            self.connection = RedisConnection(self.shared.redis)
            self.remote = {name: RedisStore(name) for name in self.shared.sizes}
            return
        from .lmdb_store import LmdbStore

        found: dict[str, LmdbStore] = {}
        for name, size in self.shared.sizes.items():
            try:
                found[name] = LmdbStore(os.path.join(self._made_folder().path, file_name(name, size)), size)
            except OSError as error:
                for store in found.values():
                    store.close()
                where = f"[shared] {name}: {size} bytes cannot be had in {base()}"
                raise ConfigError(f"{where}: {error.strerror or error}; expected less, or more memory there") from None
        self.local = found

    def beat(self) -> None:
        """At each heartbeat."""
        for store in self.local.values():
            store.beat()

    def close(self) -> None:
        """The process ends. What only it had goes."""
        for store in self.local.values():
            store.close()
        if self.connection is not None:
            self.connection.close()
        self.local, self.remote, self.connection = {}, {}, None
        folder, self._own_folder = self._own_folder, None
        if folder is not None:
            folder.release()

    def _made_folder(self) -> MemoryFolder:
        if self._folder is not None:
            return self._folder
        if self._own_folder is None:
            self._own_folder = MemoryFolder()
            # For whoever has no `stop`, such as --try.
            atexit.register(self.close)
        return self._own_folder


#: By what the configuration says, of which there is one object for a process.
_stores: Final[dict[int, Stores]] = {}


def stores_of(shared: Shared, folder: MemoryFolder | None = None) -> Stores:
    """Those of this process. Who asks first says in which folder."""
    found = _stores.get(id(shared))
    if found is None:
        found = _stores[id(shared)] = Stores(shared, folder)
    return found


def _import_for(shared: Shared) -> None:
    """Import what is otherwise imported when it is needed: the user who runs scripts may not be able to read it."""
    if shared.redis is None:
        from . import lmdb_store  # noqa: F401

        try:
            # Some versions import it when the first environment is opened.
            from lmdb import _envid  # noqa: F401
        except ImportError:
            pass
        return
    # Names of hosts are encoded by it.
    import encodings.idna  # noqa: F401

    from . import redis_store  # noqa: F401
    from .redis_connection import import_tls

    if shared.redis.has_tls:
        import_tls()


def missing(shared: Shared) -> str:
    """What must be installed for these dictionaries, as one line; "" when it is."""
    try:
        if not shared.sizes:
            return ""
        if shared.redis is None:
            what, extra = "lmdb", "shared"
            import lmdb  # noqa: F401
        else:
            what, extra = "hiredis", "redis"
            import hiredis  # noqa: F401
    except ImportError:
        return f"[shared]: found no module {what!r}, which keeps dictionaries; pip install 'greenfcgi[{extra}]'"
    return ""


def file_names(shared: Shared) -> set[str]:
    """The files that dictionaries of LMDB have in their folder."""
    names = {file_name(name, size) for name, size in shared.sizes.items()} if shared.redis is None else set()
    return names | {name + _LOCK for name in names}


def file_name(name: str, size: int) -> str:
    """Another size is another dictionary: the one before may be in use."""
    return f"{name}-{size}"
