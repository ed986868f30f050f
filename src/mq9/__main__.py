"""`python -m mq9` is `mq9`."""

from mq9.cli import main

main()
