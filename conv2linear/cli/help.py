"""Print help: options in groups, an example for each command, and no sentence cut off."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

SOURCE_AND_HUB, CHECK, OUTPUT, REPORT = "Source and Hub", "Check", "Output", "Report"
GROUPS = (SOURCE_AND_HUB, CHECK, OUTPUT, REPORT)  # in the order in which help shows them
_REST = "Help"


class Command(TyperCommand):
    """A command whose help has a section for its arguments and one for each group of options."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands behind the command in the line of usage."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *(str(each.metavar) for each in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, and the options by their group."""
        _write_parameters(self.get_params(ctx), ctx, formatter)


class Commands(TyperGroup):
    """The commands together; their help has every command's first sentence, whole."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, _first_paragraph(each.help)) for name, each in commands if each]
            )
        _write_parameters(self.get_params(ctx), ctx, formatter)


def _write_parameters(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {
        name: [] for name in ("Arguments", *GROUPS, _REST)
    }
    for each in parameters:
        if each.param_type_name == "argument":
            sections["Arguments"].append((each.metavar, each.help or ""))
        elif record := each.get_help_record(ctx):
            sections[_panel(each)].append(record)
    for name, rows in sections.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows)


def _panel(option: Any) -> str:
    """Return the group of an option; in typer 0.20 --help itself is one without."""
    return getattr(option, "rich_help_panel", None) or _REST


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())
