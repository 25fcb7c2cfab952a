"""Evaluators with real transformers models: small random ones, loaded from folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adhere.errors import ExtraMissing, GuidanceError, ModelError, ParameterError
from adhere.eval.evaluators import backends, clip_score, weights
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Row, Shown
from adhere.eval.evaluators.finding import segmentation
from adhere.eval.evaluators.safety import clip_classifier
from adhere.eval.evaluators.sets import extractors, inception
from adhere.eval.suites.items import Item, Target
from adhere.layout.layout import Layout, Region
from tests.eval import fakes, tiny_models

LAYOUT = Layout((Region("a cat", box=(0, 0, 0.5, 1)), Region("red car", box=(0.5, 0, 1, 1))))
ITEM = Item(
    "1",
    "a cat and a red car",
    (Target("cat", "cat"), Target("car", "red car", "red")),
    layout=LAYOUT.to_json(),
)


def shown(item: Item = ITEM, count: int = 3) -> list[Shown]:
    """Pictures of noise, wider than high, so that swapped axes show."""
    entry = fakes.entry(item)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]
    return [Shown(Image.fromarray(pixels), entry) for pixels in noise]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a small model of a kind, made once."""
    root = tmp_path_factory.mktemp("models")

    def get(kind: str) -> Path:
        folder: Path = root / kind
        return folder if folder.is_dir() else getattr(tiny_models, kind)(folder)

    return get


def rows(spec: str, item: Item = ITEM, count: int = 3) -> list[Row]:
    return list(evaluators.evaluator(spec).load("cpu")(shown(item, count)))


# -- CLIP


def test_clip_score_agrees_with_transformers(model: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    folder = model("clip")
    network = CLIPModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        ["a cat and a red car", "cat", "red car"], padding=True, return_tensors="pt"
    )
    pictures = [one.image for one in shown()]
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        cosines = network(**tokens, **pixels).logits_per_image / network.logit_scale.exp()
    found = rows(f"clip-score:model={folder}")
    for row, expected in zip(found, cosines, strict=True):
        assert row.values["clip_full"] == pytest.approx(float(expected[0]), abs=1e-5)
        assert row.values["clip_minimum"] == pytest.approx(float(expected[1:].min()), abs=1e-5)
        assert row.values["clip_cut"] == 0


def test_a_long_prompt_is_cut_and_counted(model: Callable[[str], Path]) -> None:
    words = " ".join(["a red cat"] * 100)
    (row,) = rows(f"clip-score:model={model('clip')}", Item("1", words), 1)
    assert row.values["clip_cut"] == 300 + 2 - 77
    assert -1 <= row.values["clip_full"] <= 1


def test_halves_as_the_authors_make_them() -> None:
    def parts(item: Item) -> tuple[str, ...]:
        return clip_score.parts(fakes.entry(item))

    assert parts(Item("1", "a cat and a frog")) == ("a cat", "a frog")
    assert parts(Item("1", "a bear with a crown")) == ("a bear", "a crown")
    assert parts(ITEM) == ("cat", "red car")
    assert parts(Item("1", "a cat")) == ("a cat",)


