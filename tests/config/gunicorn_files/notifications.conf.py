# Defaults of the house are put into the file's own names by a function.
import os


def house_defaults(into):
    into["workers"] = 8
    into["errorlog"] = "/home/app/logs/gunicorn_error.log"
    into["bind"] = "0.0.0.0:{}".format(os.getenv("PORT"))
    into["disable_redirect_access_to_syslog"] = True

    def worker_abort(worker):
        worker.log.info("worker received ABORT %s", worker.pid)

    into["worker_abort"] = worker_abort


house_defaults(globals())


def child_exit(server, worker):
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


workers = 4
worker_class = "gevent"
worker_connections = 8
statsd_host = "{}:8125".format(os.getenv("STATSD_HOST"))
keepalive = 0
timeout = int(os.getenv("HTTP_SERVE_TIMEOUT_SECONDS", 30))
