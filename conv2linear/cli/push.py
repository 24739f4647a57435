"""`conv2linear push`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conv2linear.cli.format import format_bytes, format_command
from conv2linear.cli.help import SOURCE_AND_HUB
from conv2linear.cli.options import Debug, DryRun, Json, Quiet
from conv2linear.cli.output import Output, key_value_table

if TYPE_CHECKING:
    from conv2linear.operations.push import PushResult
    from conv2linear.plan.push import PushPlan
    from conv2linear.plan.transfer import Operation

EXAMPLES = """
conv2linear push ./out my-org/GLM-4.5V-linear --dry-run
conv2linear push ./out my-org/GLM-4.5V --revision linear --create-pr
"""


def push_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="The folder that `convert` has made.")
    ],
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Where to publish it: org/name on the Hub.")
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision",
            metavar="BRANCH",
            help="Push to this branch, which is made if need be; main if not given.",
            rich_help_panel=SOURCE_AND_HUB,
            show_default=False,
        ),
    ] = None,
    create_pr: Annotated[
        bool,
        typer.Option(
            "--create-pr",
            help="Propose the commit by a pull request.",
            rich_help_panel=SOURCE_AND_HUB,
        ),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Make a new repository private.",
            rich_help_panel=SOURCE_AND_HUB,
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Verify CHECKPOINT and publish it on the Hub; what the source has is copied there."""
    output = Output("push", json=json, quiet=quiet, debug=debug)
    warnings.filterwarnings("ignore", module="huggingface_hub")  # this process is our own
    with output.running(rerun="what the Hub has received by now is not sent again") as progress:
        from conv2linear.hub.client import quiet_client  # loads huggingface_hub
        from conv2linear.operations.push import plan_push, push

        quiet_client()
        options: dict[str, Any] = {
            "revision": revision,
            "create_pr": create_pr,
            "private": private,
            "progress": progress,
        }
        if dry_run:
            plan = plan_push(checkpoint, repo_id, **options)
        else:
            result = push(checkpoint, repo_id, **options)
    if dry_run:
        output.result({"dry_run": True, **plan.to_dict()}, key_value_table(*_plan_rows(plan)))
    else:
        output.result(
            {"dry_run": False, **result.to_dict()},
            key_value_table(*_rows(result)),
            is_timed=True,
            next_command=format_command("verify", f"{result.repo_id}@{result.commit_sha}"),
        )


def _plan_rows(plan: PushPlan) -> list[tuple[str, str]]:
    rows = [("target", _format_target(plan))]
    rows += [(operation.kind.value, _format_operation(operation)) for operation in plan.operations]
    rows.append(("upload", f"at most {format_bytes(plan.uploaded_bytes)} (nothing sent now)"))
    if plan.downloaded_bytes:
        rows.append(("download", f"{format_bytes(plan.downloaded_bytes)} of it from the source"))
    rows.append(("copy", _format_copies(plan.copied_file_count, plan.copied_bytes)))
    return rows


def _format_target(plan: PushPlan) -> str:
    target = f"{plan.repo_id}, branch {plan.branch}"
    if plan.creates_repository:
        target += ", a new private repository" if plan.private else ", a new repository"
    elif plan.creates_branch:
        target += f", made at {plan.parent}"
    else:
        target += f" at {plan.parent}"
    return target + (", by a pull request" if plan.create_pr else "")


def _format_operation(operation: Operation) -> str:
    text = f"{operation.name}  {format_bytes(operation.size_bytes)}"
    return text + ("  replaces what is there" if operation.replaces else "")


def _format_copies(file_count: int, size_bytes: int) -> str:
    return f"{file_count} files, {format_bytes(size_bytes)}, on the server"


def _format_uploads(file_count: int, result: PushResult) -> str:
    text = f"{file_count} files, {format_bytes(result.uploaded_bytes)}"
    if result.new_bytes == result.uploaded_bytes:
        return text
    return f"{text}, of which the Hub did not have {format_bytes(result.new_bytes)}"


def _rows(result: PushResult) -> list[tuple[str, str]]:
    from conv2linear.plan.transfer import Transfer

    count = {kind: sum(o.kind is kind for o in result.operations) for kind in Transfer}
    return [
        ("proposed" if result.is_pull_request else "pushed", result.url),
        ("target", f"{result.repo_id}, branch {result.revision}, commit {result.commit_sha}"),
        ("uploaded", _format_uploads(count[Transfer.UPLOAD], result)),
        ("copied", _format_copies(result.copied_file_count, result.copied_bytes)),
        ("kept", f"{count[Transfer.KEEP]} files that were there already"),
    ]
