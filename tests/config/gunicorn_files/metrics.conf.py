# Prometheus with several processes: old files go at the start, a worker's when it has ended.
import faulthandler
import os
import sys
import time

from gunicorn_metrics import when_ready  # noqa: F401 - the hook of another module

started = time.time()
bind = os.getenv("BIND", "0.0.0.0:8080").split(",")
worker_class = "uvicorn_worker.UvicornWorker"
accesslog = None
max_requests = int(os.getenv("MAX_REQUESTS", "0"))
max_requests_jitter = 10
control_socket_disable = True
logger_class = "metrics.logs.QuietLogger"
on_exit = "gunicorn_metrics.tidy"


def on_starting(server):
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for name in os.listdir(folder) if folder else ():
        os.remove(os.path.join(folder, name))


def worker_abort(worker):
    sys.stderr.write(f"stuck after {time.time() - started:.0f} s\n")
    faulthandler.dump_traceback(all_threads=True)


def child_exit(server, worker):
    try:
        from prometheus_client import multiprocess
    except ImportError:
        return
    multiprocess.mark_process_dead(worker.pid)