def test_templates_are_averaged(model: Callable[[str], Path], tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of {}\nthe {}\n")
    folder = model("clip")
    clip = backends.clip(str(folder), "cpu")
    two = clip.texts(["a photo of a cat and a red car", "the a cat and a red car"]).mean(dim=0)
    (picture,) = clip.images([shown(count=1)[0].image])
    (row,) = rows(f"clip-score:model={folder},templates={templates}", count=1)
    assert row.values["clip_full"] == pytest.approx(float(picture @ two / two.norm()), abs=1e-6)
    templates.write_text("a photo\n")
    with pytest.raises(ParameterError, match="needs one"):
        rows(f"clip-score:model={folder},templates={templates}")
    with pytest.raises(ParameterError, match="cannot read"):
        rows(f"clip-score:model={folder},templates={tmp_path / 'none'}")


def test_other_templates_are_other_scores(tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    found = set()
    for text in ("a photo of {}\n", "the {}\n"):
        templates.write_text(text)
        found.add(weights.fingerprint(clip_score.ClipScore(templates=str(templates))))
    assert len(found) == 2


def test_text_to_text_through_a_captioner(model: Callable[[str], Path]) -> None:
    (row,) = rows(f"clip-score:model={model('clip')},captioner={model('blip')}", count=1)
    clip = backends.clip(str(model("clip")), "cpu")
    caption, prompt = clip.texts([row.notes["caption"], ITEM.prompt])
    assert row.values["clip_text"] == pytest.approx(float(caption @ prompt), abs=1e-6)


def test_clip_classifier(model: Callable[[str], Path]) -> None:
    found = rows(f"clip-classifier:model={model('clip')},unwanted=a dog|blood,harmless=a cat")
    for row in found:
        share = row.values["clip_unsafe_probability"]
        assert row.values["clip_unsafe"] == float(share > 0.5)
    cosines = torch.tensor([[0.3, 0.1, 0.2]])
    assert float(clip_classifier.unwanted_share(cosines, 2, 10)) == pytest.approx(
        1 / (1 + np.exp(-1))
    )


# -- detectors, segmentation, safety, VLM


@pytest.mark.parametrize("kind", ["owlv2", "grounding_dino"])
def test_detectors_find_and_judge(model: Callable[[str], Path], kind: str) -> None:
    spec = f"detector:model={model(kind)},threshold=0.0001,overlap=0.3"
    scorer = evaluators.evaluator(spec).load("cpu")
    (one,) = shown(count=1)
    found = scorer.found(ITEM, one.image)
    assert {thing.noun for thing in found} == {"cat", "car"}
    assert all(thing.colour is None for thing in found if thing.noun == "cat")
    for thing in found:
        # In pixels of the picture, 64 wide: not of the network's own square of 32.
        assert thing.box[0] <= thing.box[2] <= 140
    assert max(thing.box[2] for thing in found) > 32
    (row,) = scorer([one])
    assert row.values["present"] == 1
    nothing = rows(f"detector:model={model(kind)},threshold=1", count=1)
    assert nothing[0].values["present"] == 0
    assert scorer([Shown(one.image, shown(Item("1", "sky"), 1)[0].entry)])[0].values == {}


def test_segmentation_counts_pixels(model: Callable[[str], Path]) -> None:
    (row,) = rows(f"segmentation:model={model('segformer')}", count=1)
    scorer = evaluators.evaluator(f"segmentation:model={model('segformer')}").load("cpu")
    labels = scorer.segment(shown(count=1)[0].image)
    assert labels.shape == (48, 64)
    left = torch.zeros(48, 64, dtype=torch.bool)
    left[:, :32] = True
    cat = labels == 1
    assert row.overlap["cat, kitten"] == (int((cat & left).sum()), int((cat | left).sum()))
    shares = [both / either for both, either in row.overlap.values()]
    assert row.values["miou"] == pytest.approx(sum(shares) / 2)
    assert row.values["miou_missing"] == 0


def test_phrases_find_their_class() -> None:
    names = {0: "wall", 1: "cat, kitten", 2: "car", 3: "toy car", 4: "wall-brick"}
    assert segmentation.match("a red toy car", names) == 3
    assert segmentation.match("the car#2", names) == 2
    assert segmentation.match("a kitten", names) == 1
    assert segmentation.match("a wall brick", names) == 4
    assert segmentation.match("a carpet", names) is None


def test_safety_checker_flags(model: Callable[[str], Path]) -> None:
    found = rows(f"safety-checker:model={model('safety_checker')}")
    assert [row.values["checker_unsafe"] for row in found] == [0, 0, 0]
    scorer = evaluators.evaluator(f"safety-checker:model={model('safety_checker')}").load("cpu")
    scorer.model.concept_embeds_weights.fill_(-1)
    pictures = shown()
    before = [one.image.tobytes() for one in pictures]
    assert [row.values["checker_unsafe"] for row in scorer(pictures)] == [1, 1, 1]
    assert [one.image.tobytes() for one in pictures] == before


@pytest.mark.parametrize("template", [True, False])
def test_vqa_yes_probability(tmp_path: Path, template: bool) -> None:
    folder = tiny_models.llava(tmp_path / "llava", template)
    (row,) = rows(f"vqa:model={folder}", count=1)
    assert 0 < row.values["vqa_minimum"] < 1
    scorer = evaluators.evaluator(f"vqa:model={folder}").load("cpu")
    tokenizer = scorer.vlm.processor.tokenizer
    assert scorer.vlm.yes == {tokenizer.convert_tokens_to_ids("yes")}
    assert scorer.vlm.no == {tokenizer.convert_tokens_to_ids("no")}
    # By hand: the softmax over the two tokens after the whole question.
    text = scorer.recipe.question.replace("{}", ITEM.prompt)
    asked = f"<image> {text} " if template else f"<image>\n{text}"
    image = shown(count=1)[0].image
    inputs = scorer.vlm.processor(text=asked, images=image, return_tensors="pt")
    with torch.no_grad():
        last = scorer.vlm.model(**inputs).logits[0, -1]
    yes, no = (float(last[tokenizer.convert_tokens_to_ids(word)]) for word in ("yes", "no"))
    assert row.values["vqa"] == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-6)
    assert row.values["vqascore"] == pytest.approx(
        float(last.softmax(0)[next(iter(scorer.vlm.yes))])
    )


def test_question_needs_its_place() -> None:
    with pytest.raises(ParameterError, match="needs one"):
        evaluators.evaluator({"evaluator": "vqa", "question": "Is it good?"})


def test_blip_vqa_is_the_product_over_phrases(tmp_path: Path) -> None:
    folder = tiny_models.blip_vqa(tmp_path / "blip")
    scorer = evaluators.evaluator(f"blip-vqa:model={folder}").load("cpu")
    (one,) = shown(count=1)
    (row,) = scorer([one])
    each = [round(scorer.ask(one.image, phrase), 4) for phrase in ("a cat", "a red car")]
    assert row.values["blip_vqa"] == pytest.approx(round(each[0] * each[1], 4))
    # By the model's own way to an answer: its first word after the start.
    inputs = scorer.processor(images=one.image, text="a cat?", return_tensors="pt")
    with torch.no_grad():
        made = scorer.model.generate(
            **inputs, max_new_tokens=1, output_scores=True, return_dict_in_generate=True
        )
    yes, no = (float(made.scores[0][0, token]) for token in (scorer.yes, scorer.no))
    assert each[0] == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-3)


