"""Pages against a naive twin: a dictionary of lists, and arrays written through the page tables."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from twofold.models.language_model import MemoryFull
from twofold.models.memory import PagedMemory

PAGE = 3


class Interruption(Exception):
    pass


class MemoryAgainstLists(RuleBasedStateMachine):
    """Every sequence is also a plain list; what the pages hold must read as that list at all times."""

    sequences = Bundle("sequences")

    def __init__(self):
        super().__init__()
        self.limit = 12
        self.memory = PagedMemory(PAGE, self.limit)
        self.cells = {}  # (page, place) -> token
        self.lists = {}
        self.token = 0

    @rule(target=sequences)
    def new(self):
        sequence = self.memory.new()
        assert sequence not in self.lists
        self.lists[sequence] = []
        return sequence

    @rule(target=sequences, sequence=sequences)
    def fork(self, sequence):
        free = self.memory.pages_free()
        fork = self.memory.fork(sequence)
        assert fork not in self.lists
        assert self.memory.pages_free() == free
        self.lists[fork] = list(self.lists[sequence])
        return fork

    @rule(sequence=sequences, data=st.data())
    def rewind(self, sequence, data):
        length = data.draw(st.integers(0, len(self.lists[sequence])))
        self.memory.rewind(sequence, length)
        del self.lists[sequence][length:]

    @rule(sequence=sequences, further=st.integers(1, 5))
    def rewinding_forwards_is_refused(self, sequence, further):
        with pytest.raises(ValueError, match="cannot go"):
            self.memory.rewind(sequence, len(self.lists[sequence]) + further)

    @rule(target=sequences, sequence=consumes(sequences))
    def free(self, sequence):
        self.memory.free(sequence)
        del self.lists[sequence]
        with pytest.raises(ValueError, match="no sequence"):
            self.memory.free(sequence)
        with pytest.raises(ValueError, match="no sequence"):
            self.memory.fork(sequence)
        return multiple()

    @rule(data=st.data(), fails=st.booleans())
    def append(self, data, fails):
        if not self.lists:
            return
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.lists)), unique=True, max_size=4))
        appends = [(sequence, data.draw(st.integers(0, 7))) for sequence in chosen]
        free, needed = self.memory.pages_free(), self.memory.pages_needed(appends)
        try:
            with self.memory.append(appends) as plan:
                assert needed <= free
                written = self.write(plan)
                if fails:
                    raise Interruption
        except MemoryFull:
            assert needed > free
            assert self.memory.pages_free() == free
        except Interruption:
            assert self.memory.pages_free() == free
        else:
            for sequence, tokens in written.items():
                self.lists[sequence] += tokens

    def write(self, plan):
        """Copy, then write fresh tokens, as a model would; nobody else's page may be touched."""
        for step in plan:
            if step.copy:
                old, new = step.copy
                for place in range(PAGE):
                    self.cells[new, place] = self.cells.get((old, place))
        written = {}
        for step in plan:
            written[step.sequence] = []
            for position in range(step.start, step.stop):
                page = step.pages[position // PAGE]
                others = [s for s in self.lists if s != step.sequence]
                assert not any(page in self.memory._held[other].pages for other in others)
                self.token += 1
                self.cells[page, position % PAGE] = self.token
                written[step.sequence].append(self.token)
        return written

    @invariant()
    def every_sequence_reads_as_its_list(self):
        for sequence, tokens in self.lists.items():
            assert self.memory.length(sequence) == len(tokens)
            pages = self.memory._held[sequence].pages
            read = [self.cells[pages[p // PAGE], p % PAGE] for p in range(len(tokens))]
            assert read == tokens

    @invariant()
    def no_page_is_lost_or_counted_twice(self):
        used = [page for held in self.memory._held.values() for page in held.pages]
        assert set(used).isdisjoint(self.memory._free)
        assert len(set(self.memory._free)) == len(self.memory._free)
        assert set(used) | set(self.memory._free) == set(range(self.memory.pages_made))
        assert self.memory.pages_free() == self.limit - len(set(used))
        for page in range(self.memory.pages_made):
            assert self.memory._sharers[page] == used.count(page)
        for held in self.memory._held.values():
            assert len(held.pages) == -(-held.length // PAGE)


TestMemoryAgainstLists = MemoryAgainstLists.TestCase
TestMemoryAgainstLists.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def fill(memory, sequence, count):
    with memory.append([(sequence, count)]) as plan:
        return plan[0]


def test_a_sequence_alone_lies_in_one_piece():
    memory = PagedMemory(4)
    first, second = memory.new(), memory.new()
    for _ in range(5):
        fill(memory, first, 3)
        fill(memory, second, 3)
    memory.free(first)
    memory.free(second)
    assert fill(memory, memory.new(), 26).pages == list(range(7))


def test_only_the_last_page_of_a_fork_is_copied():
    memory = PagedMemory(4)
    first = memory.new()
    fill(memory, first, 10)
    second = memory.fork(first)
    assert memory.pages_needed([(first, 1)]) == 1
    step = fill(memory, second, 1)
    assert step.copy == (2, 3)
    assert step.pages == [0, 1, 3]
    assert fill(memory, first, 1).copy is None  # alone on its page again


def test_a_full_last_page_needs_no_copy():
    memory = PagedMemory(4)
    first = memory.new()
    fill(memory, first, 8)
    assert fill(memory, memory.fork(first), 1).copy is None


def test_a_full_memory_says_what_is_missing_and_changes_nothing():
    memory = PagedMemory(4, pages=3)
    first, second = memory.new(), memory.new()
    fill(memory, first, 7)
    with pytest.raises(MemoryFull, match=r"2 more pages of 4 tokens .* 1 of 3"):
        fill(memory, second, 5)
    assert (memory.length(second), memory.pages_free()) == (0, 1)
    memory.free(first)
    fill(memory, second, 5)
    assert memory.length(second) == 5


def test_memory_without_a_limit_grows_and_reuses():
    memory = PagedMemory(2)
    assert memory.pages_free() is None
    for _ in range(3):
        sequence = memory.new()
        fill(memory, sequence, 100)
        memory.free(sequence)
    assert memory.pages_made == 50


def test_a_source_is_refused_by_models_without_an_encoder():
    with pytest.raises(ValueError, match="encoder"):
        PagedMemory().new(source=[1, 2])
