"""The protocol under a fuzzer: `python -m tests.fuzz COUNTS [options of libFuzzer] [folder of seeds]`.

`inputs` makes streams of any bytes, `rules` says in the plainest form what a connection has to make of them,
`responder` answers its requests and checks all that it puts out, `target` puts these together, and `__main__` gives
the target to atheris, which mutates inputs towards code that no input has reached yet.
"""
