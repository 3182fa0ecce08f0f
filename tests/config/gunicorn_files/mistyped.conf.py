# Settings that nobody misses until the day they are needed.
bind = ["0.0.0.0:8000", "[::1]"]
worker = 4
max_request = 1000
grace_timeout = 60
log_level = "debug"
loglevel = "warn"
worker_class = "asgi"


def on_start(server):
    server.log.info("here we go")


def helper(server):
    pass
