# Changes sys.path, takes the number of workers and the log's configuration from functions.
import logging
import os
import sys

sys.path.append(os.path.join(os.path.dirname(__file__), "../"))


def log_path(debug):
    return "conf/logging_debug.conf" if debug else "conf/logging.conf"


def worker_count(kind, per_core, minimum=None, maximum=None):
    return min(max(per_core * 3, minimum), maximum)


logconfig = log_path(debug=False)

bind = "unix:/tmp/registry_web.sock"
workers = worker_count("web", 2, minimum=2, maximum=32)
worker_class = "gthread"
pythonpath = "."
preload_app = True


def post_fork(server, worker):
    os.urandom(1)


def when_ready(server):
    logger = logging.getLogger(__name__)
    logger.debug("%s workers of the class %s", workers, worker_class)
