"""OpenTelemetry: spans from every worker, however it was made and however it ends.

    forkserve -c demo_app/deploy/telemetry/opentelemetry.conf.py -w 4 demo_app:app

The app itself stays as OpenTelemetry describes it: it asks for tracers, and is instrumented
(`FastAPIInstrumentor.instrument_app(app)`), as it is imported. Both find the provider once it is
there. With OTEL_EXPORTER_OTLP_ENDPOINT spans go to that collector, by the package
opentelemetry-exporter-otlp-proto-http; without it they are printed.
"""

import os

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


def exporter():
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")


def post_fork(server, worker):
    # After the fork: the processor has a thread, and the exporter a connection.
    own = {
        "process.pid": worker.pid,
        "forkserve.worker": worker.age,
        "forkserve.generation": worker.generation,
    }
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)


def worker_exit(server, worker):
    # The spans of the last seconds. A worker runs no atexit functions.
    trace.get_tracer_provider().shutdown()
