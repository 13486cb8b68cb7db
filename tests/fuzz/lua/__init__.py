"""Random Lua programs against the real states: `python -m tests.fuzz lua [options]`, with --help for these.

`values` are the odd arguments, `library` what they are given to, `programs` makes a whole program of a seed, `tree` is
what a program is made of, and makes it smaller. `child` runs programs in a process that may crash, `served` runs them
in a whole server, `campaign` starts such processes, says what became of each program, and tries a failure again alone.

A seed stands for the same text on each machine. Seeds of one batch (`settings.BATCH` of them) share a process and its
settings, so that what one state leaves behind can be seen in the next; known scripts that run after each program show
whether it has left anything.
"""
