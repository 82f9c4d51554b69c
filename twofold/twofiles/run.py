#!/usr/bin/env python3
"""A language model in two files: this program, and model.gguf beside it. Python 3.9 and NumPy are enough.

    python run.py                            talk with the model (or: chat)
    python run.py generate "Once upon a"     go on with a text
    python run.py score story.txt            how well is a text predicted? In nats, and bits per byte
    python run.py selftest                   is this file whole, and does it compute here what it should?
    python run.py info                       what is in the file?

All that the model knows is in the parameter file; this one says how to use it, and reads from top to bottom.
It opens Qwen3 models (arXiv 2505.09388) in GGUF whose tensors are F32, F16, BF16 or Q8_0.
Shapes: T tokens, D model width, H heads, K key-value heads, C head width, F feed-forward width, V vocabulary.
"""

# ruff: noqa: B905 - zip(strict=...) is newer than Python 3.9
import argparse
import codecs
import contextlib
import hashlib
import heapq
import math
import os
import re
import struct
import sys
import unicodedata

import numpy as np


class Problem(Exception):
    """Something a person can understand and mend; shown without a traceback."""


def must(good, fault):
    """Raise a Problem unless things are as they should be."""
    if not good:
        raise Problem(fault)


# ---- 1. The file: a GGUF is a header of named values, a list of tensors, and the tensors' bytes. ----
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2)}  # weights, bytes


