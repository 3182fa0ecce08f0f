# JSON logs for everything, uvicorn's loggers too; the dict leaves out what gunicorn fills in.
import os

bind = ["0.0.0.0:8000"]
workers = os.environ.get("WEB_CONCURRENCY", 2)
worker_class = "uvicorn.workers.UvicornWorker"
forwarded_allow_ips = "*"
accesslog = None
disable_redirect_access_to_syslog = True
capture_output = True
enable_stdio_inheritance = True
graceful_timeout = 25.5

logconfig_dict = {
    "formatters": {"json": {"()": "logging.Formatter", "format": '{"m": "%(message)s"}'}},
    "handlers": {
        "json": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": "ext://sys.stderr",
        },
        "console": {"class": "logging.NullHandler"},
    },
    "loggers": {
        "gunicorn.error": {"handlers": ["json"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["json"], "level": "INFO"},
    },
}
