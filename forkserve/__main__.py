"""``python -m forkserve``."""

from forkserve.cli import main

main()
