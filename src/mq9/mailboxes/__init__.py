"""The domain: mailboxes, the messages in them, who is given which, and when things end.

No I/O; time comes in as `now`, in Unix milliseconds.
"""
