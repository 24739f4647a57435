"""Try everything that a GPU is for on this machine's GPU, and write down what came of it.

It takes the Python that runs it, with the packages that are installed there: the tests marked
`cuda`, then `convert`, `verify`, `bench` and every engine on a checkpoint of GLM-4.5V's shape that
it makes. A test file that needs a package which is not there is left out and named. Exits with 1
where a test failed or none ran, with the code of a command that failed, and with 2 where there is
no CUDA device.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.lib.cuda.device import Device, NoDeviceError, describe_device
from scripts.lib.cuda.processes import Done, Runner
from scripts.lib.cuda.report import PACKAGES, Findings, make_document, make_page
from scripts.lib.cuda.run_tests import find_test_files, run_tests
from scripts.lib.results import RESULTS, describe_machine, say, write_results

_TIMEOUT_S = 120  # for each command


def main() -> None:
    """Run everything and write the report."""
    parser = argparse.ArgumentParser(prog="scripts/cuda", description=__doc__)
    parser.add_argument("--results", type=Path, help="where to write", default=RESULTS)
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu rehearses the run: it shows that this script works, and nothing of CUDA",
    )
    parser.add_argument("--depth", help="blocks of the vision tower, for a rehearsal")
    arguments = parser.parse_args()
    try:
        device = describe_device(arguments.device)
    except NoDeviceError as error:
        say(f"error: {error}")
        sys.exit(2)
    results = arguments.results.absolute()
    results.mkdir(parents=True, exist_ok=True)
    (results / "cuda.log").unlink(missing_ok=True)
    findings = try_everything(device, Runner(results / "cuda.log"), results, arguments.depth)
    page = write_results(
        results, "cuda", document=make_document(findings), page=make_page(findings)
    )
    print(page.read_text())
    sys.exit(findings.exit_code)


def try_everything(device: Device, runner: Runner, results: Path, depth: str | None) -> Findings:
    """Run the tests and the commands; one that fails does not stop the next."""
    on, options = device.torch_name, ("--json", "--device", device.torch_name)
    tests = run_tests(find_test_files(), runner, stand_in=on if device.is_rehearsal else None)
    steps: list[Done] = []
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "GLM-4.5V"), Path(folder, "linear")

        def run(name: str, *command: str | Path, timeout_s: float = _TIMEOUT_S) -> Done:
            done = runner.run(name, *command, timeout_s=timeout_s)
            steps.append(done)
            return done

        blocks = (depth,) if depth else ()
        run("make a checkpoint", "scripts.lib.cuda.checkpoint", source, on, *blocks)
        run("convert", "conv2linear", "convert", source, out, *options)
        run("verify", "conv2linear", "verify", out, "--source", source, "--checksums", *options)
        bench = run(
            "bench", "scripts.lib.cuda.measure", source, on, results, timeout_s=2 * _TIMEOUT_S
        )
        engines = runner.run("engines", "conv2linear", "engines", "--json", timeout_s=_TIMEOUT_S)
        for engine in engines.document.get("engines", ()):
            if engine["version"]:
                name = engine["name"]
                run(
                    f"verify --engine {name}",
                    "conv2linear",
                    "verify",
                    out,
                    "--engine",
                    name,
                    *options,
                )
    return Findings(
        machine=describe_machine(PACKAGES),
        device=device,
        tests=tuple(tests),
        steps=tuple(steps),
        engines=tuple(engines.document.get("engines", ())),
        bench=bench.document or {"error": {"message": f"bench ended with {bench.code}"}},
    )


if __name__ == "__main__":
    main()
