"""Scenarios on systems that cannot do all that Linux can do on a disk of its own."""

from __future__ import annotations

import signal
import time

from scripts.lib.chaos.harness import Harness, Tally
from scripts.lib.chaos.plants import PAUSE_S, lack_exchange, lack_exchange_and_fail
from scripts.lib.chaos.plants import lack_what_network_disks_lack as lack_much
from scripts.lib.chaos.workspace import Workspace
from tests.support.contents import hashes
from tests.support.fork_server import Running


def kill_while_exchanging(harness: Harness, runs: int) -> Tally:
    """Kill a run that replaces OUT by two renames; then let a check fail in the next one.

    Between the two renames no folder is at OUT; the old one must come back.
    """
    tally = Tally("kill -9 where folders cannot be exchanged")
    jobs = [job for job in harness.jobs if job.is_forced and job.command[0] == "convert"]
    for number in range(runs):
        job = jobs[number % len(jobs)]
        with harness.workspace(job) as workspace:
            running = workspace.start(plant=lack_exchange)
            if number % 3:
                _wait_for_gap(workspace, running)
                time.sleep(harness.random.random() * PAUSE_S)
            else:
                time.sleep(harness.moment(job))
            running.signal(signal.SIGKILL)
            codes = (0, -signal.SIGKILL)
            outcome = workspace.judge(running.wait(), codes=codes, may_lie_aside=True)
            _judge_failure(workspace)
            workspace.judge_rerun(plant=lack_exchange)
            tally.add(outcome, workspace.violations, of=job.name)
    return tally


def _wait_for_gap(workspace: Workspace, running: Running) -> None:
    """Wait until the old OUT has gone aside, or the run is over."""
    while workspace.out.exists() and not running.is_over():
        time.sleep(0.001)


def _judge_failure(workspace: Workspace) -> None:
    """Run the job with a check that fails: what was complete at OUT is there again."""
    before = hashes(workspace.out) or workspace.old
    workspace.judge(workspace.start(plant=lack_exchange_and_fail).wait(), codes=(1,))
    if hashes(workspace.out) != before:
        workspace.violations.append("a failed check has changed OUT")
    if workspace.staging.exists():
        workspace.violations.append("a failed check has left staged files")


def kill_on_poor_disk(harness: Harness, runs: int) -> Tally:
    """Kill runs on a file system without locks, shared blocks and fsync of folders."""
    tally = Tally("kill -9 on a disk without flock")
    for _ in range(runs):
        job = harness.random.choice(harness.jobs)
        with harness.workspace(job) as workspace:
            running = workspace.start(plant=lack_much)
            time.sleep(harness.moment(job))
            second = workspace.start(plant=lack_much, force=True)
            running.signal(signal.SIGKILL)
            codes = (0, -signal.SIGKILL)
            workspace.judge_ending(running.wait(), codes=codes)
            outcome = workspace.judge(second.wait(), codes=(0, 2))
            workspace.judge_rerun(plant=lack_much)
            tally.add(outcome, workspace.violations, of=job.name)
    return tally
