"""One process without a supervisor (`processes = 0`): the least memory."""

from __future__ import annotations

from ..config.load import Config
from ..logs.progress import shown
from ..system import listen, systemd
from ..system.gevent_import import import_gevent
from ..system.pidfile import PidFile
from ..system.privileges import prepare_logs, remarks_on_reading, resolve_identity
from ..version import NAME


def serve(config: Config) -> bool:
    """Serve until a signal says otherwise. True when every request was finished.

    Raises `ConfigError` and `BindError`.
    """
    config = listen.replace_bind(config, systemd.listening())
    identity = resolve_identity(config)
    prepare_logs(config, identity)
    import_gevent()
    from .server_process import ServerProcess

    process = ServerProcess(config)
    bound = listen.listen_all(config, identity, {})
    listen.forget_stdin()
    for level, text in [*listen.remarks(bound), *remarks_on_reading(identity)]:
        process.log.log(level, text)
    pid_file = PidFile(config.pidfile)

    def ready() -> None:
        # Not before signals are handled: whoever reads it may send one.
        process.log.info(f"{NAME} ({process.lua}) serves {config.scripts.root} on {listen.names(bound)}")
        systemd.notify("READY=1")

    def release() -> None:
        systemd.notify("STOPPING=1")
        for one in bound:
            one.remove()
        pid_file.remove()

    try:
        pid_file.write()
        process.become(identity)
        with shown(lambda: "starting: waiting for scripts.startup"):
            process.try_startup()
        interval = systemd.watchdog()
        if interval:
            process.every(interval, lambda: systemd.notify("WATCHDOG=1"))
        return process.run(bound, ready=ready, release=release)
    except BaseException:
        # Twice does no harm.
        release()
        raise
