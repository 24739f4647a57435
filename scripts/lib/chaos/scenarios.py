"""The scenarios: each disturbs runs at random moments and returns the tally of what came of it."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from scripts.lib.chaos.checkpoints import save_source
from scripts.lib.chaos.harness import Harness, Tally
from scripts.lib.chaos.small_disk import NoDiskError, SmallDisk, mounted_disk
from scripts.lib.chaos.source_changes import CHANGES, CHANGES_OF_THE_NAME
from scripts.lib.chaos.workspace import Contents, Job, Workspace
from tests.support.contents import hashes
from tests.support.fork_server import Finished, Running
from tests.support.hub.read_server import HubServer


def kill(harness: Harness, runs: int) -> Tally:
    """Send SIGKILL at moments that are spread over the duration of each job."""
    tally = Tally("kill -9")
    jobs = harness.jobs
    rounds = -(-runs // len(jobs))
    for number in range(runs):
        job = jobs[number % len(jobs)]
        share = (number // len(jobs) + harness.random.random()) / rounds
        with harness.workspace(job) as workspace:
            running = workspace.start()
            time.sleep(harness.moment(job, share=share))
            running.signal(signal.SIGKILL)
            outcome = workspace.judge(running.wait(), codes=(0, -signal.SIGKILL))
            workspace.judge_rerun()
            tally.add(f"{job.name}: {outcome}", workspace.violations, of=job.name)
    return tally


def interrupt(harness: Harness, runs: int) -> Tally:
    """Send SIGTERM or SIGINT, as `kill` and Ctrl-C do."""
    tally = Tally("SIGTERM and Ctrl-C")
    for number in range(runs):
        job = harness.random.choice(harness.jobs)
        chosen = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with harness.workspace(job) as workspace:
            running = workspace.start(cleans_up=True)
            time.sleep(harness.moment(job) * 1.5)
            running.signal(chosen)
            # Minus its number where Python has no handler, before the command and at the very end.
            outcome = workspace.judge(running.wait(), codes=(0, 128 + chosen, -chosen))
            workspace.judge_rerun()
            name = f"{chosen.name}, {job.name}"
            tally.add(f"{chosen.name}: {outcome}", workspace.violations, of=name)
    return tally


def fill_disk(harness: Harness, runs: int) -> Tally:
    """Let another process take all that is free on the disk of OUT; then give it back."""

    def disturb(disk: SmallDisk, running: Running, moment: float) -> Finished:
        time.sleep(moment)
        disk.fill()
        finished = running.wait()
        disk.free()
        return finished

    return _on_small_disk(harness, runs, "the disk fills up", disturb)


def lock_disk(harness: Harness, runs: int) -> Tally:
    """Make the disk of OUT read-only in the middle of a run, or before it begins."""

    def disturb(disk: SmallDisk, running: Running, moment: float) -> Finished:
        time.sleep(moment)
        while not disk.lock() and not running.is_over():
            time.sleep(0.001)
        finished = running.wait()
        disk.unlock()
        return finished

    return _on_small_disk(harness, runs, "the disk turns read-only", disturb)


def _on_small_disk(
    harness: Harness,
    runs: int,
    scenario: str,
    disturb: Callable[[SmallDisk, Running, float], Finished],
) -> Tally:
    tally = Tally(scenario)
    jobs = [job for job in harness.jobs if "--hardlink" not in job.options]
    size = 4 * sum(path.stat().st_size for path in harness.source.iterdir())
    try:
        with mounted_disk(harness.folder / "small disk", size_bytes=size) as disk:
            for _ in range(runs):
                job = harness.random.choice(jobs)
                with harness.workspace(job, on=disk.folder) as workspace:
                    finished = disturb(disk, workspace.start(), harness.moment(job))
                    outcome = workspace.judge(finished, codes=(0, 2))
                    workspace.judge_rerun()
                    outcome = f"exit {finished.code}: {outcome}"
                    tally.add(outcome, workspace.violations, of=job.name)
    except NoDiskError as reason:
        tally.skipped = str(reason)
    return tally


def change_source(harness: Harness, runs: int) -> Tally:
    """Change one file of the source: an output is made of the files before or after, or not made.

    What is made of the source after the change is found by converting that without disturbance.
    """
    tally = Tally("the source changes")
    for _ in range(runs):
        undisturbed = harness.random.choice(harness.local_jobs)
        name = harness.random.choice(list(CHANGES))
        if "--hardlink" in undisturbed.options and name not in CHANGES_OF_THE_NAME:
            continue  # OUT is the same file then, and changes too
        assert undisturbed.source
        source = Path(shutil.copytree(undisturbed.source, harness.folder / "changing"))
        job = dataclasses.replace(
            undisturbed, command=(undisturbed.command[0], str(source)), source=source
        )
        with harness.workspace(job) as workspace:
            running = workspace.start()
            time.sleep(harness.moment(undisturbed))
            file = harness.random.choice(sorted(p for p in source.rglob("*") if p.is_file()))
            CHANGES[name](file, harness.random.random())
            finished = running.wait()
            _judge_changed(harness, workspace, finished, change=f"{file.name} {name}")
            of = f"{file.name} {name}, {job.name}"
            tally.add(f"exit {finished.code}", workspace.violations, of=of)
        shutil.rmtree(source)
    return tally


def _judge_changed(
    harness: Harness, workspace: Workspace, finished: Finished, *, change: str
) -> None:
    workspace.judge_ending(finished, codes=(0, 1, 2))
    found = hashes(workspace.out)
    if finished.code:
        if found != workspace.old:
            workspace.violations.append("something was saved of a source that had changed")
    elif found != workspace.job.expected and found != _convert_again(harness, workspace.job):
        workspace.violations.append(f"OUT is made neither of the source before nor after: {change}")


def _convert_again(harness: Harness, job: Job) -> Contents | None:
    with harness.workspace(job, on=harness.aside) as workspace:
        if workspace.start().wait().code:
            return None
        return hashes(workspace.out)


def run_twice(harness: Harness, runs: int) -> Tally:
    """Start two runs of different sources for one OUT, a random time apart.

    At least one succeeds, and without --force only one: the other is told so.
    """
    tally = Tally("two runs at once")
    other = save_source(harness.folder / "other source", seed=1)
    first_jobs = [job for job in harness.local_jobs if job.command[0] == "convert"]
    second_jobs = [
        harness.measured(Job(job.name, ("convert", str(other)), other, job.options))
        for job in first_jobs
    ]
    pairs = list(zip(first_jobs, second_jobs, strict=True))
    for _ in range(runs):
        job, second_job = harness.random.choice(pairs)
        with harness.workspace(job) as workspace:
            running = workspace.start()
            time.sleep(harness.moment(job))
            second = harness.server.start(*second_job.arguments(workspace.out)).wait()
            done = _judge_both(workspace, second_job, (running.wait(), second))
            tally.add(f"{done} succeeded", workspace.violations, of=job.name)
    return tally


def _judge_both(workspace: Workspace, second_job: Job, both: tuple[Finished, Finished]) -> int:
    """Check what two runs left behind; returns how many of them succeeded."""
    for finished in both:
        workspace.judge_ending(finished, codes=(0, 2))
    done = [finished.code for finished in both].count(0)
    if done == 0 or (done == 2 and not workspace.job.is_forced):
        workspace.violations.append(f"{done} of two runs succeeded")
    if hashes(workspace.out) not in (workspace.job.expected, second_job.expected):
        workspace.violations.append("OUT is what neither run makes")
    if [path for path in workspace.folder.iterdir() if path != workspace.out]:
        workspace.violations.append("something is left beside OUT")
    return done


def stop_hub(harness: Harness, runs: int) -> Tally:
    """End the Hub and all its connections; it comes back at once, or only after the run."""
    tally = Tally("the Hub dies and comes back")
    if harness.hub is None:
        tally.skipped = "there is no Hub server"
        return tally
    for number in range(runs):
        job = harness.random.choice(harness.hub_jobs)
        pause_s = 2 * harness.random.random() if number % 3 else None
        with harness.workspace(job) as workspace:
            running = workspace.start()
            time.sleep(harness.moment(job))
            finished = _wait_without_hub(harness.hub, running, pause_s=pause_s)
            outcome = workspace.judge(finished, codes=(0, 2))
            workspace.judge_rerun()
            how = "away" if pause_s is None else "back soon"
            outcome = f"{how}, exit {finished.code}: {outcome}"
            tally.add(outcome, workspace.violations, of=job.name)
    return tally


def _wait_without_hub(hub: HubServer, running: Running, *, pause_s: float | None) -> Finished:
    """Stop the Hub for a while, or until the run has ended where `pause_s` is None."""
    hub.go_down()
    if pause_s is None:
        running.wait()
    else:
        time.sleep(pause_s)
    hub.come_back()
    return running.wait()
