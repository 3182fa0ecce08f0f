"""
Written by a deployment tool. A helper function, which is no hook, and a hook for each request.
"""

import multiprocessing  # noqa: F401

preload_app = False
timeout = 300
bind = "127.0.0.1"
pythonpath = "/srv/courses/platform"

max_requests = 50
workers = 17


def pre_request(worker, req):
    worker.log.info("%s %s", req.method, req.path)


def close_all_caches():
    from django.core import cache

    for one in cache.caches.all():
        one.close()


def post_fork(server, worker):
    close_all_caches()
