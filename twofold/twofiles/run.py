#!/usr/bin/env python3
"""A language model in two files: this program, and model.gguf beside it. Python 3.9 and NumPy are enough.

    python run.py                            talk with the model (or: chat)
    python run.py generate "Once upon a"     go on with a text
    python run.py score story.txt            how well is a text predicted? In nats, and bits per byte
    python run.py selftest                   is this file whole, and does it compute here what it should?
    python run.py info                       what is in the file?

All that the model knows is in the parameter file; this one says how to use it, and reads from top to bottom.
It opens models of the families llama, qwen2 and qwen3 in GGUF, of tensors F32, F16, BF16, Q8_0, Q4_0 and Q6_K.
Shapes: T tokens, D model width, H heads, K key-value heads, C head width, F feed-forward width, V vocabulary.
"""

import argparse
import codecs
import contextlib
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
        raise Problem("".join(c if c.isprintable() else "?" for c in fault[:1000]))  # it may quote a file


# ---- 1. The file: a GGUF is a header of named values, a list of tensors, and the tensors' bytes. ----
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
BLOCKS = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2)}  # types, weights and bytes of a block
BLOCKS.update({2: ("Q4_0", 32, 18), 8: ("Q8_0", 32, 34), 14: ("Q6_K", 256, 210)})
SPARE = 2 << 30  # bytes of memory for matrices in float32


