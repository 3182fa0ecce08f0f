# The file that many began with: each setting is there, most with the value it has anyway.
bind = "127.0.0.1:8000"
backlog = 2048

workers = 1
worker_class = "sync"
worker_connections = 1000
threads = 1
timeout = 30
keepalive = 2

spew = False

daemon = False
raw_env = [
    "SECRET_KEY=not,a=secret",
    "COLOUR=blue",
]
pidfile = None
umask = 0
user = None
group = None
tmp_upload_dir = None

errorlog = "-"
loglevel = "info"
accesslog = "-"
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

proc_name = None


def pre_fork(server, worker):
    pass


def post_fork(server, worker):
    server.log.info("born: %s", worker.pid)


def pre_exec(server):
    server.log.info("executing anew")


def when_ready(server):
    server.log.info("ready")


def worker_int(worker):
    import sys
    import threading

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        worker.log.debug("%s %s", names.get(ident), frame)


def worker_abort(worker):
    worker.log.info("aborted")
