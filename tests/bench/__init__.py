"""Benchmark: greenfcgi and other FastCGI servers side by side behind one nginx, pair by pair.

`python -m tests.bench` runs it; README.md beside this file says what is measured and how to read it.

The modules from the bottom up: `errors`, `work` (what is asked for), `spread` (medians), `verdicts` (targets),
`accounting` (what the kernel counted), `client` (one plain FastCGI request), `processes` and `peers` (servers),
`candidates` (this project's), `rivals` (the others, and `floor.c`), `load` (wrk), `nginx`, `nginx_lua` (scripts in
nginx itself), `frontend` (nginx before the servers), `replies` (are they right?), `rounds` (pairs of runs),
`throughput` (clients that wait), `hellos` and `waiters` (what a plain client asks), `memory`, `growth`, `machine`,
`revisions` (git) and `regression` (beside the parent commit), `results`, then `report`, `record` (JSON) and `plot`,
and `parts` (the order of it all).
"""
