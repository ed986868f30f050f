"""C buffers, numbers in bytes and the map from bytes to objects: what every compiled module stands on.

Imports nothing of mq9.
"""