class File:
    """The parameter file, mapped: `values` by key, `tensors` by name. Nothing that it says of itself is
    believed before it is checked, so that a damaged file gives a message and not nonsense."""

    spare = 2 << 30  # bytes of memory for matrices in float32

    def __init__(self, path):
        self.path, self.at, self.values, self.tensors = path, 0, {}, {}
        try:
            self.bytes = np.memmap(path, np.uint8, "r").view(np.ndarray)
            self.parse()
        except OSError as error:
            raise Problem(f"cannot open {path}: {error.strerror}") from error
        except (ValueError, Problem) as error:
            raise Problem(f"{path} cannot be used: no GGUF, damaged or cut short? {error}") from error

    def parse(self):
        must(bytes(self.take(4)) == b"GGUF", "it does not begin with the letters GGUF")
        version, tensor_count, value_count = self.number("I"), self.number("Q"), self.number("Q")
        must(version in (2, 3), f"it is of version {version}; 2 and 3 are known")
        must(24 * tensor_count + 13 * value_count <= len(self.bytes), "it announces more than it has")
        for _ in range(value_count):
            key = self.string()
            self.values[key] = self.value(self.number("I"))
        entries = []
        for _ in range(tensor_count):
            name, dimensions = self.string(), self.number("I")
            must(1 <= dimensions <= 4, f"tensor {name!r} has {dimensions} dimensions")
            shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]  # stored with the fastest first
            entries.append((name, shape, self.number("I"), self.number("Q")))
        step = self.get("general.alignment", int, 32)
        must(step in [1 << n for n in range(3, 21)], f"its alignment is {step}")
        data = -(-self.at // step) * step
        for name, shape, kind, offset in entries:
            must(kind in TYPES, f"tensor {name!r} is of type {kind}; F32, F16, BF16, Q8_0 can be used")
            label, weights, size = TYPES[kind]
            whole = math.prod(shape) > 0 and shape[-1] % weights == 0 and offset % step == 0
            must(whole and name not in self.tensors, f"tensor {name!r} is listed wrongly")
            start, end = data + offset, data + offset + math.prod(shape) // weights * size
            must(end <= len(self.bytes), f"tensor {name!r} should end at byte {end}")
            rows = self.bytes[start:end].reshape(-1, shape[-1] // weights * size)
            self.tensors[name] = Matrix(self, rows, label, shape)

    def take(self, count):
        must(count <= len(self.bytes) - self.at, "it ends too early")
        self.at += count
        return self.bytes[self.at - count : self.at].data

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self):
        return str(self.take(self.number("Q")), "utf-8")

    def value(self, kind, depth=0):
        """A number, a text, a list of texts, or an array of numbers (NumPy's)."""
        if kind in SCALARS or kind == 8:
            return self.string() if kind == 8 else self.number(SCALARS[kind])
        must(kind == 9 and depth < 4, "a value in it is of an unknown kind")
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:
            return np.frombuffer(self.take(count * struct.calcsize(SCALARS[inner])), "<" + SCALARS[inner])
        must(8 * count <= len(self.bytes) - self.at, "a list is longer than the file")
        return [self.value(inner, depth + 1) for _ in range(count)]

    def get(self, key, kind, default=None):
        """The value of a key if it is of that Python type. Without a default, the key must be there."""
        value = self.values.get(key, default)
        must(type(value) is kind, f"{self.path}: its value {key!r} is missing, or is no {kind.__name__}")
        return value


# ---- 2. Numbers: weights stay in the file as they are stored, and become float32 where they are used. ----
class Matrix:
    """Weights [rows, width] in the file. While the file's `spare` memory lasts, a matrix is kept in float32
    once it was used (a model uses its matrices in turn: to throw out the oldest would be to keep none);
    beyond that it is converted at each use, a block of rows at a time. F32 is used where it lies."""

    def __init__(self, file, raw, label, shape):
        self.file, self.raw, self.label, self.shape, self.float32 = file, raw, label, shape, None

    def rows(self, which):
        """Some rows (a slice, or row numbers) in float32."""
        raw = self.raw[which]
        if self.label == "Q8_0":  # blocks of a float16 scale and 32 whole numbers
            blocks = raw.reshape(len(raw), -1, 34)
            scales = blocks[:, :, :2].copy().view("<f2").astype(np.float32)
            return (blocks[:, :, 2:].view(np.int8) * scales).reshape(len(raw), -1)
        if self.label == "BF16":  # the upper half of a float32
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        return raw.view("<f2").astype(np.float32) if self.label == "F16" else raw.view("<f4")

    def times(self, x):
        """x [T, width] -> [T, rows]."""
        size = 0 if self.label == "F32" else 4 * math.prod(self.shape)
        if self.float32 is None and size <= self.file.spare:
            self.float32, self.file.spare = self.rows(slice(None)), self.file.spare - size
        if self.float32 is not None:
            return x @ self.float32.T
        step = max(1, (1 << 24) // self.shape[-1])
        return np.hstack([x @ self.rows(slice(s, s + step)).T for s in range(0, len(self.raw), step)])


# ---- 3. Text and tokens: byte-level BPE. Text is cut into words, whose bytes are merged pair by pair. ----
# A vocabulary is written in visible characters (GPT-2's custom): Ġ is the space, Ċ the end of a line.
PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
ALPHABET = dict(zip(sorted(range(256), key=lambda b: b not in PLAIN), map(chr, [*PLAIN, *range(256, 324)])))


class Tokenizer:
    """Text to token numbers and back, by what the file says."""

    def __init__(self, file):
        algorithm = file.get("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre", str)
        must(algorithm == ("gpt2", "qwen2"), "the tokenizer is not byte-level BPE with the qwen2 pattern")
        tokens = [str(token) for token in file.get("tokenizer.ggml.tokens", list)]
        kinds = file.get("tokenizer.ggml.token_type", np.ndarray).tolist()  # 1 text, 3 control, 4 added
        pairs = [tuple(str(merge).split(" ", 1)) for merge in file.get("tokenizer.ggml.merges", list)]
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}  # the order in which they were learned
        self.begin = [file.get("tokenizer.ggml.bos_token_id", int, 0)]  # stands before every text, if wanted
        self.begin *= file.get("tokenizer.ggml.add_bos_token", bool, False)
        self.stops = {self.ids[name] for name in ("<|im_end|>", "<|endoftext|>") if name in self.ids}
        self.stops.add(file.get("tokenizer.ggml.eos_token_id", int))
        whole = len(kinds) == len(tokens) and all(len(pair) == 2 for pair in pairs)
        whole &= {*ALPHABET.values(), *map("".join, pairs)} <= self.ids.keys()
        whole &= all(0 <= number < len(tokens) for number in (*self.begin, *self.stops))
        must(whole, "the tokenizer in the file is damaged: its tokens, merges and kinds do not fit together")
        byte_of = {character: byte for byte, character in ALPHABET.items()}
        self.bytes = [  # of each token; control tokens are not shown
            b"" if kind == 3 else bytes(byte_of.get(c, 63) for c in token) if kind == 1 else token.encode()
            for token, kind in zip(tokens, kinds)
        ]
        self.pattern, self.words = self.cutter(file), {}  # words: the tokens of those seen, merged only once

    def cutter(self, file):
        """The qwen2 pattern. Python's `re` knows no \\p{L}, so letters, numbers and spaces are spelled out:
        by the file's ranges (first, last, first, last ...) or, without them, by this Python's own tables."""
        classes = []
        for name, initial in (("letters", "L"), ("numbers", "N"), ("spaces", "Z")):
            if "twofold.unicode." + name in file.values:
                points = file.get("twofold.unicode." + name, np.ndarray).astype(np.int64)
            else:
                known = [p for p in range(0x110000) if unicodedata.category(chr(p))[0] == initial]
                known += [9, 10, 11, 12, 13, 0x85] * (initial == "Z")  # ends of lines, and tabs
                points = np.flatnonzero(np.diff(np.bincount(known, minlength=0x110001), prepend=0))
                points[1::2] -= 1  # where a range begins, and where it has ended
            good = len(points) > 1 and len(points) % 2 == 0 and points.min() >= 0 and points[-1] <= 0x10FFFF
            must(good and (np.diff(points) >= 0).all(), f"the table of Unicode {name} is damaged")
            classes.append("".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in zip(points[::2], points[1::2])))
        letter, number, space = classes
        return re.compile(
            "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"  # the ends of it's, I've, they'll
            f"|[^\r\n{letter}{number}]?[{letter}]+"  # a word, with the space or sign before it
            f"|[{number}]"  # digits one by one
            f"| ?[^{space}{letter}{number}]+[\r\n]*"  # signs
            f"|[{space}]*[\r\n]+|[{space}]+(?![^{space}])|[{space}]+"  # space; the last goes with the word
        )

    def encode(self, text):
        """Token numbers of a text. Special tokens spelled out in it stay plain text."""
        tokens, text = [], text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # no halves
        for word in self.pattern.findall(text):
            if word not in self.words:
                self.words[word] = self.merge([ALPHABET[byte] for byte in word.encode()])
            tokens += self.words[word]
        return tokens

    def merge(self, parts):
        """Merge neighbours, the pair learned first before others; by a heap, as words can be very long."""
        parts, heap = [*parts, ""], []  # the empty part, after the last and before the first, ends the chain
        before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))

        def consider(i, j):
            if (parts[i], parts[j]) in self.ranks:
                heapq.heappush(heap, (self.ranks[parts[i], parts[j]], i, parts[i], parts[j]))

        for i in range(len(parts) - 1):
            consider(i, i + 1)
        while heap:
            _, i, left, right = heapq.heappop(heap)
            j = after[i]
            if (parts[i], parts[j]) == (left, right):  # or one was merged with another in the meantime
                parts[i], parts[j], after[i], before[after[j]] = left + right, "", after[j], i
                consider(before[i], i)
                consider(i, after[i])
        return [self.ids[part] for part in parts if part]

    def message(self, role, text=None):
        """The tokens of a message in ChatML; without a text, of the opening of an answer."""
        must({"<|im_start|>", "<|im_end|>"} <= self.ids.keys(), "this model cannot chat; it can generate")
        head = [self.ids["<|im_start|>"], *self.encode(f"{role}\n{text or ''}")]
        return head if text is None else [*head, self.ids["<|im_end|>"], *self.encode("\n")]


