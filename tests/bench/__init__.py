"""Benchmark: greenfcgi and php-fpm side by side behind one nginx, pair by pair.

`python -m tests.bench` runs it; README.md beside this file says what is measured and how to read it.

The modules from the bottom up: `errors`, `work` (what is asked for), `spread` (medians), `accounting` (what
the kernel counted), `client` (one plain FastCGI request), `processes` and `peers` (the servers),
`frontend` (nginx), `load` (wrk), `replies` (are they right?), `rounds` (pairs of runs), `memory`, `machine`,
then `report` and `plot`.
"""