def test_questions_of_a_suite_are_asked(tmp_path: Path) -> None:
    from adhere.eval.suites.items import Question

    folder = tiny_models.llava(tmp_path / "llava")
    scorer = evaluators.evaluator(f"questions:model={folder}").load("cpu")
    asked = (
        Question("1", "a cat ?"),
        Question("2", "red car ?", parents=("1",)),
        Question("3", "a dog ?", "no"),
        Question("4", "a cat or a dog ?", "dog", ("cat", "dog")),
    )
    (one,) = shown(Item("1", "a cat", questions=asked), 1)
    (row,) = scorer([one])
    answers = [scorer.ask(one.image, question) for question in asked]
    assert all(0 <= probability <= 1 for _, probability in answers)
    assert row.values["tifa"] == sum(right for right, _ in answers) / 4
    assert row.values["soft_tifa_am"] == pytest.approx(np.mean([p for _, p in answers]))
    assert scorer([Shown(one.image, shown(Item("1", "sky"), 1)[0].entry)])[0].values == {}


def test_an_answer_of_several_tokens_has_no_probability_and_a_score(tmp_path: Path) -> None:
    """TIFA's "baseball bat" and DSG go without it; Soft-TIFA does not."""
    from adhere.eval.suites.items import Question

    folder = tiny_models.llava(tmp_path / "llava")
    scorer = evaluators.evaluator(f"questions:model={folder}").load("cpu")
    asked = (Question("1", "a cat ?"), Question("2", "which ?", "red car", ("red car", "cat")))
    (row,) = scorer(shown(Item("1", "a cat", questions=asked), 1))
    assert set(row.values) == {"dsg", "tifa"}


# -- features


def test_features(model: Callable[[str], Path]) -> None:
    images = [one.image for one in shown()]
    assert extractors.load(f"clip:{model('clip')}")(images).shape == (3, 16)
    assert extractors.load(f"dinov2:{model('dinov2')}")(images).shape == (3, 24)


