"""The scenarios: each disturbs runs at random moments and returns the tally of what came of it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from chaos_runs.checkpoints import contents, save_checkpoint
from chaos_runs.fork_server import Finished, Running
from chaos_runs.laboratory import Job, Laboratory, Tally
from chaos_runs.small_disk import NoDiskError, SmallDisk, mounted_disk


def kill(laboratory: Laboratory, runs: int, *, plant: str | None = None) -> Tally:
    """Send SIGKILL at moments that are spread over the whole of each job."""
    tally = Tally("kill -9")
    jobs = laboratory.jobs
    rounds = -(-runs // len(jobs))
    for number in range(runs):
        job = jobs[number % len(jobs)]
        share = (number // len(jobs) + laboratory.random.random()) / rounds
        with laboratory.place(job) as place:
            running = place.start(plant=plant)
            time.sleep(laboratory.moment(job, share=share))
            running.signal(signal.SIGKILL)
            outcome = place.judge(running.wait(), codes=(0, -signal.SIGKILL))
            place.judge_rerun()
            tally.add(f"{job.name}: {outcome}", place.violations, of=job.name)
    return tally


def interrupt(laboratory: Laboratory, runs: int) -> Tally:
    """Send SIGTERM or SIGINT, as `kill` and Ctrl-C do."""
    tally = Tally("SIGTERM and Ctrl-C")
    for number in range(runs):
        job = laboratory.random.choice(laboratory.jobs)
        chosen = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with laboratory.place(job) as place:
            running = place.start(tidy=True)
            time.sleep(laboratory.moment(job) * 1.5)
            running.signal(chosen)
            # Minus its number where Python has no handler, before the command and at the very end.
            codes = (0, 128 + chosen, -chosen)
            outcome = place.judge(running.wait(), codes=codes)
            place.judge_rerun()
            tally.add(
                f"{chosen.name}: {outcome}", place.violations, of=f"{chosen.name}, {job.name}"
            )
    return tally


def fill_disk(laboratory: Laboratory, runs: int) -> Tally:
    """Let another process take all that is free on the disk of OUT; then give it back."""

    def disturb(disk: SmallDisk, running: Running, moment: float) -> Finished:
        time.sleep(moment)
        disk.fill()
        finished = running.wait()
        disk.free()
        return finished

    return _on_small_disk(laboratory, runs, "the disk fills up", disturb)


def lock_disk(laboratory: Laboratory, runs: int) -> Tally:
    """Make the disk of OUT read-only in the middle of a run, or before it begins."""

    def disturb(disk: SmallDisk, running: Running, moment: float) -> Finished:
        time.sleep(moment)
        while not disk.lock() and not running.is_over():
            time.sleep(0.001)
        finished = running.wait()
        disk.unlock()
        return finished

    return _on_small_disk(laboratory, runs, "the disk turns read-only", disturb)


def _on_small_disk(
    laboratory: Laboratory,
    runs: int,
    scenario: str,
    disturb: Callable[[SmallDisk, Running, float], Finished],
) -> Tally:
    tally = Tally(scenario)
    jobs = [job for job in laboratory.jobs if "--hardlink" not in job.options]
    size = 4 * sum(path.stat().st_size for path in laboratory.source.iterdir())
    try:
        with mounted_disk(laboratory.folder / "small disk", size_bytes=size) as disk:
            for _ in range(runs):
                job = laboratory.random.choice(jobs)
                with laboratory.place(job, on=disk.folder) as place:
                    finished = disturb(disk, place.start(), laboratory.moment(job))
                    outcome = place.judge(finished, codes=(0, 2))
                    place.judge_rerun()
                    tally.add(f"exit {finished.code}: {outcome}", place.violations, of=job.name)
    except NoDiskError as reason:
        tally.skipped = str(reason)
    return tally


def change_source(laboratory: Laboratory, runs: int) -> Tally:
    """Change one file of the source: an output is made of the files before or after, or not made.

    What is made of the source after the change is found by converting that without disturbance.
    """
    tally = Tally("the source changes")
    for _ in range(runs):
        template = laboratory.random.choice(laboratory.local_jobs)
        name, change = laboratory.random.choice(list(_CHANGES.items()))
        if "--hardlink" in template.options and name not in _LEAVE_THE_INODE:
            continue  # OUT is the same file then, and changes too
        assert template.source
        source = Path(shutil.copytree(template.source, laboratory.folder / "changing"))
        job = Job("", (template.command[0], str(source)), source, template.options)
        with laboratory.place(job) as place:
            running = place.start()
            time.sleep(laboratory.moment(template))
            file = laboratory.random.choice(sorted(p for p in source.rglob("*") if p.is_file()))
            change(file, laboratory.random.random())
            finished = running.wait()
            found = contents(place.out)
            place.judge_words(finished, codes=(0, 1, 2))
            outcome = f"exit {finished.code}"
            if finished.code:
                if found != place.old:
                    place.violations.append("something was saved of a source that had changed")
            elif found != template.expected and found != _made_of(laboratory, job):
                place.violations.append(
                    f"OUT is made neither of the source before nor after: {file.name} {name}"
                )
            tally.add(outcome, place.violations, of=f"{file.name} {name}, {template.name}")
        shutil.rmtree(source)
    return tally


def _made_of(laboratory: Laboratory, job: Job) -> dict[str, str] | None:
    with laboratory.place(job, on=laboratory.aside) as place:
        if place.start().wait().code:
            return None
        return contents(place.out)


def _truncate(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def _write_within(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share))
        file.write(os.urandom(64))


def _append(path: Path, share: float) -> None:
    with path.open("ab") as file:
        file.write(bytes(1 + int(share * 1000)))


def _replace(path: Path, share: float) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes()[:-1] + b" ")
    new.replace(path)


def _remove(path: Path, share: float) -> None:
    path.unlink()


_CHANGES: dict[str, Callable[[Path, float], None]] = {
    "shrinks": _truncate,
    "is written to": _write_within,
    "grows": _append,
    "is replaced": _replace,
    "is removed": _remove,
}
_LEAVE_THE_INODE = ("is replaced", "is removed")


def run_twice(laboratory: Laboratory, runs: int) -> Tally:
    """Start two runs of different sources for one OUT, a random time apart.

    At least one succeeds, and without --force only one: the other is told so.
    """
    tally = Tally("two runs at once")
    other = save_checkpoint(laboratory.folder / "other source", seed=1)
    first_jobs = [job for job in laboratory.local_jobs if job.command[0] == "convert"]
    second_jobs = [
        laboratory.measured(Job(job.name, ("convert", str(other)), other, job.options))
        for job in first_jobs
    ]
    pairs = list(zip(first_jobs, second_jobs, strict=True))
    for _ in range(runs):
        job, second_job = laboratory.random.choice(pairs)
        with laboratory.place(job) as place:
            running = place.start()
            time.sleep(laboratory.moment(job))
            second = laboratory.server.start(*second_job.arguments(place.out)).wait()
            first = running.wait()
            found = contents(place.out)
            for finished in (first, second):
                place.judge_words(finished, codes=(0, 2))
            done = [first.code, second.code].count(0)
            if done == 0 or (done == 2 and not job.is_forced):
                place.violations.append(f"{done} of two runs succeeded")
            if found not in (job.expected, second_job.expected):
                place.violations.append("OUT is what neither run makes")
            if [p for p in place.folder.iterdir() if p != place.out]:
                place.violations.append("something is left beside OUT")
            tally.add(f"{done} succeeded", place.violations, of=job.name)
    return tally


def stop_hub(laboratory: Laboratory, runs: int) -> Tally:
    """End the Hub and all its connections; it comes back at once, or only after the run."""
    tally = Tally("the Hub dies and comes back")
    hub = laboratory.hub
    if hub is None:
        tally.skipped = "there is no Hub server"
        return tally
    for number in range(runs):
        job = laboratory.random.choice(laboratory.hub_jobs)
        comes_back = number % 3 != 0
        with laboratory.place(job) as place:
            running = place.start()
            time.sleep(laboratory.moment(job))
            hub.die()
            if comes_back:
                time.sleep(2 * laboratory.random.random())
            else:
                finished = running.wait()
            hub.come_back()
            finished = running.wait()
            outcome = place.judge(finished, codes=(0, 2))
            place.judge_rerun()
            how = "back soon" if comes_back else "away"
            tally.add(f"{how}, exit {finished.code}: {outcome}", place.violations, of=job.name)
    return tally


SCENARIOS: tuple[tuple[Callable[[Laboratory, int], Tally], float], ...] = (
    (kill, 1.0),  # and what share of the runs asked for it gets
    (interrupt, 0.3),
    (fill_disk, 0.15),
    (lock_disk, 0.15),
    (change_source, 0.3),
    (run_twice, 0.15),
    (stop_hub, 0.06),
)
