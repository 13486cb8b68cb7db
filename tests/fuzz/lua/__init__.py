"""Random Lua programs against the real states: `python -m tests.fuzz lua [options]`, with --help for these.

grammar.txt says what programs are made of, `library` what the functions of Lua take, and `formats` makes patterns and
the like; `programs` makes a whole program of a seed, and `tree` a smaller one that fails as well. `child` runs
programs in a process that may crash, `served` runs them in a whole server, `campaign` starts such processes, says
what became of each program, and tries a failure again alone.

A seed stands for the same text on each machine. Seeds of one batch (`world.BATCH` of them) share a process and its
settings, so that what one state leaves behind can be seen in the next; known scripts that run after each program show
whether it has left anything.
"""
