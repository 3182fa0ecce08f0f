"""The alert rules, judged by Prometheus' own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[2] / "demo_app/deploy/prometheus/forkserve.rules.yml"

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (prometheus)")

WELL = {
    "up": "1x40",
    "forkserve_workers_ready": "4x40",
    "forkserve_workers_wanted": "4x40",
    'forkserve_reloads_total{result="failed"}': "0x40",
    'forkserve_worker_restarts_total{cause="crashed"}': "0x40",
    # A deploy each minute is no reason to wake anybody.
    'forkserve_worker_restarts_total{cause="reloaded"}': "0+4x40",
    'forkserve_accept_queue_length{bind="b"}': "3x40",
    'forkserve_accept_queue_limit{bind="b"}': "100x40",
    'forkserve_event_loop_highest_lag_seconds{slot="0"}': "0.01x40",
    'forkserve_request_duration_seconds_bucket{le="1"}': "0+100x40",
    'forkserve_request_duration_seconds_bucket{le="5"}': "0+100x40",
    'forkserve_request_duration_seconds_bucket{le="+Inf"}': "0+100x40",
}
"""How each series goes on from minute to minute, in promtool's notation."""

ILL = {
    "ForkserveIsDown": {"up": "0x40"},
    "ForkserveHasNoWorkers": {"forkserve_workers_ready": "0x40"},
    "ForkserveLacksWorkers": {"forkserve_workers_ready": "3x40"},
    "ForkserveReloadFailed": {'forkserve_reloads_total{result="failed"}': "0x20 1x20"},
    "ForkserveWorkersDie": {'forkserve_worker_restarts_total{cause="crashed"}': "0x20 5x20"},
    "ForkserveConnectionsWait": {'forkserve_accept_queue_length{bind="b"}': "20x40"},
    "ForkserveQueueIsNearlyFull": {'forkserve_accept_queue_length{bind="b"}': "90x40"},
    "ForkserveLoopIsHeld": {'forkserve_event_loop_highest_lag_seconds{slot="0"}': "3x40"},
    "ForkserveIsSlow": {'forkserve_request_duration_seconds_bucket{le="1"}': "0+50x40"},
}
"""By the alert that is to fire, how that differs."""

AS_WELL = {
    "ForkserveHasNoWorkers": ["ForkserveLacksWorkers"],
    "ForkserveQueueIsNearlyFull": ["ForkserveConnectionsWait"],
}
"""What fires besides, since it is true then, too."""


def _case(instance: str, differing: dict[str, str], firing: list[str]) -> dict[str, Any]:
    labels = f'job="forkserve", instance="{instance}"'
    series = {
        f"{name.rstrip('}')}{', ' if '{' in name else '{'}{labels}}}": values
        for name, values in (WELL | differing).items()
    }
    return {
        "interval": "1m",
        "input_series": [{"series": s, "values": f"{v}"} for s, v in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "30m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)
                ],
            }
        ],
    }


def test_each_alert_fires_when_it_should_and_at_no_other_time(tmp_path: Path) -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == list(ILL)
    cases = [_case("well", {}, [])]
    cases += [_case(name, how, [name, *AS_WELL.get(name, [])]) for name, how in ILL.items()]
    tests = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    command = ["promtool", "test", "rules", str(tmp_path / "tests.yml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
