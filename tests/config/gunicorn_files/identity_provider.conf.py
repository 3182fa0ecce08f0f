# A Django app as ASGI: its own worker class, a socket in the temporary directory, numbered workers.
import os
from os import makedirs
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

_tmp = Path(gettempdir())
worker_class = "identity.worker.LifespanOffWorker"
worker_tmp_dir = str(_tmp.joinpath("identity_workers"))
metrics_dir = str(_tmp.joinpath("identity_metrics"))

makedirs(metrics_dir, exist_ok=True)

bind = f"unix://{_tmp.joinpath('identity.sock')}"

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "identity.settings")
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", metrics_dir)

preload_app = True
max_requests = 1000
max_requests_jitter = 50
default_workers = 2
workers = int(os.environ.get("IDENTITY_WORKERS", default_workers))
threads = 4


def on_starting(server: "Arbiter"):
    server._numbers = set()


def nworkers_changed(server: "Arbiter", new_value, old_value):
    server._workers_now = new_value


def _next_number(server: "Arbiter"):
    return server._numbers.pop()


def on_reload(server: "Arbiter"):
    server._numbers = set(range(1, server.cfg.workers + 1))


def pre_fork(server: "Arbiter", worker):
    worker._number = _next_number(server)


def post_worker_init(worker):
    if worker._number == 1:
        worker.app.callable.begin()


def worker_exit(server: "Arbiter", worker):
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker._number)
