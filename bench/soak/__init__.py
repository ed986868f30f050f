"""An hour of everything at once, after which a broker must be as it was: `python -m bench.soak`, `make soak`.

`traffic.py` is what goes on, `watching.py` what is looked at meanwhile, `verdict.py` whether that stayed flat, `drawing.py` the plot.
"""
