"""Write into the README where a linear GLM-4.5V loads.

`python -m scripts.lib.compatibility_table`.
"""

from __future__ import annotations

from conv2linear.checkpoint.compatibility import Evidence, Loading, Traits, assess
from conv2linear.checkpoint.patch_embedding import Layout
from scripts.lib.results import ROOT, format_table

BEGIN = (
    "<!-- made by scripts/lib/compatibility_table.py: what is between these marks is not edited "
    "by hand -->"
)
END = "<!-- end of it -->"
_FOUND = {Evidence.RUN: "a run", Evidence.READ: "its source"}
_GLM_45V = Traits("glm4v_moe", Layout.LINEAR, "BF16", "model.visual.", fuses=True)


def render_compatibility() -> str:
    """Return the lines between the marks."""
    heads = ("program", "release", "a linear checkpoint", "found out by")
    return "\n".join(format_table(heads, [_row(each) for each in assess(_GLM_45V)])) + "\n"


def _row(loading: Loading) -> tuple[str, ...]:
    found = _FOUND[loading.evidence] if loading.evidence else ""
    return (loading.name, loading.versions or "", str(loading.support), found)


def main() -> None:
    """Write the table."""
    path = ROOT / "README.md"
    before, begin, rest = path.read_text().partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the marks of the table are missing")
    path.write_text(f"{before}{begin}\n{render_compatibility()}\n{end}{after}")


if __name__ == "__main__":
    main()
