#!/usr/bin/env python3
# A greeting in the hook, and a socket whose path has a slash less than it should.
loglevel = "error"
bind = "unix://tmp/analytics.socket"
worker_class = "gevent"
timeout = 90


def on_starting(server):
    print("\x1b[1;34mAnalytics\x1b[0m on http://{}:{}".format(*server.address[0]))


def when_ready(server):
    open("/tmp/app-initialized", "w").close()
