"""Give the package index a long description whose links lead somewhere.

The README's links are relative: right in a clone and on a repository's page, and broken anywhere
else. With an address under `Repository` in `[project.urls]` they become absolute, at the tag of the
version. Without one a link to a page becomes its text, and a picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import Distribution, setup

README = Path(__file__).with_name("README.md").read_text("utf-8")
LINK = re.compile(r"(?P<is_picture>!?)\[(?P<text>[^]]*)\]\((?!https?:|#)(?P<path>[^)\s]+)\)")
NOTE = "\nThe pages that are named here without a link are in the source distribution.\n"


def describe(readme: str, repository: str | None, version: str) -> str:
    """Return the README as it reads away from its repository."""

    def replace(link: re.Match[str]) -> str:
        if not repository:
            return "" if link["is_picture"] else link["text"]
        view = "raw" if link["is_picture"] else "blob"
        target = f"{repository.rstrip('/')}/{view}/v{version}/{link['path']}"
        return f"{link['is_picture']}[{link['text']}]({target})"

    text = re.sub(r"\n{3,}", "\n\n", LINK.sub(replace, readme))
    return text if repository else text + NOTE


class WithLongDescription(Distribution):
    """A distribution that is described once pyproject.toml has been read."""

    def parse_config_files(self, *arguments: object, **options: object) -> None:
        """Read pyproject.toml, and describe the package with the address and version there."""
        super().parse_config_files(*arguments, **options)
        metadata = self.metadata
        address = (metadata.project_urls or {}).get("Repository")
        metadata.long_description = describe(README, address, metadata.version)


if __name__ == "__main__":
    setup(
        distclass=WithLongDescription,
        long_description=README,
        long_description_content_type="text/markdown",
    )
