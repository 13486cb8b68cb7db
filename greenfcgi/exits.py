"""What the exit status of the command means."""

from __future__ import annotations

#: All went well.
OK = 0
#: An address is taken, or a stop did not let everything finish; with --try, the request got an error.
FAILED = 1
#: The command line or the configuration is wrong.
USAGE = 2
#: A process of the supervisor ended before it could serve.
BOOT = 3
