# A base image for many services: everything comes from the environment, and is shown at the start.
import json
import multiprocessing
import os

per_core_text = os.getenv("WORKERS_PER_CORE", "1")
concurrency_text = os.getenv("WEB_CONCURRENCY", None)
most_text = os.getenv("MAX_WORKERS")

host = os.getenv("HOST", "0.0.0.0")
port = os.getenv("PORT", "80")
bind_text = os.getenv("BIND", None)
bind_to = bind_text if bind_text else f"{host}:{port}"

cores = multiprocessing.cpu_count()
per_core = float(per_core_text)
if concurrency_text:
    concurrency = int(concurrency_text)
    assert concurrency > 0
else:
    concurrency = max(int(per_core * cores), 2)
    if most_text:
        concurrency = min(concurrency, int(most_text))

timeout_text = os.getenv("TIMEOUT", "120")
graceful_timeout_text = os.getenv("GRACEFUL_TIMEOUT", "120")
keepalive_text = os.getenv("KEEP_ALIVE", "5")
accesslog_text = os.getenv("ACCESS_LOG", "-")
errorlog_text = os.getenv("ERROR_LOG", "-")

loglevel = os.getenv("LOG_LEVEL", "INFO")
workers = concurrency
bind = bind_to
errorlog = errorlog_text or None
accesslog = accesslog_text or None
worker_tmp_dir = "/dev/shm"
worker_class = os.getenv("WORKER_CLASS", "uvicorn.workers.UvicornWorker")
timeout = int(timeout_text)
graceful_timeout = int(graceful_timeout_text)
keepalive = int(keepalive_text)

print(json.dumps({"workers": workers, "bind": bind, "host": host, "port": port, "cores": cores}))
