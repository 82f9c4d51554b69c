"""A tokenizer and tiny random models, exported once for all tests here."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.train import train_tokenizer
from twofold.twofiles import run
from twofold.twofiles.export import export

TEXT = """Once upon a time there was a village by the sea. In the village lived Marta, the baker, who didn't
like cats. "I'll never have one," she said; they've eaten my bread!" In 1874, on the 3rd of May, a grey cat
came to the door. It wasn't hungry: it was cold. Había una vez un pueblo. ¿Dónde vive la panadera? Привет,
Грета! 村の人々。 naïve café, e\u0301te\u0301, ŉ ſ 🙂👩‍👩‍👧 x² + 12 = 34\r\n\r\n\tif (a != b) { return c; }   \n\n"""


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT * 3], 640)


def random_model(rows: int, *, tied: bool = True, context: int = 128, seed: int = 0) -> Transformer:
    """Weights large enough that scores are far apart, and norms that are not all one."""
    config = TransformerConfig(
        vocab_size=rows, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=96, max_position_embeddings=context, tie_word_embeddings=tied,
        rope_theta=50_000.0,
    )  # fmt: skip
    model = Transformer(config)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.12)
        else:
            parameter.data.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="session")
def folders(tokenizer, tmp_path_factory):
    """Hugging Face folders of tiny models, by name."""
    root = tmp_path_factory.mktemp("models")
    for name, arguments in {
        "tied": {},
        "untied": {"tied": False, "seed": 1},
        "base": {"seed": 2},
        "long": {"context": 2048, "seed": 3},
    }.items():
        model = random_model(tokenizer.vocab_size, **arguments)
        save_folder(root / name, model, tokenizer, chat=name != "base")
    return root


@pytest.fixture(scope="session")
def exported(folders, tmp_path_factory):
    """A function (folder's name, type) -> the folder with the two files; each is made once."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def make(name: str = "tied", type: str = "f32") -> Path:
        if (name, type) not in made:
            made[name, type] = export(folders / name, root / f"{name}-{type}", type=type).folder
        return made[name, type]

    return make


@pytest.fixture(scope="session")
def opened(exported):
    """A function like `exported` that gives run.py's Session of the file."""

    def open_(name: str = "tied", type: str = "f32") -> run.Session:
        path = exported(name, type) / "model.gguf"
        options = SimpleNamespace(model=str(path), seed=0, temperature=0.0, max_tokens=0, system=None)
        return run.Session(options)

    return open_