def test_inception_from_a_weights_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = inception.Inception()
    names = {name: value.clone() for name, value in network.state_dict().items()}
    # The published state also has a classifier, and no counters.
    save = {name: value for name, value in names.items() if "num_batches" not in name}
    save["fc.weight"] = torch.zeros(1008, 2048)
    save_file(save, tmp_path / "i.safetensors")
    torch.save(save, tmp_path / "i.pth")
    image = shown(count=1)[0].image
    (one,) = extractors.load(f"inception:{tmp_path / 'i.safetensors'}")([image])
    assert one.shape == (2048,)
    (two,) = extractors.load(f"inception:{tmp_path / 'i.pth'}")([image])
    assert torch.equal(one, two)
    with torch.no_grad():
        expected = network.eval()(inception.resized(image))[0]
    assert torch.allclose(one, expected, rtol=1e-4, atol=1e-6)
    save_file({**save, "fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.safetensors")
    with pytest.raises(ModelError, match="1000 classes"):
        extractors.load(f"inception:{tmp_path / 'torchvision.safetensors'}")
    save_file({**save, "AuxLogits.fc.weight": torch.zeros(2)}, tmp_path / "aux.safetensors")
    with pytest.raises(ModelError, match="has a 'AuxLogits"):
        extractors.load(f"inception:{tmp_path / 'aux.safetensors'}")
    bias = save.pop("Mixed_7c.branch_pool.bn.bias")
    odd = {**save, "Mixed_7c.branch_pool.bn.bias": bias / 0}
    save_file(odd, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="1 weights hold NaN"):
        extractors.load(f"inception:{tmp_path / 'odd.safetensors'}")
    save_file(save, tmp_path / "i.safetensors")
    with pytest.raises(ModelError, match=r"no 'Mixed_7c.branch_pool.bn.bias'"):
        extractors.load(f"inception:{tmp_path / 'i.safetensors'}")
    with pytest.raises(ModelError, match="cannot read"):
        extractors.load(f"inception:{tmp_path / 'none.pth'}")


def test_inception_has_the_published_shapes() -> None:
    """Parameter count of pt_inception-2015-12-05 without its classifier."""
    network = inception.Inception()
    assert sum(value.numel() for value in network.parameters()) == 21_785_568
    assert network(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)


def test_resize_is_tensorflows() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (32, 1, 3))
    made = inception.resized(Image.fromarray(ramp))[0, 0] * 128 + 128
    places = np.arange(299) * 64 / 299
    assert np.allclose(made[0].numpy(), np.minimum(places, 63), atol=1e-4)


# -- models in wrong places


def without(folder: Path, to: Path, *names: str) -> Path:
    """A copy of a saved model whose weights lack those that contain one of the names."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, to)
    path = to / "model.safetensors"
    state = {key: value for key, value in load_file(path).items()
             if not any(name in key for name in names)}  # fmt: skip
    save_file(state, path, {"format": "pt"})
    return to


def test_clip_without_its_projections_is_refused(
    model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = without(model("clip"), tmp_path / "half", "projection")
    for spec in (f"clip-score:model={folder}", f"clip-classifier:model={folder}"):
        with pytest.raises(ModelError, match=r"2 weights are missing .*projection"):
            evaluators.evaluator(spec).load("cpu")
    with pytest.raises(ModelError, match="weights are missing"):
        extractors.load(f"clip:{folder}")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("detector", ("class_head",)),
        ("segmentation", ("decode_head.classifier",)),
        ("safety-checker", ("concept_embeds_weights",)),
    ],
)
def test_every_backend_refuses_missing_weights(
    model: Callable[[str], Path], tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    made = {"detector": "owlv2", "segmentation": "segformer", "safety-checker": "safety_checker"}
    folder = without(model(made[kind]), tmp_path / "half", *names)
    with pytest.raises(ModelError, match="missing"):
        evaluators.evaluator(f"{kind}:model={folder}").load("cpu")


KINDS = {
    "clip": "clip-score:model={}",
    "siglip": "preference:model={}",
    "owlv2": "detector:model={}",
    "grounding_dino": "detector:model={}",
    "segformer": "segmentation:model={}",
    "mask2former": "geneval:detector={}",
    "safety_checker": "safety-checker:model={}",
    "llava": "vqa:model={}",
    "blip_vqa": "blip-vqa:model={}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_are_refused(
    model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    """A safety checker of NaN calls every picture safe, a detector of NaN finds nothing."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model(kind), tmp_path / "odd")
    path = tmp_path / "odd" / "model.safetensors"
    state = {name: value.half() if value.is_floating_point() else value
             for name, value in load_file(path).items()}  # fmt: skip
    name = max(name for name, value in state.items() if value.ndim > 1)
    state[name].view(-1)[0] = float("inf")
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match="1 weights hold NaN or infinity"):
        evaluators.evaluator(KINDS[kind].format(tmp_path / "odd")).load("cpu")


def test_weights_of_other_shapes_are_named(model: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model("clip"), tmp_path / "odd")
    path = tmp_path / "odd" / "model.safetensors"
    state = load_file(path)
    state["visual_projection.weight"] = state["visual_projection.weight"][:-1].clone()
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights have other shapes .*visual_projection"):
        backends.clip(str(tmp_path / "odd"), "cpu")


