"""Measure mq9 beside its peers, on this machine, with one load generator.

`python -m bench [P1 P3 ...]` from the repository's root. `load/` is the generator (C), `peers/` has one module for each
broker that is measured, `figures/` one for each piece of work. README.md in this directory says what the figures mean.
"""
