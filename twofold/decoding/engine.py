"""One engine for all requests: it gathers what every decoder asks for into one forward pass.

A decoder is a program that yields branches and is sent their scores. Each step the engine takes the open
questions of all requests, decodes first and prompts in pieces beside them, reads them in one pass, and
sends the answers. Who waits drives: `Request` is an iterator that steps the engine until it has something
new, and takes everybody else's requests along.

Sources: iteration-level scheduling (Orca, OSDI 2022); chunked prefill (Sarathi-Serve, arXiv 2403.02310).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from twofold.decoding.branch import Tree
from twofold.decoding.decoders.decoder import Decoder, Rows, States
from twofold.decoding.distribution import as_scores
from twofold.decoding.draw import Draw, Drawing, draw, learn_forced
from twofold.decoding.request import Item, OutOfTime, Request
from twofold.decoding.task import Task
from twofold.errors import UsageError
from twofold.models.language_model import Ask, ContextFull, LanguageModel, Memory, MemoryFull

SMALL = 16  # tokens: a question up to this size never waits for prompts
MOST_ROWS = 512  # of scores in one step


class Engine:
    """Requests over one `LanguageModel`.

    pages: how many pages of memory there are; None: as many as it takes. most_requests: how many run at
    once, the others wait. budget: tokens read in one step. cached: tokens of past prompts and answers that
    are kept for those who begin alike. vocab_size: how many tokens can be chosen (models pad theirs).

    May be used by many threads: one steps at a time.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        memory: Memory | None = None,
        pages: int | None = None,
        most_requests: int = 64,
        budget: int = 512,
        cached: int = 1 << 16,
        vocab_size: int | None = None,
    ) -> None:
        if most_requests < 1 or budget < 1:
            raise UsageError(f"most_requests and budget must be 1 or more: {most_requests}, {budget}.")
        self.tree = Tree(model, memory, pages=pages, cached=cached)
        self.vocab_size = model.vocab_size if vocab_size is None else vocab_size
        self.most_requests = most_requests
        self.budget = budget
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.steps = 0
        self._lock = threading.RLock()
        self._others: dict[int, Tree] = {}

    def submit(
        self,
        prompt: Sequence[int],
        decoder: Decoder,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> Request:
        """Queue a prompt (token ids, at least one). `options`: those of `Task`; timeout in seconds.

        Raises UsageError for a prompt that cannot be.
        """
        context = self.tree.model.context_length
        if not len(prompt):
            raise UsageError("A prompt has no tokens at all; begin it with <|endoftext|>.")
        if len(prompt) > context:
            raise UsageError(
                f"The prompt has {len(prompt):,} tokens, and this model's context holds {context:,}. "
                f"Shorten it by {len(prompt) - context:,}."
            )
        if not 0 <= min(prompt) <= max(prompt) < self.tree.model.vocab_size:
            raise UsageError(
                f"The prompt has a token that this model does not know; there are {self.tree.model.vocab_size:,}."
            )
        adapter, adapters = options.get("adapter"), getattr(self.tree.model, "adapters", ())
        if adapter is not None and adapter not in adapters:
            have = f"It has: {', '.join(adapters)}." if adapters else "It was opened without any."
            raise UsageError(f"This model has no adapter {adapter!r}. {have}")
        task = Task(self.tree, prompt, vocab_size=self.vocab_size, **options)
        task.other = self.other
        deadline = None if timeout is None else time.monotonic() + timeout
        request = Request(self, task, decoder.program(task), deadline)
        if task.max_tokens == 0:
            request.done = True
            return request
        with self._lock:
            self.waiting.append(request)
        return request

    def other(self, model: LanguageModel) -> Tree:
        """The branches over a second model (a draft), which programs may ask too."""
        if model is self.tree.model:
            return self.tree
        if id(model) not in self._others:
            self._others[id(model)] = Tree(model, cached=self.tree.cache.most)
        return self._others[id(model)]

    def drive(self, request: Request) -> None:
        """Step until `request` has choices to tell or is over."""
        while not request.task.events and not request.done:
            with self._lock:
                if not request.task.events and not request.done:
                    self.step()

    def step(self) -> None:
        """One forward pass for each model that is asked, and all the answers it makes possible."""
        with self._lock:
            self.steps += 1
            self._expire()
            self._admit()
            items: defaultdict[Tree, list[Item]] = defaultdict(list)
            for request in sorted(self.running, key=attrgetter("served")):  # the longest wait comes first
                for item in request.items:
                    if item.among is None:
                        items[item.branch.tree].append(item)
            for tree, asked in items.items():
                self._read(tree, asked)
            del items
            self._answer([r for r in self.running if r.question is not None and r.is_answered])
            self._free()

    def finish(self, request: Request, error: BaseException | None = None) -> None:
        """End a request and free its branches; `error` is told to whoever waits for it."""
        with self._lock:
            if request.done:
                return
            request.done, request.error = True, error
            request.question, request.items = None, []
            try:
                request.program.close()
            finally:
                for queue in (self.running, self.waiting):
                    if request in queue:
                        queue.remove(request)
                for tree in self._trees:
                    tree.take_back(request.task)
                self._free()

    def close(self) -> None:
        """Cancel everything and free all that was kept."""
        with self._lock:
            for request in [*self.running, *self.waiting]:
                self.finish(request)
            self._free()
            for tree in self._trees:
                tree.cache.clear()

    @property
    def _trees(self) -> list[Tree]:
        return [self.tree, *self._others.values()]

    def _free(self) -> None:
        for tree in self._trees:
            tree.free_dropped()

    def _expire(self) -> None:
        now = time.monotonic()
        for request in [r for r in (*self.running, *self.waiting) if r.deadline and r.deadline < now]:
            request.timed_out = True
            late = (
                None if request.task.has_told else OutOfTime("The time-out came before anything was certain.")
            )
            self.finish(request, late)

    def _admit(self) -> None:
        """Start requests that wait, as far as places and memory allow; the first one always."""
        while self.waiting and len(self.running) < self.most_requests:
            request = self.waiting[0]
            memory = self.tree.memory
            free = memory.pages_free()
            if free is not None and self.running:
                tokens = sum(item.branch.length - item.branch.read for item in request.items)
                needed = (tokens or len(request.task.prompt)) // memory.page_size + 1 + len(self.running)
                kept = self.tree.cache.tokens // memory.page_size
                if needed > free + kept:
                    return
            self.waiting.popleft()
            self.running.append(request)
            if not request.started:
                request.started = True
                self._send(request, None)

    def _send(self, request: Request, value: Any) -> None:
        """Let a program go on to its next question, or to its end."""
        request.question, request.items = None, []
        try:
            question = request.program.send(value)
            request.items = self._items(request, question)
            request.question = question
        except StopIteration as stop:
            request.answers = list(stop.value or ())
            for answer in request.answers:
                answer.branch.keep()
            self.finish(request)
        except Exception as error:
            self.finish(request, error)

    def _items(self, request: Request, question: Any) -> list[Item]:
        """A question as the branches to read, each once."""
        if isinstance(question, Draw):
            items = _drawn_items(request, question)
        else:
            states = isinstance(question, States)
            asked = question.asked if states else question
            pairs = [(q.branch, q.rows) if isinstance(q, Rows) else (q, 1) for q in asked]
            items = [Item(branch, rows, request, wants_states=states) for branch, rows in pairs]
            if states and not hasattr(self.tree.model, "scores_and_states"):
                raise UsageError("This kind of model does not show its activations, which the decoder needs.")
        for item in items:
            context = item.branch.tree.model.context_length
            if item.branch.length > context:
                raise ContextFull(
                    f"A text of {item.branch.length:,} tokens is longer than this model's context of {context:,}."
                )
        return items

    def _read(self, tree: Tree, items: list[Item]) -> None:
        """Read as much of the items as one step allows; answered ones get their scores."""
        tree.free_dropped()
        chosen = self._fit(tree, self._share_out(tree, items))
        if not chosen:
            return
        asks: list[Ask] = []
        for item, count in chosen:
            tokens, rows = item.unread, item.rows
            if tokens is None:
                tokens = item.branch.unread(rows)
            place = item.branch.place(rows)
            if count < len(tokens):  # a piece, of which nothing is asked yet
                tokens, rows = tokens[:count], 0
            asks.append(Ask(place, tokens, rows))
        try:
            scores, states = self._ask(tree, asks, any(item.wants_states for item, _ in chosen))
        except Exception as error:
            for request in {item.request for item, _ in chosen}:
                self.finish(request, error)
            return
        at, page_size = -1, tree.memory.page_size
        for (item, _), ask in zip(chosen, asks, strict=True):
            item.request.served = self.steps
            item.branch.grew(len(ask.tokens))
            if len(ask.tokens) >= page_size > 1 or item.branch.node is None:
                item.branch.keep()
            if ask.rows:
                at += ask.rows
                item.among, item.at, item.among_states = scores, at, states
                for twin in item.twins:
                    twin.branch.share(item.branch)
                    twin.among, twin.at, twin.among_states = scores, at, states

    def _ask(self, tree: Tree, asks: list[Ask], wants_states: bool) -> tuple[Tensor, Tensor | None]:
        """Scores [rows, tokens that can be chosen], and activations [rows, D] if they are wanted."""
        if wants_states:
            scores, states = tree.model.scores_and_states(tree.memory, asks)
        else:
            scores, states = tree.model.scores(tree.memory, asks), None
        return as_scores(scores)[:, : self.vocab_size], states

    def _share_out(self, tree: Tree, items: list[Item]) -> list[tuple[Item, int]]:
        """How many tokens of which items to read: short questions whole, then prompts in equal parts."""
        chosen: list[tuple[Item, int]] = []
        long: list[tuple[Item, int]] = []
        rows = used = 0
        for found in self._without_followers(tree, items):
            item, count = found
            if count > SMALL:
                long.append(found)
            elif rows + item.rows <= MOST_ROWS or not chosen:
                chosen.append(found)
                rows += item.rows
                used += count
        room = max(self.budget - used, self.budget // 4)
        for left, (item, count) in zip(range(len(long), 0, -1), long, strict=True):
            if room <= 0:
                break
            share = max(room // left, tree.memory.page_size)
            part = count if count <= max(share, item.rows) else min(share, count - item.rows)
            chosen.append((item, part))
            room -= part
        for item, _ in chosen:
            if item.unread is None:  # nothing of it lies in memory
                item.branch.recall(item.rows)
        return chosen

    def _without_followers(self, tree: Tree, items: list[Item]) -> list[tuple[Item, int]]:
        """The items with the number of tokens each has to read, without those that gain by waiting.

        One that is new and equal to another takes its scores. One that is new and begins like another for
        at least a page more than is known of it waits until that is read.
        """
        size = tree.memory.page_size
        found: list[tuple[Item, int]] = []
        first: dict[tuple[str | None, tuple[int, ...]], Item] = {}
        leaders: dict[tuple[str | None, tuple[int, ...]], Item] = {}
        fresh: list[Item] = []
        for item in items:
            branch = item.branch
            if item.twins:
                item.twins = []
            if not branch.read and branch.source is None:
                item.unread = None
                fresh.append(item)
                continue
            item.unread = branch.unread(item.rows)
            count = len(item.unread)
            if count > SMALL and branch.source is None:
                leaders.setdefault((branch.adapter, branch.tokens[: branch.read // size * size + size]), item)
            found.append((item, count))
        for item in fresh:
            tokens, adapter = item.branch.tokens, item.branch.adapter
            twin = first.setdefault((adapter, tokens), item)
            if twin is not item and (twin.rows, twin.wants_states) == (item.rows, item.wants_states):
                twin.twins.append(item)
                continue
            known = tree.cache.known(tokens[: len(tokens) - item.rows], adapter)
            begin = tokens[: known // size * size + size]
            follows = leaders.setdefault((adapter, begin), item) is not item
            if not (follows and tree.cache.most and len(begin) + item.rows <= len(tokens)):
                found.append((item, len(tokens) - known))
        return found

    def _fit(self, tree: Tree, chosen: list[tuple[Item, int]]) -> list[tuple[Item, int]]:
        """The part for which there is memory: forget what is cached, then make the newest request wait."""
        memory = tree.memory
        while chosen and memory.pages_free() is not None:
            short = self._pages(tree, chosen) - memory.pages_free()
            if short <= 0:
                break
            if tree.cache.evict(short * memory.page_size):
                continue
            owners = [r for r in self.running if any(i.branch.tree is tree for i in r.items)]
            newest = owners[-1]
            if len(owners) == 1:
                self.finish(newest, MemoryFull(
                    f"The key-value memory of {memory.pages_free():,} free pages is too small for this request "
                    f"alone: {short:,} more are needed. Give it more pages, or ask for less."
                ))  # fmt: skip
            else:
                self._pause(newest)
            chosen = [(item, count) for item, count in chosen if item.request is not newest]
            tree.free_dropped()
        return chosen

    def _pages(self, tree: Tree, chosen: list[tuple[Item, int]]) -> int:
        """Pages that reading these would take; places them first, so that shared pages count once."""
        appends = [(item.branch.place(item.rows), count) for item, count in chosen]
        return tree.memory.pages_needed(appends)

    def _pause(self, request: Request) -> None:
        """Give back the memory of a request; it waits, and is read again when its turn comes."""
        for tree in self._trees:
            tree.take_back(request.task)
        self.running.remove(request)
        self.waiting.appendleft(request)

    def _scores(self, request: Request) -> Tensor | tuple[Tensor, Tensor]:
        """The answer to a question that is no draw."""
        if not request.items:
            return torch.empty((0, self.vocab_size))
        scores = torch.cat([item.scores for item in request.items])
        if not request.items[0].wants_states:
            return scores
        return scores, torch.cat([item.states for item in request.items])

    def _answer(self, ready: list[Request]) -> None:
        """Send their scores to all whose questions are answered; draw for all who draw, at once."""
        drawing: list[Item] = []
        for request in ready:
            if not isinstance(request.question, Draw):
                self._send(request, self._scores(request))
                continue
            for item in request.items:
                if item.branch.forced:
                    self._learn_forced(item)
                if item.branch.finish is None:
                    drawing.append(item)
        if drawing:
            for wrong, error in draw(_last_rows(drawing), [item.drawing for item in drawing]):
                self.finish(next(r for r in ready if r.task is wrong.task), error)
        for request in ready:
            if isinstance(request.question, Draw):
                self._draw_on(request)

    def _learn_forced(self, item: Item) -> None:
        branch, task = item.branch, item.drawing.task
        learn_forced(item.scores[: branch.forced], branch, task.alternatives)
        if branch.finish is not None and item.drawing.tell:
            task.tell(item.drawing.stream, branch)

    def _draw_on(self, request: Request) -> None:
        """Ask again for the branches that are not finished; without any, the question is answered."""
        items = []
        for item in request.items:
            forced = item.branch.forced
            if item.branch.finish is None or forced:
                item.among, item.rows = None, 1 + forced
                items.append(item)
        request.items = items
        if not items:
            self._send(request, request.question.branches)


def _drawn_items(request: Request, question: Draw) -> list[Item]:
    """The branches to draw after: copies, which the engine alone holds and changes."""
    question.branches = [branch.copy() for branch in question.branches]
    items = []
    for stream, branch in enumerate(question.branches):
        if branch.finish is None:
            item = Item(branch, 1, request)
            item.drawing = Drawing(request.task, branch, stream, question.tell)
            items.append(item)
    return items


def _last_rows(items: list[Item]) -> Tensor:
    """The last row of scores of each [B, V]; without a copy where they lie in order already."""
    among, places = items[0].among, [item.at for item in items]
    if any(item.among is not among for item in items):
        return torch.cat([item.scores[-1:] for item in items])
    return among if places == list(range(len(among))) else among[places]
