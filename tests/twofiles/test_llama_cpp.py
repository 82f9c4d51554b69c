"""llama.cpp, which nobody here wrote, opens the parameter file, and scores as the folder's model does."""

from contextlib import contextmanager

import pytest
import torch
import xllamacpp

from twofold.models.load import load_model
from twofold.text.documents import Message
from twofold.tokens.chat import encode_chat

TEXT = (
    "Once upon a time there was a cat: I'll never have ONE, she said, 1874 + 12 =  34\n\nГрета! 村の人々 🙂"
)
PROMPTS = [TEXT[:length] for length in range(1, len(TEXT) + 1, 7)]
TOP = 5
ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0, "cache_prompt": False}


@contextmanager
def llama_cpp(folder):
    """A server of llama.cpp's on the loopback, without its log."""
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "model.gguf")
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 128, 1, False, -1
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    # Its flash attention rounds to float16.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    yield xllamacpp.Server(params)


def scores(model, ids):
    """Our log-probabilities of the token after `ids`, [V]."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)


def close(answer, own, most):
    """Whether llama.cpp's best log-probabilities for its first token equal ours."""
    found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return len(found) == TOP and all(abs(one["logprob"] - float(own[one["id"]])) <= most for one in found)


@pytest.mark.parametrize(
    ("name", "type", "most"),
    [
        ("tied", "f32", 2e-3),
        ("untied", "f32", 2e-3),
        ("tied", "f16", 2e-2),
        ("tied", "bf16", 0.1),
        ("tied", "q8_0", 0.1),
    ],
)
def test_llama_cpp_gives_the_scores_of_torch(name, type, most, exported):
    model, tokenizer, _ = load_model(exported(name, type) / "model.gguf")
    with llama_cpp(exported(name, type)) as server:
        compared = 0
        for prompt in PROMPTS:
            answer = server.handle_completions({"prompt": prompt, **ONE_TOKEN, "n_probs": TOP})
            ids = tokenizer.encode(prompt, start=True)
            assert answer["usage"]["prompt_tokens"] == len(ids), prompt
            own = scores(model, ids)
            if "\ufffd" not in tokenizer.decode(
                [int(own.argmax())]
            ):  # it tells no scores of half a character
                assert close(answer, own, most), prompt
                compared += 1
        assert compared >= 4


def test_llama_cpp_renders_the_chat_template_as_we_do(exported):
    model, tokenizer, _ = load_model(exported() / "model.gguf")
    messages = [Message("system", "Be short."), Message("user", "Hello  there"), Message("assistant", "Hi."),
                Message("user", "Who?")]  # fmt: skip
    ids, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
    with llama_cpp(exported()) as server:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        answer = server.handle_chat_completions(
            {"messages": turns, **ONE_TOKEN, "logprobs": True, "top_logprobs": TOP}
        )
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert close(answer, scores(model, ids), 2e-3)
