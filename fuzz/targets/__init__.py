"""The targets, one file each: TARGET in it is a `fuzz.target.Target`."""
