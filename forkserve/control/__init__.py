"""The control socket, as its clients see it: the protocol, where it is, and the commands.

The server's side is in the master's loop: :mod:`forkserve.master.control`.
"""

COMMANDS = ("status", "reload", "scale", "recycle", "stop", "dump", "logs-reopen", "list")
"""Of ``forkserve``: see :mod:`.commands`."""
