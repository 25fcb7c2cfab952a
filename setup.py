"""What pyproject.toml cannot say: the source archive carries the links inside adhere/, as links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.sdist import sdist


class SourceArchive(sdist):
    """An archive from which the tests run as from a checkout."""

    def make_release_tree(self, base_dir: str, files: Any) -> None:
        super().make_release_tree(base_dir, files)
        for link in Path("adhere").iterdir():
            if link.is_symlink():
                (Path(base_dir) / link).symlink_to(link.readlink())


setup(cmdclass={"sdist": SourceArchive})
