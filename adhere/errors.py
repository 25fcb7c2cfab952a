"""Everything that can go wrong, in one tree.

    GuidanceError
    ├── PromptError      a phrase that is absent or beyond the last token, or bad markup
    ├── ParameterError   an unknown plugin or parameter, or a value out of range
    ├── LayoutError      a layout that cannot be read or does not fit the prompt
    │   └── MaskError    a mask of another aspect ratio than the picture's
    ├── ModelError       a pipeline, scheduler or weights folder that cannot be guided as asked
    ├── Interrupted      whoever attached the guidance asked for the call to end
    ├── ExtraMissing     an optional dependency that is not installed
    ├── EvaluationError  an experiment, suite or run that does not read or fit (adhere.eval)
    └── ToyboxError      a prompt, folder or training of the toybox (adhere.pipelines.toybox)

    GuidanceWarning      the run goes on, but not quite as asked (a scheduler that drops edits)

A message says what was given, what was expected and what to do. `docs/errors.md` lists them.
"""


class GuidanceError(Exception):
    """Base of every error that `adhere` raises on purpose."""


class PromptError(GuidanceError, ValueError):
    """A phrase or markup that does not fit the prompt."""


class ParameterError(GuidanceError, ValueError):
    """An unknown plugin, an unknown parameter, or a value out of range."""


class LayoutError(GuidanceError, ValueError):
    """A layout that cannot be read or does not fit the prompt."""


class MaskError(LayoutError):
    """A mask of another aspect ratio than the picture's."""


class ModelError(GuidanceError, RuntimeError):
    """A pipeline, scheduler or weights folder that cannot be guided as asked."""


class Interrupted(GuidanceError):
    """A guided call that was ended by the `interrupt` it was attached with."""


class ExtraMissing(GuidanceError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need} needs an optional dependency: pip install 'adhere[{extra}]'")


class GuidanceWarning(UserWarning):
    """The run goes on, but not quite as asked."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, in short."""
    return str(error).strip().split("\n")[0]