# ---- 4. The model: a token's vector passes through the layers; in each, attention looks back once. ----
class Memory:
    """Keys and values [K, room, C] of each layer, of `length` tokens. To forget is to set `length` back."""

    def __init__(self, model):
        empty = np.empty((model.kv_heads, 0, model.head_width), np.float32)
        self.keys, self.values, self.length = [empty] * len(model.layers), [empty] * len(model.layers), 0

    def reserve(self, length):
        room = self.keys[0].shape[1]
        if length > room:
            more = ((0, 0), (0, max(256, length, 2 * room) - room), (0, 0))
            self.keys, self.values = [[np.pad(a, more) for a in x] for x in (self.keys, self.values)]


class Model:
    """The Transformer. Every parameter is found, and its shape checked, before anything is computed."""

    def __init__(self, file):
        family = file.get("general.architecture", str)
        must(family == "qwen3", f"{file.path} holds a model of the family {family}; qwen3 can be used")
        keys = "embedding_length feed_forward_length attention.head_count attention.head_count_kv"
        keys += " attention.key_length context_length block_count"
        D, F, H, K, C, self.context, count = sizes = [file.get("qwen3." + key, int) for key in keys.split()]
        V, tensors = len(file.get("tokenizer.ggml.tokens", list)), file.tensors
        self.heads, self.kv_heads, self.head_width = H, K, C
        self.epsilon = np.float32(file.get("qwen3.attention.layer_norm_rms_epsilon", float))
        theta = np.float32(file.get("qwen3.rope.freq_base", float))
        possible = min(sizes) > 0 and H % K == 0 and C % 2 == 0 and 1 < theta < 1e12 and 0 < self.epsilon < 1
        plain = file.get("qwen3.rope.scaling.type", str, "none") == "none"
        must(possible and plain and self.context > 3, f"{file.path} describes no model that can be computed")

        def find(name, *shape):
            matrix = tensors.get(name + ".weight")
            must(matrix is not None and matrix.shape == shape, f"there must be {name}.weight, of {shape}")
            return matrix if len(shape) == 2 else matrix.rows(slice(None))[0]

        shapes = {"attn_norm": (D,), "attn_q": (H * C, D), "attn_k": (K * C, D), "attn_v": (K * C, D)}
        shapes.update({"attn_q_norm": (C,), "attn_k_norm": (C,), "attn_output": (D, H * C)})
        shapes.update({"ffn_norm": (D,), "ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F)})
        self.layers = [{n: find(f"blk.{i}.{n}", *shapes[n]) for n in shapes} for i in range(count)]
        self.embedding, self.norm = find("token_embd", V, D), find("output_norm", D)
        self.output = find("output", V, D) if "output.weight" in tensors else self.embedding
        self.frequencies = 1 / theta ** (np.arange(0, C, 2, dtype=np.float32) / np.float32(C))  # [C/2]

    def normed(self, x, weight):
        """x over its root mean square, times a learned weight (RMSNorm)."""
        return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) / x.shape[-1] + self.epsilon) * weight

    def read(self, tokens, memory):
        """Read tokens after those in `memory`; their final vectors [T, D]. Long texts go in pieces of 512, or
        of fewer where attention's scores would take more than 64 MB."""
        step = max(1, min(512, (1 << 24) // (self.heads * (memory.length + len(tokens)))))
        return np.vstack([self.read_piece(tokens[s : s + step], memory) for s in range(0, len(tokens), step)])

    def read_piece(self, tokens, memory):
        T, H, K, C, start = len(tokens), self.heads, self.kv_heads, self.head_width, memory.length
        end = start + T
        memory.reserve(end)
        places = np.arange(start, end)[:, None]  # [T, 1]
        angles = places.astype(np.float32)[:, None] * self.frequencies  # [T, 1, C/2]
        cos, sin = np.cos(angles), np.sin(angles)
        ahead = np.where(np.arange(end) > places, np.float32(-np.inf), np.float32(0))  # [T, end]

        def turned(x):  # rotary positions: the pair (i, i + C/2) is turned by its angle
            first, second = x[..., : C // 2], x[..., C // 2 :]
            return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)

        x = self.embedding.rows(tokens)  # [T, D]
        for layer, keys, values in zip(self.layers, memory.keys, memory.values):
            h = self.normed(x, layer["attn_norm"])
            q = turned(self.normed(layer["attn_q"].times(h).reshape(T, H, C), layer["attn_q_norm"]))
            k = turned(self.normed(layer["attn_k"].times(h).reshape(T, K, C), layer["attn_k_norm"]))
            v = layer["attn_v"].times(h).reshape(T, K, C)
            keys[:, start:end], values[:, start:end] = k.swapaxes(0, 1), v.swapaxes(0, 1)
            q = q.reshape(T, K, H // K, C).transpose(1, 2, 0, 3).reshape(K, -1, C) * np.float32(C**-0.5)
            scores = (q @ keys[:, :end].swapaxes(1, 2)).reshape(K, H // K, T, end) + ahead
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            mixed = (scores.reshape(K, -1, end) @ values[:, :end]).reshape(K, H // K, T, C)
            x = x + layer["attn_output"].times(mixed.transpose(2, 0, 1, 3).reshape(T, H * C))
            h = self.normed(x, layer["ffn_norm"])
            gate = layer["ffn_gate"].times(h)
            gate *= 0.5 + 0.5 * np.tanh(0.5 * gate)  # gate · sigmoid(gate); tanh never overflows
            x = x + layer["ffn_down"].times(gate * layer["ffn_up"].times(h))
        memory.length = end
        return self.normed(x, self.norm)

    def continuation(self, tokens, memory, pick):
        """Read tokens, then yield (token, scores) one after another without end: `pick` chooses a token, and
        the model reads it only when the next one is asked for."""
        while True:
            scores = self.output.times(self.read(tokens, memory)[-1:])[0]  # [V], of each token to come next
            must(np.isfinite(scores).all(), "the model computes no proper numbers: its weights are damaged")
            tokens = [pick(scores)]
            yield tokens[0], scores


# ---- 5. Choosing: scores -> temperature -> top-k -> top-p -> min-p -> one token. ----
def choose(scores, options, random):
    """Draw the next token from scores [V]; with temperature 0, take the best."""
    if options.temperature == 0:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable")[: options.top_k or None]  # the best first
    chances = np.exp((scores[order] - scores[order[0]]).astype(np.float64) / options.temperature)
    before = np.cumsum(chances) - chances  # what the better ones make up
    chances[(before >= options.top_p * chances.sum()) | (chances < options.min_p * chances[0])] = 0
    return int(random.choice(order, p=chances / chances.sum()))


# ---- 6. Using it: going on with a text, conversation, scoring, self-test. ----
class Session:
    """An open model, and what can be done with it: each command of the command line is a method."""

    def __init__(self, options):
        self.options, self.file, random = options, File(options.model), np.random.default_rng(options.seed)
        self.model, self.tokenizer = Model(self.file), Tokenizer(self.file)
        self.pick = lambda scores: choose(scores, options, random)

    def say(self, tokens, memory):
        """Read tokens, then print an answer as it comes, until the model, a limit or Ctrl-C ends it. Returns
        what was printed but not yet read, or None if nothing was."""
        context, stops, token, remark = self.model.context, self.tokenizer.stops, None, ""
        room = context - memory.length - len(tokens)
        must(room > 0, f"{len(tokens)} more tokens do not fit: the model looks back on {context} in all")
        limit = min(room, self.options.max_tokens or room)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character can take several tokens
        try:
            for count, (token, _) in enumerate(self.model.continuation(tokens, memory, self.pick), 1):
                if token in stops:
                    break
                print(decoder.decode(self.tokenizer.bytes[token]), end="", flush=True)
                if count == limit:
                    remark = "the context is full" if limit == room else f"stopped after {limit} tokens"
                    break
        except KeyboardInterrupt:
            remark = "stopped"
        print(decoder.decode(b"", True))
        print(f"[{remark}]\n" if remark else "", end="", file=sys.stderr)
        return None if token is None else [] if token in stops else [token]

    def generate(self):
        prompt = sys.stdin.read() if self.options.text == "-" else self.options.text
        tokens = self.tokenizer.begin + self.tokenizer.encode(prompt)
        must(tokens, "this model needs a text to begin with")
        print(prompt, end="", flush=True)
        self.say(tokens, Memory(self.model))

    def chat(self):
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - line editing for input(), where there is one
        print("Talk with the model. /reset forgets the conversation, Ctrl-C stops an answer, Ctrl-D ends.")
        message, line = self.tokenizer.message, "/reset"
        while True:
            if line == "/reset":  # `unread`: what the model has to read before the next message
                memory, unread = Memory(self.model), list(self.tokenizer.begin)
                unread += message("system", self.options.system) if self.options.system else []
            try:
                line = input("\n> ").strip()
            except (EOFError, KeyboardInterrupt):
                return print()
            if line in ("", "/reset"):
                continue
            before, rest = memory.length, None
            try:
                rest = self.say([*unread, *message("user", line), *message("assistant", None)], memory)
            except Problem as problem:
                print(f"[{problem}; /reset begins a new conversation]", file=sys.stderr)
            if rest is None:
                memory.length = before  # as if this had not been said
            else:
                unread = rest + message("", "")[-2:]  # <|im_end|> and the end of the line

    def score(self):
        """The log-probability of a text: of a long one, in windows that overlap by half a context."""
        model, name, begin = self.model, self.options.text, self.tokenizer.begin
        try:
            with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
                data = file.read()
            tokens = self.tokenizer.encode(data.decode("utf-8"))
        except (OSError, ValueError) as error:
            raise Problem(f"cannot read {name!r} as UTF-8 text: {error}") from error
        total, at = 0.0, 0 if begin else 1
        must(len(tokens) > at, "there is nothing to score: the text is empty")
        while at < len(tokens):
            back = min(at, (model.context - 1) // 2)
            window = begin + tokens[at - back : at - back + model.context - len(begin)]
            given = len(begin) + back  # the rest is scored
            vectors = model.read(window[:-1], Memory(model))[given - 1 :]
            for i in range(0, len(vectors), 64):
                scores = model.output.times(vectors[i : i + 64]).astype(np.float64)
                scores -= scores.max(axis=1, keepdims=True)
                scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
                total += scores[range(len(scores)), window[given + i :][: len(scores)]].sum()
            at += len(vectors)
        print(f"{total:.4f} nats, {-total / math.log(2) / len(data):.4f} bits per byte")
        print(f"{len(tokens) - (not begin)} tokens, {len(data)} bytes, in windows of {model.context} tokens")

    def fingerprint(self, prompt, count):
        """A digest of a prompt and `count` greedy tokens after it, and each one's lead over the second best."""
        tokens, leads = self.tokenizer.begin + self.tokenizer.encode(prompt), []
        steps = self.model.continuation(tokens, Memory(self.model), lambda scores: int(scores.argmax()))
        for _, (token, scores) in zip(range(count), steps):
            tokens, leads = [*tokens, token], [*leads, float(np.diff(np.sort(scores)[-2:])[0])]
        return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest(), leads

    def selftest(self):
        kinds = {"prompt": str, "tokens": int, "sha256": str}
        prompt, count, digest = [self.file.get(f"twofold.selftest.{k}", t, t()) for k, t in kinds.items()]
        must(0 < count < self.model.context, f"{self.file.path} carries no self-test")
        must(self.fingerprint(prompt, count)[0] == digest, "self-test FAILED: not the tokens of its maker")
        print(f"self-test passed: {count} tokens computed, each as it should be")

    def info(self):
        tensors, model, words = self.file.tensors.values(), self.model, len(self.tokenizer.bytes)
        labels, count = sorted({t.label for t in tensors}), sum(math.prod(t.shape) for t in tensors)
        print(f"{count:,} parameters ({', '.join(labels)}), {len(self.file.bytes) / 1e6:.1f} MB")
        print(f"{len(model.layers)} layers of {model.norm.size}, {words:,} tokens, context {model.context:,}")


# ---- 7. The command line. ----
def main():
    """Read the command line, open the file, do what was asked."""
    style, beside = argparse.RawDescriptionHelpFormatter, os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("command", nargs="?", choices=["chat", "generate", "score", "selftest", "info"])
    parser.add_argument("text", nargs="?", default="", help="prompt, or file to score; - is standard input")
    for name, kind, default, meaning in (
        ("model", str, os.path.join(beside, "model.gguf"), "the parameter file"),
        ("temperature", float, 0.8, "0 takes the best token; 1 draws by the model's own chances"),
        ("top-k", int, 0, "draw from the best k only; 0 is all"),
        ("top-p", float, 1.0, "draw from the best that make up this probability"),
        ("min-p", float, 0.0, "leave out what has less than this share of the best one's chance"),
        ("seed", int, None, "the same number gives the same text"),
        ("max-tokens", int, 0, "stop after so many; 0 is when the model or its context ends"),
        ("system", str, None, "an instruction before the conversation"),
    ):
        parser.add_argument("--" + name, type=kind, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--selftest", action="store_true", help="the same as the command selftest")
    options = parser.parse_intermixed_args()
    command = "selftest" if options.selftest else options.command or ("chat" if sys.stdin.isatty() else None)
    positive = (options.temperature, options.top_k, options.max_tokens, options.min_p, options.seed or 0)
    good = all(0 <= number < math.inf for number in positive) and 0 < options.top_p <= 1 >= options.min_p
    must(good, "the numbers given cannot be negative, nor top-p and min-p above 1")
    return getattr(Session(options), command)() if command else parser.print_help()


if __name__ == "__main__":
    np.seterr(all="ignore")  # what is no number any more is told in words
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # a closed one leads nowhere
        setattr(sys, name, getattr(sys, name) or open(os.devnull, mode))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="replace")  # what cannot be read, or shown, becomes "?"
    try:
        sys.exit(main() or sys.stdout.flush())
    except Problem as problem:
        sys.exit(f"run.py: {problem}.")
    except (KeyboardInterrupt, BrokenPipeError):  # the person, or who reads our output, has had enough
        os._exit(130)
    except OSError as error:  # such as a full disk under our output
        os._exit(print(f"run.py: cannot go on: {error.strerror}.", file=sys.stderr) or 1)
