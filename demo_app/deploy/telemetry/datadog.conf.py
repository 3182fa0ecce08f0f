"""Datadog: traces from every worker, however it ends.

    forkserve -c demo_app/deploy/telemetry/datadog.conf.py -w 4 demo_app:app

The app imports nothing of ddtrace. Settings are ddtrace's own, from the environment: DD_SERVICE,
DD_ENV, DD_TRACE_AGENT_URL. Not `ddtrace-run forkserve`: that starts its threads in the master.
"""

# ddtrace has threads from its import on, and what it is to instrument must not be imported before.
# So each worker imports the app by itself, and ddtrace first.
preload = False


def post_fork(server, worker):
    import ddtrace.auto  # noqa: F401


def worker_exit(server, worker):
    # What has not been sent yet. A worker runs no atexit functions.
    from ddtrace import tracer

    tracer.shutdown()
