# Every variable with a prefix becomes a setting, as text.
import os

for variable, text in os.environ.items():
    if variable.startswith("GUNICORN_"):
        locals()[variable.removeprefix("GUNICORN_").lower()] = text

worker_class = "uvicorn_worker.UvicornH11Worker"
