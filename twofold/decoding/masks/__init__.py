"""What a text may be: masks over the next token, so that a model can only write what a format allows.

A mask is a small description (`Choices`, `Regex`, `JsonSchema`, `Grammar`, `PythonMask`). `compile` turns it
into a state over one tokenizer's vocabulary; a state says which tokens may come next and gives the state
after one of them. States never change, so a branch of a search forks for free.

A mask that cannot be held exactly is refused, with the reason: never a weaker one. The stop tokens are
allowed exactly where the text may end. Regular expressions, JSON schemas and grammars run on llguidance
(MIT, github.com/guidance-ai/llguidance); what it accepts but reads otherwise is checked or rewritten here.

Cutting a model's distribution down token by token samples from Π p(token | allowed), not from the model
given the format ("Grammar-Aligned Decoding", arXiv 2405.21047): a decoder that records the allowed mass of
each step can say how hard the mask pushed, and correct for it.
"""

from twofold.decoding.masks.choices import Choices
from twofold.decoding.masks.grammar import Grammar
from twofold.decoding.masks.json_schema import JsonSchema
from twofold.decoding.masks.mask import Mask, MaskState
from twofold.decoding.masks.python_mask import PythonMask
from twofold.decoding.masks.regex import Regex
from twofold.decoding.masks.vocabulary import MaskVocabulary

__all__ = ["Choices", "Grammar", "JsonSchema", "Mask", "MaskState", "MaskVocabulary", "PythonMask", "Regex"]
