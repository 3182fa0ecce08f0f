"""``python -m forkserve``."""

from forkserve.cli import main

main(prog_name="python -m forkserve")
