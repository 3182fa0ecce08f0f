"""New Relic: transactions from every worker, from its first request to its last.

    NEW_RELIC_CONFIG_FILE=newrelic.ini \
        forkserve -c demo_app/deploy/telemetry/newrelic.conf.py -w 4 demo_app:app

This file is executed before the app is imported, as the agent needs it, and never in the master.
Not `newrelic-admin run-program forkserve`: that sets the agent up in the master.
"""

import newrelic.agent

# Prepares for what the app will import. It starts no thread and opens nothing.
newrelic.agent.initialize()


def post_fork(server, worker):
    # After the fork: this starts threads. Without it, requests before the agent has
    # registered by itself are not seen. If New Relic cannot be reached, a worker starts
    # so many seconds later.
    newrelic.agent.register_application(timeout=3)


def worker_exit(server, worker):
    # The last harvest. A worker runs no atexit functions.
    newrelic.agent.shutdown_agent(timeout=5)
