"""What is collected for a file lies in parts beside it, until nothing of it is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.stored import SUFFIX, Stored, read, write


@dataclass(frozen=True)
class Parts:
    """The parts of one file, so that a process goes on where another was stopped.

    Attributes:
        out: the file that is to be; its parts lie in a folder beside it.
        kind: what a part is called.
        made_by: the command that makes them.
        about: what they are made with; parts that were made otherwise are refused.
    """

    out: Path
    kind: str
    made_by: str
    about: Mapping[str, str]

    def found(self, some: range, texts: Sequence[str]) -> Stored | None:
        """The part of some texts, if it is there.

        Raises:
            ParameterError: it was made for another file of this name.
        """
        path = self._path(some)
        if not path.is_file():
            return None
        part = read(path, self.kind, self.made_by)
        for key, value in self._about(texts).items():
            if part.about.get(key) != value:
                raise ParameterError(
                    f"{str(path.parent)!r} has a {self.kind} with {key} {part.about.get(key)!r}, "
                    f"and this one is to have {value!r}; give another --out, or take it away"
                )
        return part

    def keep(self, some: range, texts: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Write the part of some texts."""
        write(self._path(some), self.kind, tensors, self._about(texts))

    def _path(self, some: range) -> Path:
        folder = self.out.with_name(f"{self.out.name}.parts")
        return folder / f"{some.start:07}-{some.stop - 1:07}{SUFFIX}"

    def _about(self, texts: Sequence[str]) -> dict[str, str]:
        return {**self.about, "texts": hash_of(texts)}


def hash_of(texts: Sequence[str]) -> str:
    """What texts are told apart by."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
