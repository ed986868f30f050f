"""The asyncio edge: listeners, sessions, the committer, HTTP.

The only room that knows sockets, clocks, files and uvloop.
"""
