"""Make a picture, and say what the words of its prompt are to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Plugin
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.explaining.explanation import Explanation
from adhere.pipelines.explaining.reader import Reader


def explain(
    pipe: Any,
    prompt: str,
    words: Sequence[str] | None = None,
    *,
    context: bool = False,
    levels: int = 20,
    draws: int = 1,
    plugins: Sequence[Plugin] = (),
    **call: Any,
) -> Explanation:
    """What is unique to each word of a prompt, shared by two, or said by two together only.

    Args:
        pipe: a pipeline of a known family, without guidance attached.
        prompt: one prompt; its picture is made with the pipeline's own call.
        words: phrases of the prompt; its nouns if left out.
        context: hear a word beside the rest of the prompt, and not alone.
        levels: of noise, at which the model is asked about the picture.
        draws: noises at each level. The model is asked `levels * draws` times for each text: one
            for no word, one for each word and one for each two.
        plugins: methods that the picture is made with.
        call: further arguments of the pipeline's call, such as `generator` or
            `num_inference_steps`.

    Raises:
        PromptError: fewer than two words are there to compare, or one is not in the prompt.
        ParameterError: more than one picture is asked for, or a number is out of range.
        ModelError: the model cannot be asked at levels outside its run.
    """
    if not isinstance(prompt, str):
        raise ParameterError(f"prompt={prompt!r}: give one text; pictures are explained one by one")
    if isinstance(words, str) or not all(isinstance(word, str) for word in words or ()):
        raise ParameterError(f"words={words!r}: give a list of phrases, as in ['queen', 'crown']")
    reader = Reader(None if words is None else tuple(words), context, levels, draws)
    with Guidance(*plugins, reader).attach(pipe) as attached:
        pipe(prompt, **call)
        pictures = attached.outcome.pictures
    if not pictures:
        raise ParameterError('the call makes no pictures; leave out output_type, or give "pil"')
    return explained(reader, pictures[0])


def explained(reader: Reader, image: Image.Image) -> Explanation:
    """What a reader has read in a run that made a picture.

    Raises:
        ModelError: the run ended before its last step.
    """
    found = reader.reading
    if found is None:
        raise ModelError("the call ended before its last step, so that there is nothing to explain")
    return Explanation(
        found.prompt, image, found.words, found.information, found.pairs, reader.context
    )