class File:
    """The parameter file, mapped: `values` by key, `tensors` by name. Nothing that it says of itself is
    believed before it is checked, so that a damaged file gives a message and not nonsense."""

    def __init__(self, path):
        self.path, self.at, self.values, self.tensors, self.spare = path, 0, {}, {}, SPARE
        must(os.path.isfile(path) or not os.path.exists(path), f"cannot open {path}: it is no file")
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
        entries, step = [], self.get("general.alignment", int, 32)
        for _ in range(tensor_count):
            name, dimensions = self.string(), self.number("I")
            must(1 <= dimensions <= 4, f"tensor {name!r} has {dimensions} dimensions")
            shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]  # stored with the fastest first
            entries.append((name, shape, self.number("I"), self.number("Q")))
        must(step in [1 << n for n in range(3, 21)], f"its alignment is {step}")
        data = -(-self.at // step) * step
        for name, shape, kind, offset in entries:
            must(kind in BLOCKS, f"tensor {name!r} is of type {kind}, which is not known here")
            label, weights, size = BLOCKS[kind]
            whole = math.prod(shape) > 0 and shape[-1] % weights == 0 and offset % step == 0
            must(whole and name not in self.tensors, f"tensor {name!r} is listed wrongly")
            start, end = data + offset, data + offset + math.prod(shape) // weights * size
            must(end <= len(self.bytes), f"tensor {name!r} should end at byte {end}")
            rows = self.bytes[start:end].reshape(-1, shape[-1] // weights * size)
            self.tensors[name] = Matrix(self, rows, label, shape)

    def take(self, count):
        must(count <= min(len(self.bytes), 1 << 26) - self.at, "it ends too early, or lists far too much")
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
        must(8 * count <= min(len(self.bytes), 1 << 25) - self.at, "a list in it is too long")
        return [self.value(inner, depth + 1) for _ in range(count)]

    def get(self, key, kind, default=None):
        """The value of a key, if it is of that type. A key that begins with a dot is of the model's family."""
        key = self.values["general.architecture"] + key if key[0] == "." else key
        value = self.values.get(key, default)
        must(type(value) is kind, f"{self.path}: its value {key!r} is missing, or is no {kind.__name__}")
        return value


# ---- 2. Numbers: weights stay in the file as they are stored, and become float32 where they are used. ----
class Matrix:
    """Weights [rows, width] in the file. While its `spare` memory lasts, a matrix stays in float32 once used (as
    all are used in turn, to throw out the oldest would be to keep none); beyond it, each use converts rows."""

    def __init__(self, file, raw, label, shape):
        self.file, self.raw, self.label, self.shape, self.float32 = file, raw, label, shape, None

    def rows(self, which):
        """Some rows (a slice, or row numbers) in float32."""
        raw = self.raw[which]
        if self.label in ("Q8_0", "Q4_0"):  # blocks of a float16 scale and 32 whole numbers, of 8 or 4 bits
            scales, codes = np.split(raw.reshape(-1, 34 if self.label == "Q8_0" else 18), [2], axis=1)
            codes = codes if self.label == "Q8_0" else np.hstack((codes & 15, codes >> 4)) - np.uint8(8)
            return (codes.view(np.int8) * scales.copy().view("<f2").astype(np.float32)).reshape(len(raw), -1)
        if self.label == "Q6_K":  # 256 whole numbers of 4 + 2 bits, a scale for each 16, and one for these
            raw, shifts = raw.reshape(-1, 210), np.arange(0, 8, 2, dtype=np.uint8)[:, None]
            codes = (raw[:, :128].reshape(-1, 2, 1, 64) >> shifts[::2] & 15).reshape(-1, 16, 16)
            codes |= (raw[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3).reshape(-1, 16, 16) << 4
            scales = raw[:, 192:208].view(np.int8) * raw[:, 208:].copy().view("<f2").astype(np.float32)
            return ((codes.view(np.int8) - np.int8(32)) * scales[:, :, None]).reshape(-1, self.shape[-1])
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
# How each pattern cuts a text, by its name: L, N and S stand for Unicode's letters, numbers and spaces.
LATE = "'(?i:s|t|re|ve|m|ll|d)|[^\r\nLN]?[L]+|[N]{1,%d}| ?[^SLN]+[\r\n]*|[S]*[\r\n]+|[S]+(?![^S])|[S]+"
EARLY = "'(?:s|t|re|ve|m|ll|d)| ?[L]+|%s| ?[^SLN]+|[S]+(?![^S%s])|[S]+"
CUTS = {"qwen2": LATE % 1, "deepseek-r1-qwen": LATE % 1, "llama-bpe": LATE % 3}
CUTS.update({"gpt-2": EARLY % (" ?[N]+", ""), "smollm": EARLY % ("[N]", "N")})


class Tokenizer:
    """Text to token numbers and back, by what the file says."""

    def __init__(self, file):
        kind, cut = file.get("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre", str, "default")
        must(kind == "gpt2" and cut in CUTS, f"{file.path}: its tokenizer is not BPE by {', '.join(CUTS)}")
        tokens = [str(token) for token in file.get("tokenizer.ggml.tokens", list)]
        kinds = file.get("tokenizer.ggml.token_type", np.ndarray).tolist()  # 1 text, 3 control, 4 added
        pairs = [tuple(str(merge).split(" ", 1)) for merge in file.get("tokenizer.ggml.merges", list)]
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}  # the order in which they were learned
        self.whole = cut == "llama-bpe"  # a word that is a token is not put together from others
        self.begin = [file.get("tokenizer.ggml.bos_token_id", int, 0)]  # stands before every text, if wanted
        self.begin *= file.get("tokenizer.ggml.add_bos_token", bool, self.whole)
        self.stops = {self.ids[name] for name in ("<|im_end|>", "<|endoftext|>") if name in self.ids}
        self.stops.add(file.get("tokenizer.ggml.eos_token_id", int))
        fits = len(kinds) == len(tokens) and all(len(pair) == 2 for pair in pairs)
        fits &= {*ALPHABET.values(), *map("".join, pairs)} <= self.ids.keys()
        fits &= all(0 <= number < len(tokens) for number in (*self.begin, *self.stops))
        must(fits, f"{file.path}: its tokenizer is damaged: tokens, merges and kinds do not fit together")
        byte_of = {character: byte for byte, character in ALPHABET.items()}
        self.bytes = [  # of each token; control tokens are not shown
            b"" if kind == 3 else bytes(byte_of.get(c, 63) for c in token) if kind == 1 else token.encode()
            for token, kind in zip(tokens, kinds)
        ]
        self.pattern, self.words = self.cutter(file, CUTS[cut]), {}  # words: those seen, merged only once

    def cutter(self, file, pattern):
        """A pattern with its L, N and S spelled out, as Python's `re` knows no \\p{L}: by the file's ranges
        (first, last, first, last ...) or, without them, by this Python's own tables."""
        for name, initial in (("letters", "L"), ("numbers", "N"), ("spaces", "Z")):
            if "twofold.unicode." + name in file.values:
                points = file.get("twofold.unicode." + name, np.ndarray).astype(np.int64)
            else:
                known = [p for p in range(0x110000) if unicodedata.category(chr(p))[0] == initial]
                known += [9, 10, 11, 12, 13, 0x85] * (initial == "Z")  # ends of lines, and tabs
                points = np.flatnonzero(np.diff(np.bincount(known, minlength=0x110001), prepend=0))
                points[1::2] -= 1  # where a range begins, and where it has ended
            good = len(points) > 1 and len(points) % 2 == 0 and points.min() >= 0 and points[-1] <= 0x10FFFF
            must(good and (np.diff(points) >= 0).all(), f"{file.path}: its Unicode {name} are damaged")
            spelled = "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in zip(points[::2], points[1::2]))
            pattern = pattern.replace(name[0].upper(), spelled)
        return re.compile(pattern)

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
        if self.whole and "".join(parts) in self.ids:
            return [self.ids["".join(parts)]]
        parts, heap = [*parts, ""], []  # the empty part, after the last and before the first, ends the chain
        before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
        fresh = [(i, i + 1) for i in range(len(parts) - 1)]  # neighbours that are not in the heap yet
        while True:
            for i, j in fresh:
                if (parts[i], parts[j]) in self.ranks:
                    heapq.heappush(heap, (self.ranks[parts[i], parts[j]], i, parts[i], parts[j]))
            if not heap:
                return [self.ids[part] for part in parts if part]
            _, i, left, right = heapq.heappop(heap)
            j, fresh = after[i], []
            if (parts[i], parts[j]) == (left, right):  # or one was merged in the meantime
                parts[i], parts[j], after[i], before[after[j]] = left + right, "", after[j], i
                fresh = [(before[i], i), (i, after[i])]

    def message(self, role, text=None):
        """The tokens of a message in ChatML; without a text, of the opening of an answer."""
        must({"<|im_start|>", "<|im_end|>"} <= self.ids.keys(), "this model cannot chat; it can generate")
        head = [self.ids["<|im_start|>"], *self.encode(f"{role}\n{text or ''}")]
        return head if text is None else [*head, self.ids["<|im_end|>"], *self.encode("\n")]


# ---- 4. The model: a token's vector passes through the layers; in each, attention looks back once. ----
class Memory:
    """Keys and values [K, room, C] of each layer, of `length` tokens. To forget is to set `length` back."""

    def __init__(self, model):
        shape = len(model.layers), 2, model.kv_heads, 0, model.head_width
        self.layers, self.length = np.empty(shape, np.float32), 0

    def reserve(self, length):
        if length > (room := self.layers.shape[3]):
            self.layers = np.pad(self.layers, [[0, 0]] * 3 + [[0, max(256, length - room, room)], [0, 0]])


class Model:
    """The Transformer. Every parameter is found, and its shape checked, before anything is computed."""

    def __init__(self, file):
        get, tensors, family = file.get, dict(file.tensors), file.get("general.architecture", str)
        must(family in ("llama", "qwen2", "qwen3"), f"{file.path}: its family, {family}, is not known here")
        keys = "embedding_length feed_forward_length attention.head_count block_count context_length"
        D, F, H, count, context = [get("." + key, int) for key in keys.split()]
        K, C = get(".attention.head_count_kv", int, H), get(".attention.key_length", int, D // max(1, H))
        self.heads, self.kv_heads, self.head_width, V = H, K, C, len(get("tokenizer.ggml.tokens", list))
        self.context = min(context, get(".attention.sliding_window", int, context))
        self.path, self.halves = file.path, family != "llama"  # pairs are i, i + C/2, or 2i, 2i + 1
        self.epsilon = np.float32(get(".attention.layer_norm_rms_epsilon", float))
        theta = np.float32(get(".rope.freq_base", float, 1e4))
        scalings = {"none": 1.0, "linear": get(".rope.scaling.factor", float, 0.0)}
        slower = np.float32(scalings.get(get(".rope.scaling.type", str, "none"), 0))  # 0 is not known here
        possible = min(D, F, H, K, C, count) > 0 and H % K == 0 and C % 2 == 0 and self.context > 3
        possible &= bool(1 < theta < 1e12 and 0 < self.epsilon < 1 and 0 < slower < 1e6)
        possible &= all(get(k, int, C) == C for k in (".rope.dimension_count", ".attention.value_length"))
        must(possible, f"{file.path} describes no model that can be computed")

        def find(name, *shape):
            matrix = tensors.pop(name if name.endswith(".bias") else name + ".weight", None)
            must(matrix and matrix.shape == shape, f"{file.path}: there must be {name}, of {shape}")
            return matrix if len(shape) == 2 else matrix.rows(slice(None))[0]

        shapes = dict(attn_norm=(D,), attn_q=(H * C, D), attn_k=(K * C, D), attn_v=(K * C, D))
        shapes.update(attn_output=(D, H * C), ffn_norm=(D,), ffn_gate=(F, D), ffn_up=(F, D), ffn_down=(D, F))
        biases = {"attn_q.bias": (H * C,), "attn_k.bias": (K * C,), "attn_v.bias": (K * C,)}
        shapes.update(biases if family == "qwen2" or "blk.0.attn_q.bias" in tensors else {})
        shapes.update({"attn_q_norm": (C,), "attn_k_norm": (C,)} if family == "qwen3" else {})
        self.layers = [{n: find(f"blk.{i}.{n}", *shapes[n]) for n in shapes} for i in range(count)]
        self.embedding, self.norm = find("token_embd", V, D), find("output_norm", D)
        self.output = find("output", V, D) if "output.weight" in tensors else self.embedding
        self.frequencies = 1 / theta ** (np.arange(0, C, 2, dtype=np.float32) / np.float32(C))  # [C/2]
        self.frequencies /= slower * (find("rope_freqs", C // 2) if "rope_freqs.weight" in tensors else 1)
        must(not tensors, f"{file.path} holds {', '.join([*tensors][:3])}, which is not known here")

    def normed(self, x, weight):
        """x over its root mean square, times a learned weight (RMSNorm)."""
        return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) / x.shape[-1] + self.epsilon) * weight

    def read(self, tokens, memory):
        """Final vectors [T, D] of tokens after those in `memory`, in pieces, to bound the room it takes."""
        step = max(1, min(512, (1 << 24) // (self.heads * (memory.length + len(tokens)))))  # scores of 64 MB
        return np.vstack([self.read_piece(tokens[s : s + step], memory) for s in range(0, len(tokens), step)])

    def read_piece(self, tokens, memory):
        T, H, K, C, start = len(tokens), self.heads, self.kv_heads, self.head_width, memory.length
        memory.reserve(end := start + T)
        turn = np.exp(1j * np.arange(start, end, dtype=np.float32)[:, None, None] * self.frequencies)
        ahead = np.triu(np.full((T, end), -np.inf, np.float32), start + 1)  # what comes later is not seen
        x = self.embedding.rows(tokens)  # [T, D]
        for layer, (keys, values) in zip(self.layers, memory.layers):
            h = self.normed(x, layer["attn_norm"])
            q, k, v = [layer[n].times(h) + layer.get(n + ".bias", 0) for n in ("attn_q", "attn_k", "attn_v")]
            q, k, v = [y.reshape(T, -1, C) for y in (q, k, v)]
            if "attn_q_norm" in layer:
                q, k = self.normed(q, layer["attn_q_norm"]), self.normed(k, layer["attn_k_norm"])
            if self.halves:  # rotary positions: neighbours, as complex numbers, turn by an angle
                q, k = [y.reshape(T, -1, 2, C // 2).swapaxes(2, 3).reshape(y.shape) for y in (q, k)]
            q, k = [(y.view(np.complex64) * turn).view(np.float32) for y in (q, k)]
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
        """Read tokens, then yield (token, scores) without end; what `pick` chose is read when it goes on."""
        while True:
            scores = self.output.times(self.read(tokens, memory)[-1:])[0]  # [V], of each token to come next
            must(np.isfinite(scores).all(), f"{self.path} gives no proper numbers: its weights are damaged")
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
        what was printed but not yet read."""
        context, stops, token, remark = self.model.context, self.tokenizer.stops, None, ""
        room = context - memory.length - len(tokens)
        must(room > 0, f"{len(tokens)} more tokens do not fit: the model looks back on {context} in all")
        limit = min(room, self.options.max_tokens or room)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character can take several tokens
        try:
            for _, (token, _) in zip(range(limit), self.model.continuation(tokens, memory, self.pick)):
                if token in stops:
                    break
                print(decoder.decode(self.tokenizer.bytes[token]), end="", flush=True)
            else:
                remark = "the context is full" if limit == room else f"stopped after {limit} tokens"
        except KeyboardInterrupt:
            must(token is not None, "stopped before the first word")
            remark = "stopped"
        print(decoder.decode(b"", True))
        print(f"[{remark}]\n" if remark else "", end="", file=sys.stderr)
        return [] if token in stops else [token]

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
            before, asked = memory.length, [*message("user", line), *message("assistant", None)]
            try:  # after an answer, <|im_end|> and the end of the line are still unread
                unread = self.say(unread + asked, memory) + message("", "")[-2:]
            except Problem as problem:
                memory.length = before  # as if this had not been said
                print(f"[{problem}; /reset begins a new conversation]", file=sys.stderr)

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

    def greedy(self, prompt, count):
        """The tokens of a prompt and the `count` best ones after it, and each one's lead over the second best."""
        tokens, leads = self.tokenizer.begin + self.tokenizer.encode(prompt), []
        steps = self.model.continuation(tokens, Memory(self.model), lambda scores: int(scores.argmax()))
        for _, (token, scores) in zip(range(count), steps):
            tokens, leads = [*tokens, token], [*leads, float(np.diff(np.sort(scores)[-2:])[0])]
        return tokens, leads

    def selftest(self):
        prompt = self.file.get("twofold.selftest.prompt", str, "")
        told = self.file.get("twofold.selftest.tokens", np.ndarray, np.empty(0)).tolist()
        must(0 < len(told) <= self.model.context, f"{self.file.path} carries no self-test")
        count = max(len(told) - len(self.tokenizer.begin + self.tokenizer.encode(prompt)), 0)
        must(count and self.greedy(prompt, count)[0] == told, "self-test FAILED: not the tokens of its maker")
        print(f"self-test passed: {count} tokens computed, each as it should be")

    def info(self):
        tensors, model, words = self.file.tensors.values(), self.model, len(self.tokenizer.bytes)
        labels, count = sorted({t.label for t in tensors}), sum(math.prod(t.shape) for t in tensors)
        print(f"{count:,} parameters ({', '.join(labels)}), {len(self.file.bytes) / 1e6:.1f} MB")
        print(f"{len(model.layers)} layers of {model.norm.size}, {words:,} tokens, context {model.context:,}")


# ---- 7. The command line. ----
def main():
    """Read the command line, open the file, do what was asked."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("command", nargs="?", choices=["chat", "generate", "score", "selftest", "info"])
    parser.add_argument("text", nargs="?", default="", help="prompt, or file to score; - is standard input")
    for name, kind, default, meaning in (
        ("model", str, os.path.abspath(__file__ + "/../model.gguf"), "the parameter file"),
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
