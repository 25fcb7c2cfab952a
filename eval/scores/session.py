"""Evaluators at work: loaded once at the most, and left out when something is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.eval.errors import Busy
from adhere.eval.evaluators import backends, weights
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator, RowEvaluator, Scorer, SetEvaluator
from adhere.eval.evaluators.sets import extractors, references
from adhere.eval.places import Place
from adhere.eval.run.folder import Folder
from adhere.eval.scores import stored
from adhere.pipelines.folders.bars import without_bars

NOT_MADE = "not made"
"""Stands for the checksum of a picture that could not be made."""


@dataclass
class Rows:
    """A row evaluator at work: loaded when a chunk first lacks it."""

    recipe: RowEvaluator
    where: str
    device: str
    identity: str | None

    @cached_property
    def scorer(self) -> Scorer:
        """What scores."""
        with without_bars():
            made = self.recipe.load(self.device)
        _check_same(self.identity, weights.fingerprint(self.recipe))
        return made


@dataclass
class Features:
    """An extractor at work: loaded when a chunk first lacks its features."""

    spec: str
    where: str
    device: str
    identity: str | None

    @cached_property
    def network(self) -> backends.Extract:
        """What extracts."""
        with without_bars():
            made = extractors.load(self.spec, self.device)
        _check_same(self.identity, weights.of_features(self.spec))
        return made

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        return self.network(images)

    def lacks(self, place: Place, chunk: str, pictures: Mapping[str, str]) -> bool:
        """Whether features of some of these pictures are not there."""
        kept = stored.kept_jobs(place, self.file(chunk))
        return any(
            kept.get(job) != identity for job, identity in pictures.items() if identity != NOT_MADE
        )

    def file(self, chunk: str) -> str:
        """Where the features of a chunk are."""
        return f"{self.where}/{chunk}.safetensors"


class Session:
    """The evaluators of a run, for any number of blocks."""

    def __init__(self, folder: Folder, recipes: Iterable[Evaluator], device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.rows: dict[str, Rows] = {}
        self.features: dict[str, Features] = {}
        self.left_out: dict[str, str] = {}
        self._sets: list[tuple[str, SetEvaluator]] = []
        for recipe in recipes:
            slug = evaluators.slug(recipe)
            with self.leaving_out(slug):
                self._prepare(slug, recipe)

    def leaving_out(self, *slugs: str) -> LeaveOut:
        """What goes wrong inside leaves these evaluators out."""
        return LeaveOut(self, slugs)

    def _prepare(self, slug: str, recipe: Evaluator) -> None:
        identity, place = weights.fingerprint(recipe), self.folder.place
        if isinstance(recipe, SetEvaluator):
            where = stored.use(place, stored.features_at(recipe.features), identity)
            extractor = Features(recipe.features, where, self.device, identity)
            self.features.setdefault(recipe.features, extractor)
            self._sets.append((slug, recipe))
            return
        where = stored.use(place, stored.rows_of(recipe), identity)
        self.rows[slug] = Rows(recipe, where, self.device, identity)

    def drop(self, slugs: Iterable[str], why: str) -> None:
        """Leave evaluators out from here on, and say why."""
        for slug in slugs:
            self.left_out.setdefault(slug, why)
            self.rows.pop(slug, None)
        self._sets = [(slug, recipe) for slug, recipe in self._sets if slug not in self.left_out]
        used = {recipe.features for _, recipe in self._sets}
        self.features = {spec: one for spec, one in self.features.items() if spec in used}

    def slugs_of(self, spec: str) -> list[str]:
        """The evaluators that need an extractor."""
        return [slug for slug, recipe in self._sets if recipe.features == spec]

    def load_references(self) -> None:
        """Make the features of reference pictures that are not there: the report has no model."""
        for slug, recipe in list(self._sets):
            if recipe.reference != "plain" and slug not in self.left_out:
                with self.leaving_out(slug):
                    extract = self.features[recipe.features]
                    references.load(
                        recipe.reference, recipe.features, extract, self.folder.place, extract.where
                    )


def _check_same(before: str | None, now: str | None) -> None:
    """Weights that were exchanged between being looked at and being loaded, as on the hub."""
    if before is not None and now != before:
        raise ModelError(
            f"its weights changed while they were loaded ({before} before, {now} now); score again"
        )


class LeaveOut:
    """Turns what goes wrong inside into an evaluator that is left out."""

    def __init__(self, session: Session, slugs: Iterable[str]) -> None:
        self.session, self.slugs = session, tuple(slugs)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception) or isinstance(error, Busy):
            return False
        self.session.drop(self.slugs, f"{type(error).__name__}: {error}")
        return True
