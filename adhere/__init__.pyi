"""The public names and their types, from `adhere.homes()`. Written by `make tables`."""

from adhere.errors import ExtraMissing as ExtraMissing
from adhere.errors import GuidanceError as GuidanceError
from adhere.errors import GuidanceWarning as GuidanceWarning
from adhere.errors import Interrupted as Interrupted
from adhere.errors import LayoutError as LayoutError
from adhere.errors import ModelError as ModelError
from adhere.errors import ParameterError as ParameterError
from adhere.errors import PromptError as PromptError
from adhere.eval.errors import EvaluationError as EvaluationError
from adhere.guides.energy import EnergyMethod as EnergyMethod
from adhere.guides.energy import LayoutMethod as LayoutMethod
from adhere.guides.energy import SubjectMethod as SubjectMethod
from adhere.guides.guide import Energy as Energy
from adhere.guides.guide import Finished as Finished
from adhere.guides.guide import Guide as Guide
from adhere.guides.guide import Logits as Logits
from adhere.guides.guide import Look as Look
from adhere.guides.guide import Plugin as Plugin
from adhere.guides.guide import Prediction as Prediction
from adhere.guides.guide import Step as Step
from adhere.guides.guide import Text as Text
from adhere.guides.maps import ImageMaps as ImageMaps
from adhere.guides.maps import Maps as Maps
from adhere.guides.maps import Read as Read
from adhere.guides.parameters import param as param
from adhere.guides.parameters import share as share
from adhere.guides.run import BoundNoun as BoundNoun
from adhere.guides.run import Prompt as Prompt
from adhere.guides.run import Regions as Regions
from adhere.guides.run import Run as Run
from adhere.layout.composing import composed as composed
from adhere.layout.layout import Layout as Layout
from adhere.layout.layout import Region as Region
from adhere.pipelines.engine.guidance import Guidance as Guidance
from adhere.pipelines.engine.memory import Memory as Memory
from adhere.pipelines.engine.report import RunReport as RunReport
from adhere.pipelines.explaining.explain import explain as explain
from adhere.pipelines.explaining.explanation import Explanation as Explanation
from adhere.pipelines.modular.blocks import guided_blocks as guided_blocks
from adhere.pipelines.modular.blocks import guided_denoise as guided_denoise
from adhere.pipelines.modular.guider import PredictionGuider as PredictionGuider
from adhere.pipelines.modular.guider import prediction_guider as prediction_guider
from adhere.pipelines.search.autopilot import autopilot as autopilot
from adhere.pipelines.search.plan import planned as planned
from adhere.pipelines.search.search import search as search
from adhere.pipelines.tools.scaling_concept import Scaling as Scaling
from adhere.pipelines.tools.scaling_concept import scale_concept as scale_concept
from adhere.pipelines.toybox.errors import ToyboxError as ToyboxError
from adhere.pipelines.toybox.model.folder import load_toybox as load_toybox
from adhere.plugins.appear.attend_and_excite import AttendAndExcite as AttendAndExcite
from adhere.plugins.appear.concept_guidance import ConceptGuidance as ConceptGuidance
from adhere.plugins.appear.divide_and_bind import DivideAndBind as DivideAndBind
from adhere.plugins.appear.saga import Saga as Saga
from adhere.plugins.appear.taca import TemperatureAdjustedAttention as TemperatureAdjustedAttention
from adhere.plugins.bind.conform import Conform as Conform
from adhere.plugins.bind.dos import Dos as Dos
from adhere.plugins.bind.ebama import Ebama as Ebama
from adhere.plugins.bind.focus import Focus as Focus
from adhere.plugins.bind.predicated import Predicated as Predicated
from adhere.plugins.bind.self_cross import SelfCross as SelfCross
from adhere.plugins.bind.subject_guidance import SubjectGuidance as SubjectGuidance
from adhere.plugins.bind.syngen import SynGen as SynGen
from adhere.plugins.choose.best_of_n import BestOfN as BestOfN
from adhere.plugins.choose.diverse import Diverse as Diverse
from adhere.plugins.choose.fk_steering import FkSteering as FkSteering
from adhere.plugins.choose.restart import Restart as Restart
from adhere.plugins.edit.concept_steering import ConceptSteering as ConceptSteering
from adhere.plugins.edit.p_plus import PPlus as PPlus
from adhere.plugins.edit.sega import Sega as Sega
from adhere.plugins.edit.time import Time as Time
from adhere.plugins.negate.delayed_negative import DelayedNegative as DelayedNegative
from adhere.plugins.negate.nag import NormalizedAttentionGuidance as NormalizedAttentionGuidance
from adhere.plugins.negate.vsf import ValueSignFlip as ValueSignFlip
from adhere.plugins.noise.best_of_noise import BestOfNoise as BestOfNoise
from adhere.plugins.noise.golden_noise import GoldenNoise as GoldenNoise
from adhere.plugins.noise.initno import InitNO as InitNO
from adhere.plugins.noise.noise_query import NoiseQuery as NoiseQuery
from adhere.plugins.place.boxdiff import BoxDiff as BoxDiff
from adhere.plugins.place.dense_diffusion import DenseDiffusion as DenseDiffusion
from adhere.plugins.place.layout_guidance import LayoutGuidance as LayoutGuidance
from adhere.plugins.place.moved_noise import MovedNoise as MovedNoise
from adhere.plugins.place.paint_with_words import PaintWithWords as PaintWithWords
from adhere.plugins.place.regional_prompting import RegionalPrompting as RegionalPrompting
from adhere.plugins.place.zestguide import ZestGuide as ZestGuide
from adhere.plugins.safe.caption_jitter import CaptionJitter as CaptionJitter
from adhere.plugins.safe.prototype import Prototype as Prototype
from adhere.plugins.safe.safe_latent_diffusion import SafeLatentDiffusion as SafeLatentDiffusion
from adhere.plugins.safe.safree import Safree as Safree
from adhere.plugins.scale.apg import Apg as Apg
from adhere.plugins.scale.cfg_zero import CfgZero as CfgZero
from adhere.prompt.markup import strip_markup as strip_markup
from adhere.prompt.parser import Parse as Parse
from adhere.prompt.parser import parse as parse
from adhere.prompt.phrases import Entity as Entity
from adhere.prompt.phrases import Span as Span
from adhere.prompt.phrases import find as find
from adhere.prompt.phrases import occurrences as occurrences
from adhere.prompt.tokens import Phrase as Phrase