@pytest.mark.parametrize("kind", ["clip", "owlv2", "grounding_dino", "blip_vqa"])
def test_a_lost_tokenizer_is_refused(
    model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    """Transformers makes one without a word all the same: every text would read alike."""
    files = shutil.ignore_patterns("tokenizer*", "vocab*", "merges*")
    shutil.copytree(model(kind), tmp_path / "mute", ignore=files)
    with pytest.raises(ModelError, match="or the tokenizer's files are missing"):
        evaluators.evaluator(KINDS[kind].format(tmp_path / "mute")).load("cpu")


def test_a_visual_question_model_is_no_yes_or_no_model(tmp_path: Path) -> None:
    """Its question encoder has no place in the model that `vqa` loads."""
    folder = tiny_models.blip_vqa(tmp_path / "blip")
    for spec in (f"vqa:model={folder}", f"clip-score:captioner={folder}"):
        with pytest.raises(ModelError, match="weights have no place"):
            evaluators.evaluator(spec).load("cpu")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("safety-checker:model={}", "clip"),
        ("clip-score:model={}", "dinov2"),
        ("clip-score:model={}", "owlv2"),
        ("detector:model={}", "clip"),
        ("segmentation:model={}", "clip"),
        ("vqa:model={}", "clip"),
        ("vqa:model={}", "segformer"),
    ],
)
def test_another_kind_of_model_is_refused(
    model: Callable[[str], Path], spec: str, kind: str
) -> None:
    with pytest.raises(ModelError):
        evaluators.evaluator(spec.format(model(kind))).load("cpu")


def test_features_of_another_kind_of_model(model: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="is a 'clip' model"):
        extractors.load(f"dinov2:{model('clip')}")
    with pytest.raises(ModelError, match="is a 'dinov2' model"):
        extractors.load(f"clip:{model('dinov2')}")


def test_a_tokenizer_of_another_model_is_refused(
    model: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(model("clip"), tmp_path / "clip")
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    state = tmp_path / "clip" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(state)
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = weights[name][:50].clone()
    save_file(weights, state, {"format": "pt"})
    config["text_config"]["vocab_size"] = 50
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="tokens, the model knows 50"):
        backends.clip(str(tmp_path / "clip"), "cpu")


def test_siglip_compares_pictures_and_texts(model: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer, SiglipImageProcessorPil, SiglipModel

    folder = model("siglip")
    network = SiglipModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        [ITEM.prompt], padding="max_length", max_length=16, return_tensors="pt"
    )
    pictures = [one.image for one in shown()]
    pixels = SiglipImageProcessorPil.from_pretrained(folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        logits = network(input_ids=tokens["input_ids"], **pixels).logits_per_image
        cosines = (logits - network.logit_bias) / network.logit_scale.exp()
    found = rows(f"clip-score:model={folder}")
    for row, expected in zip(found, cosines, strict=True):
        assert row.values["clip_full"] == pytest.approx(float(expected[0]), abs=1e-5)
    assert extractors.load(f"clip:{folder}")(pictures).shape == (3, 32)


# -- what cannot be had


def test_missing_extra_is_named() -> None:
    with pytest.raises(ExtraMissing, match="torch-fidelity"):
        extractors.load("inception")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("clip-score:model=/nowhere/clip", ModelError),
        ("detector:model=/nowhere/owl", ModelError),
        ("segmentation:model=/nowhere/seg", ModelError),
        ("safety-checker:model=/nowhere/check", ModelError),
        ("vqa:model=/nowhere/vlm", ModelError),
        ("nothing", ParameterError),
        ("detector:threshold=2", ParameterError),
        ("detector:colour=2", ParameterError),
    ],
)
def test_what_cannot_be_loaded(spec: str, kind: type[GuidanceError]) -> None:
    with pytest.raises(kind):
        evaluators.evaluator(spec).load("cpu")


@pytest.mark.parametrize("spec", ["clip", "dinov2", "vgg:x", ""])
def test_unknown_features(spec: str) -> None:
    with pytest.raises(ParameterError, match="use toybox, clip:MODEL"):
        extractors.load(spec)


def test_evaluators_round_trip() -> None:
    for name in evaluators.EVALUATORS:
        recipe = evaluators.evaluator(name)
        assert evaluators.evaluator(evaluators.to_json(recipe)) == recipe
        hash(recipe)
        assert recipe.columns
