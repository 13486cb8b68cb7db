"""What a flush makes of a change, where the server as a whole cannot be brought to it: no descriptor is left."""

from __future__ import annotations

import os
from pathlib import Path

from greenfcgi.errors import ScriptBusy
from greenfcgi.lua.state import State
from greenfcgi.reload.flush_queue import FlushQueue
from greenfcgi.reload.reloader import Reloader
from greenfcgi.scripts.pool import Pool
from greenfcgi.scripts.script import Script
from greenfcgi.scripts.version import Version

from ..support.inside import Inside


def test_a_script_that_cannot_be_loaded_for_now_is_tried_again(tmp_path: Path) -> None:
    """Without a descriptor to read it with, the version before goes on, and the next beat takes the change up."""
    inside = Inside(tmp_path)
    path = inside.write("page.lua", "function main(env, con) con:puts('old') end")
    busy = True

    def load(script: Script, version: Version | None = None, /) -> State:
        if busy and version is not None:
            version.read(script.path)
            raise ScriptBusy(f"{script.path}: Too many open files")
        return inside.loader.make(script, version)

    queue, pool = FlushQueue(), Pool(load, 2, 2)
    catalogue = inside._catalogue
    reloader = Reloader(queue, catalogue, pool, load, inside._log)
    script = catalogue.find(os.fsencode(path))
    pool.check_in(pool.check_out(script), script)
    path.write_text("function main(env, con) con:puts('new') end")
    queue.put(str(path))
    reloader.flush()
    assert "changed, but cannot be loaded now" in inside.log()
    assert Inside.run(pool.check_out(script)).text == "old"
    busy = False
    reloader.flush()
    assert Inside.run(pool.check_out(script)).text == "new"
    assert not queue
    inside.close()