__version__: str
HOMES: dict[str, str]
RENAMED: dict[str, str]

def homes() -> dict[str, str]: ...

__all__ = [
    "Apg",
    "AttendAndExcite",
    "BestOfN",
    "BestOfNoise",
    "BoundNoun",
    "BoxDiff",
    "CaptionJitter",
    "CfgZero",
    "ConceptGuidance",
    "ConceptSteering",
    "Conform",
    "DelayedNegative",
    "DenseDiffusion",
    "Diverse",
    "DivideAndBind",
    "Dos",
    "Ebama",
    "Energy",
    "EnergyMethod",
    "Entity",
    "EvaluationError",
    "Explanation",
    "ExtraMissing",
    "Finished",
    "FkSteering",
    "Focus",
    "GoldenNoise",
    "Guidance",
    "GuidanceError",
    "GuidanceWarning",
    "Guide",
    "ImageMaps",
    "InitNO",
    "Interrupted",
    "Layout",
    "LayoutError",
    "LayoutGuidance",
    "LayoutMethod",
    "Logits",
    "Look",
    "Maps",
    "Memory",
    "ModelError",
    "MovedNoise",
    "NoiseQuery",
    "NormalizedAttentionGuidance",
    "PPlus",
    "PaintWithWords",
    "ParameterError",
    "Parse",
    "Phrase",
    "Plugin",
    "Predicated",
    "Prediction",
    "PredictionGuider",
    "Prompt",
    "PromptError",
    "Prototype",
    "Read",
    "Region",
    "RegionalPrompting",
    "Regions",
    "Restart",
    "Run",
    "RunReport",
    "SafeLatentDiffusion",
    "Safree",
    "Saga",
    "Scaling",
    "Sega",
    "SelfCross",
    "Span",
    "Step",
    "SubjectGuidance",
    "SubjectMethod",
    "SynGen",
    "TemperatureAdjustedAttention",
    "Text",
    "Time",
    "ToyboxError",
    "ValueSignFlip",
    "ZestGuide",
    "__version__",
    "autopilot",
    "composed",
    "explain",
    "find",
    "guided_blocks",
    "guided_denoise",
    "load_toybox",
    "occurrences",
    "param",
    "parse",
    "planned",
    "prediction_guider",
    "scale_concept",
    "search",
    "share",
    "strip_markup",
]
