"""What metrics.conf.py imports."""


def when_ready(server):
    pass
