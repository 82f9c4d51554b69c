"""Every way to choose: each decoder is a program that the engine runs beside others."""

from twofold.decoding.decoders.bayes_risk import MinimumBayesRisk
from twofold.decoding.decoders.beam import Beam, DiverseBeam
from twofold.decoding.decoders.contrastive import Contrastive
from twofold.decoding.decoders.decoder import Answer, Decoder, Rows, States
from twofold.decoding.decoders.required import RequiredWords
from twofold.decoding.decoders.sample import BestOf, Sample
from twofold.decoding.decoders.speculative import Speculative
from twofold.decoding.decoders.stochastic_beam import StochasticBeam

__all__ = [
    "Answer", "Beam", "BestOf", "Contrastive", "Decoder", "DiverseBeam", "MinimumBayesRisk", "RequiredWords",
    "Rows", "Sample", "Speculative", "States", "StochasticBeam",
]  # fmt: skip
