"""Sums, distances and intervals against independent computations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.sets import distances
from adhere.eval.evaluators.sets.accumulators import (
    FeatureMoments,
    Mean,
    Overlap,
    moments_from_file,
)
from adhere.eval.report import distributions, statistics
from adhere.eval.report.statistics import difference, interval
from adhere.eval.scores.scored import Key


def features(count: int, channels: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Correlated features far from the origin, as a network's are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator)
    return torch.randn(count, channels, generator=generator) @ mix / channels**0.5 + 3 + shift


def moments(rows: torch.Tensor) -> FeatureMoments:
    made = FeatureMoments()
    made.add(rows)
    return made


def test_moments_against_numpy() -> None:
    rows = features(50, 6)
    made = moments(rows)
    assert torch.allclose(made.mean(), rows.double().mean(0), rtol=1e-13)
    expected = torch.from_numpy(np.cov(rows.double().numpy().T))
    assert torch.allclose(made.covariance(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("pieces", [2, 4, 13])
def test_merged_shards_equal_one_pass(pieces: int) -> None:
    ours, theirs = features(200, 12, seed=1), features(300, 12, 0.3, seed=2)
    whole = distances.frechet(moments(ours), moments(theirs))
    merged = FeatureMoments()
    for part in ours[torch.randperm(200)].chunk(pieces):
        merged.merge(moments(part))
    merged.merge(FeatureMoments())
    assert merged.count == 200
    assert distances.frechet(merged, moments(theirs)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(300, 16), (40, 64)])
def test_frechet_agrees_with_torchmetrics(n: int, d: int) -> None:
    from torchmetrics.image.fid import _compute_fid

    ours, theirs = features(n, d, seed=1).double(), features(n + 50, d, 0.5, seed=2).double()
    expected = _compute_fid(ours.mean(0), ours.T.cov(), theirs.mean(0), theirs.T.cov())
    found = distances.frechet(moments(ours), moments(theirs))
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_frechet_agrees_with_scipy() -> None:
    from scipy.linalg import sqrtm

    ours, theirs = features(100, 8, seed=1).double(), features(90, 8, 0.5, seed=2).double()
    s1, s2 = ours.T.cov().numpy(), theirs.T.cov().numpy()
    gap = (ours.mean(0) - theirs.mean(0)).square().sum().item()
    expected = gap + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    found = distances.frechet(moments(ours), moments(theirs))
    assert found == pytest.approx(expected, rel=1e-9)


def test_frechet_of_a_set_with_itself_is_zero() -> None:
    made = moments(features(100, 8))
    assert distances.frechet(made, made) == pytest.approx(0, abs=1e-9)


def test_frechet_warns_of_few_pictures() -> None:
    assert "singular" in distances.frechet_warnings(100, 5000, 128)[0]
    assert "small" in distances.frechet_warnings(500, 5000, 128)[0]
    assert distances.frechet_warnings(5000, 5000, 128) == []


def test_frechet_infinity_takes_the_bias_away() -> None:
    same = torch.Generator().manual_seed(3)
    ours, reference = torch.randn(600, 24, generator=same), torch.randn(20_000, 24, generator=same)
    biased = distances.frechet(moments(ours), moments(reference))
    better = distances.frechet_infinity(ours, moments(reference))
    assert biased > 0.3
    assert abs(better) < 0.4 * biased
    with pytest.raises(EvaluationError, match="needs 10 pictures"):
        distances.frechet_infinity(ours[:9], moments(reference))


@pytest.mark.parametrize("channels", [10, 256])
def test_kid_agrees_with_torchmetrics(channels: int) -> None:
    from torchmetrics.image.kid import poly_mmd

    ours = features(80, channels, seed=1).double()
    theirs = features(80, channels, 0.2, seed=2).double()
    expected = float(poly_mmd(theirs, ours))
    assert distances.unbiased_mmd(ours, theirs) == pytest.approx(expected, rel=1e-4)
    # Where subsets are as large as the sets, every subset is the whole: no spread to tell.
    mean, spread = distances.kid(ours, theirs, subsets=3, size=1000)
    assert mean == pytest.approx(expected, rel=1e-4)
    assert spread is None
    assert distances.kid(ours, theirs, subsets=9, size=40)[1] > 0  # type: ignore[operator]


def test_kid_by_loops() -> None:
    x, y = features(5, 3, seed=1).double(), features(4, 3, 1.0, seed=2).double()

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    expected = sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)
    assert distances.unbiased_mmd(x, y) == pytest.approx(expected, rel=1e-12)


def test_cmmd_by_loops() -> None:
    x, y = features(6, 4, seed=1).double(), features(5, 4, 0.5, seed=2).double()
    xn, yn = (rows / rows.norm(dim=1, keepdim=True) for rows in (x, y))

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(
            np.mean([[math.exp(-float((p - q).square().sum()) / 200) for q in b] for p in a])
        )

    expected = 1000 * (mean(xn, xn) + mean(yn, yn) - 2 * mean(xn, yn))
    assert distances.cmmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert distances.cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_distances_refuse_what_has_no_answer() -> None:
    with pytest.raises(EvaluationError, match="2 images or more, not 1"):
        moments(features(1, 4)).covariance()
    with pytest.raises(EvaluationError, match="no readable images"):
        FeatureMoments().mean()
    with pytest.raises(EvaluationError, match="different extractors"):
        moments(features(5, 4)).add(features(5, 3))
    with pytest.raises(EvaluationError, match="do not merge"):
        moments(features(5, 4)).merge(moments(features(5, 3)))
    with pytest.raises(EvaluationError, match="KID needs 2"):
        distances.unbiased_mmd(features(1, 4), features(5, 4))
    with pytest.raises(EvaluationError, match="CMMD needs"):
        distances.cmmd(features(0, 4), features(5, 4))


def test_statistics_are_kept_with_their_n(tmp_path: Path) -> None:
    made = moments(features(100, 8))
    made.save(tmp_path / "s.safetensors", {"features": "toybox"})
    read = moments_from_file(tmp_path / "s.safetensors")
    assert read.count == 100
    other = moments(features(90, 8, 0.4, seed=5))
    assert distances.frechet(other, read) == pytest.approx(distances.frechet(other, made), rel=1e-9)


def test_statistics_without_n_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_file({"mean": torch.zeros(3), "covariance": torch.eye(3)}, path)
    with pytest.raises(EvaluationError, match=r"no 'count'.*refused without the number"):
        moments_from_file(path)
    path.write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match="cannot read statistics"):
        moments_from_file(path)


def test_mean_and_overlap_merge() -> None:
    parts = [Mean(), Mean()]
    for number in range(10):
        parts[number % 2].add(number)
    parts[0].merge(parts[1])
    assert parts[0].value() == 4.5
    assert math.isnan(Mean().value())
    one, two = Overlap(), Overlap()
    one.add({"cat": (5, 10), "dog": (0, 4)})
    two.add({"cat": (5, 10), "sky": (0, 0)})
    one.merge(two)
    assert one.value() == pytest.approx((10 / 20 + 0 / 4) / 2)


def test_interval_covers_the_truth_nine_times_in_ten() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(60):
        prompts = rng.normal(1.0, 1.0, 40)
        values = {
            (str(p), seed): prompts[p] + rng.normal(0, 0.3) for p in range(40) for seed in range(3)
        }
        found = interval(values)
        assert found is not None
        hits += found.low <= 1.0 <= found.high  # type: ignore[operator]
    assert hits >= 52


def test_interval_counts_prompts_not_pictures() -> None:
    """Forty seeds of a prompt that always gives the same are no forty witnesses."""
    values = {(str(p), seed): float(p % 2) for p in range(10) for seed in range(40)}
    found = interval(values)
    assert found is not None
    assert (found.n, found.prompts) == (400, 10)
    assert found.high - found.low > 0.4  # type: ignore[operator]


def test_one_prompt_draws_its_seeds() -> None:
    found = interval({("a", seed): float(seed % 2) for seed in range(100)})
    assert found is not None
    assert 0.15 < found.high - found.low < 0.25  # type: ignore[operator]
    assert (
        difference({("a", n): 1.0 for n in range(9)}, {("a", n): 0.0 for n in range(9)}).p is None
    )  # type: ignore[union-attr]
    assert interval({}) is None


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(1)
    base = {(str(p), 0): float(rng.normal(0, 5)) for p in range(50)}
    after = {key: value + 0.1 for key, value in base.items()}
    after["new", 0] = 100.0
    found = difference(after, base)
    assert found is not None
    assert found.n == 50
    assert found.mean == pytest.approx(0.1)
    assert found.clear
    assert interval(base) == interval(dict(reversed(list(base.items()))))


# -- few prompts


def test_distributions_agree_with_scipy() -> None:
    from scipy import stats

    for a, b in ((0.5, 0.5), (1, 7), (3, 4), (40, 2.5), (500, 300)):
        for p in (0.025, 0.5, 0.975):
            x = float(stats.beta.ppf(p, a, b))
            assert distributions.beta_cdf(x, a, b) == pytest.approx(p, abs=1e-10)
            assert distributions.beta_quantile(p, a, b) == pytest.approx(x, rel=1e-8)
    for freedom in (1, 2, 9, 200):
        expected = float(stats.t.ppf(0.975, freedom))
        assert distributions.t_quantile(0.975, freedom) == pytest.approx(expected, rel=1e-9)
        assert distributions.t_two_sided(1.7, freedom) == pytest.approx(
            float(2 * stats.t.sf(1.7, freedom)), rel=1e-9
        )


@pytest.mark.parametrize(("hits", "size"), [(0, 6), (6, 6), (3, 10), (1, 40)])
def test_shares_have_clopper_pearson(hits: int, size: int) -> None:
    from scipy.stats import binomtest

    values = {(str(n), 0): float(n < hits) for n in range(size)}
    found = interval(values, share=True)
    assert found is not None
    expected = binomtest(hits, size).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_seeds_of_a_prompt_are_no_witnesses_of_their_own() -> None:
    """None of 24 pictures of 6 prompts says no more than none of 6."""
    values = {(str(n), seed): 0.0 for n in range(6) for seed in range(4)}
    found = interval(values, share=True)
    assert found is not None
    assert found.high == pytest.approx(0.459258, abs=1e-5)


def test_one_prompt_and_no_change_are_not_certain() -> None:
    one = interval({("a", 0): 1.0}, share=True)
    assert one is not None
    assert one.low == pytest.approx(0.025)
    number = interval({("a", 0): 1.0})
    assert number is not None
    assert number.low is None
    same = difference({(str(n), 0): 0.0 for n in range(6)}, {(str(n), 0): 0.0 for n in range(6)},
                      share=True)  # fmt: skip
    assert same is not None
    assert same.p == 1
    assert same.low < -0.2  # type: ignore[operator]
    assert same.high > 0.2  # type: ignore[operator]


@pytest.mark.parametrize("prompts", [5, 10, 30])
@pytest.mark.parametrize("kind", ["normal", "skewed", "share", "clustered share"])
def test_intervals_hold(prompts: int, kind: str) -> None:
    rng = np.random.default_rng(11)
    truth = {"normal": 0.0, "skewed": 1.0, "share": 0.25, "clustered share": 0.4}[kind]
    hits = 0
    for _ in range(200):
        values: dict[Key, float] = {}
        for n in range(prompts):
            chance = {"share": 0.25, "clustered share": rng.choice([0.05, 0.75])}.get(kind, 0.0)
            for seed in range(4 if kind == "clustered share" else 1):
                drawn = {"normal": rng.normal(), "skewed": rng.exponential()}
                values[str(n), seed] = drawn.get(kind, float(rng.random() < chance))
        found = interval(values, share="share" in kind)
        assert found is not None
        hits += found.low <= truth <= found.high  # type: ignore[operator]
    # Few draws of a skewed quantity never say how long its tail is.
    assert hits >= (166 if kind == "skewed" and prompts == 5 else 180)


def test_sign_test_by_all_changes_and_against_scipy() -> None:
    from itertools import product

    from scipy.stats import binomtest, ttest_1samp

    moved = np.array([0.3, -0.1, 0.7, 0.2, 0.05])
    sums = [abs(float((np.array(s) * moved).sum())) for s in product((-1, 1), repeat=5)]
    expected = np.mean([one >= moved.sum() - 1e-9 for one in sums])
    assert statistics.sign_test(moved) == pytest.approx(expected)
    # Of yes and no it is McNemar's exact test.
    discordant = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 30)
    assert statistics.sign_test(discordant) == pytest.approx(binomtest(2, 11).pvalue)
    rng = np.random.default_rng(3)
    many = rng.normal(0.1, 1, 150)
    assert statistics.sign_test(many) == pytest.approx(ttest_1samp(many, 0).pvalue, abs=0.02)
    most = rng.normal(0.1, 1, 900)
    assert statistics.sign_test(most) == pytest.approx(ttest_1samp(most, 0).pvalue, rel=1e-6)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06),
    ]  # fmt: skip
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]


def any_verdict(rng: np.random.Generator, prompts: int, variants: int, scores: int) -> bool:
    """Whether a report without any effect calls anything a difference."""
    ps = []
    for score in range(scores):
        share = score % 2 == 0

        def draw(share: bool = share) -> dict[Key, float]:
            drawn = rng.random(prompts) < 0.4 if share else rng.normal(size=prompts)
            return {(str(n), 0): float(value) for n, value in enumerate(drawn)}

        plain = draw()
        for _ in range(variants):
            found = difference(draw(), plain, share=share)
            assert found is not None
            ps.append(found.p if prompts >= statistics.FEWEST else None)
    return any(p is not None and p < statistics.ALPHA for p in statistics.holm(ps))


@pytest.mark.parametrize(
    ("prompts", "variants", "scores"),
    [(3, 2, 2), (10, 1, 1), pytest.param(20, 8, 6, marks=pytest.mark.slow)],
)
def test_without_any_effect_one_report_in_twenty_cries_wolf(
    prompts: int, variants: int, scores: int
) -> None:
    rng = np.random.default_rng(17)
    reports = 150
    false = sum(any_verdict(rng, prompts, variants, scores) for _ in range(reports))
    # 5 % and three standard errors of the simulation.
    assert false <= 0.05 * reports + 3 * (0.05 * 0.95 * reports) ** 0.5


def test_a_real_effect_is_found() -> None:
    rng = np.random.default_rng(2)
    plain = {(str(n), 0): float(rng.random() < 0.3) for n in range(100)}
    better = {key: max(value, float(rng.random() < 0.4)) for key, value in plain.items()}
    found = difference(better, plain, share=True)
    assert found is not None
    assert found.clear
    assert found.low > 0  # type: ignore[operator]
    assert found.before == pytest.approx(np.mean(list(plain.values())))


def test_weights_make_categories_equal() -> None:
    values = {("a", 0): 1.0, ("b", 0): 0.0, ("c", 0): 0.0, ("d", 0): 1.0}
    weights = {"a": 1.0, "b": 1 / 3, "c": 1 / 3, "d": 1 / 3}
    found = interval(values, weights=weights)
    assert found is not None
    assert found.mean == pytest.approx((1 + 1 / 3) / 2)
