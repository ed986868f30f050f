"""What one message costs in each compiled module on its path: `python -m bench.micro`, `make bench-micro`.

`probes.pyx` calls what only other compiled modules can call, `stages.py` whole stretches of the path through what Python can call;
`benchmarks.py` lists both with the modules that they measure. `counting.py` counts the instructions under callgrind and compares them
with `recorded.json`.
"""
