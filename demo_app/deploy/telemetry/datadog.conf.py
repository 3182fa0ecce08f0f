"""Datadog: traces from every worker, and a template that can be shared.

    forkserve -c demo_app/deploy/telemetry/datadog.conf.py -w 4 demo_app:app

The app imports nothing of ddtrace. Settings are ddtrace's own, from the environment: DD_SERVICE,
DD_ENV, DD_TRACE_AGENT_URL. Not `ddtrace-run forkserve`: that starts its threads in the master.
"""


def post_fork(server, worker):
    # After the fork, in the worker: this starts threads, and patches what the app has imported.
    import ddtrace.auto  # noqa: F401


def worker_exit(server, worker):
    # What has not been sent yet. A worker runs no atexit functions.
    from ddtrace import tracer

    tracer.shutdown()
