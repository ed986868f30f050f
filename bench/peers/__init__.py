"""Who is measured: mq9, and each broker that it is compared with, one module for each.

A peer gets its best honest configuration, and says in one sentence what that configuration promises.
"""
