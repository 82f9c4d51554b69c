"""Chat templates: those of Jinja that templates use, and an end to whatever a stranger's would do without one."""

# ruff: noqa: E501 - a template a line
import json

import jinja2
import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from twofold.errors import DataError
from twofold.tokens.template import BEGIN_ANSWER, END_ANSWER, LONGEST_TEMPLATE, Template

MESSAGES = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": 'Who "is" <b>Ada</b> & é?\n'},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA mathematician.", "tool_calls": [
        {"function": {"name": "find", "arguments": {"x": 1, "y": ["a", None, True]}}}]},
    {"role": "user", "content": [{"type": "text", "text": "more"}]},
]  # fmt: skip
GOOD = {
    "loops": "{% for m in messages %}{{ loop.index }}{{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "whitespace": "  {%- for m in messages -%}\n  {{ m['role'] }}\n{% if m.role == 'user' %}\n u\n  {% endif %}\n{% endfor %}",
    "break": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role ~ '|' ~ loop.index0 }}{% endfor %}",
    "namespace": "{% set ns = namespace(x='', n=0) %}{% for m in messages %}{% set ns.x = ns.x + m.role %}"
    "{% set ns.n = ns.n + loop.index * 2 %}{% endfor %}{{ ns.x }}{{ ns.n % 7 }}",
    "macro": "{% macro turn(m, end='!') %}[{{ m.role | upper }}]{{ m.content | string | trim }}{{ end }}{% endmacro %}"
    "{% for m in messages[1:] %}{{ turn(m) }}{% endfor %}{% call(x) each() %}{{ x }}{% endcall %}"
    .replace("{% call(x) each() %}{{ x }}{% endcall %}", ""),
    "json": "{{ messages | tojson }}|{{ messages[2].tool_calls[0].function | tojson(indent=2) }}",
    "texts": "{% set c = messages[2].content %}{{ c.split('</think>')[-1].lstrip('\\n') }}{{ c.startswith('<think>') }}"
    "{{ '</think>' in c }}{{ c.replace('hm', '[hm]') }}{{ c | replace('a', 'b', 1) }}{% for x in [1, 2] %}{{ c.replace('h', 'j') }}{{ ', '.join(['a', 'b']) }}{% endfor %}{{ c[2:5] }}{{ c | length }}",
    "tests": "{% if messages[3].content is string %}s{% elif messages[3].content is iterable %}i{% endif %}"
    "{{ nothing is defined }}{{ messages[0].nothing is none }}{{ nothing }}{{ messages[0].get('x', 'y') }}",
    "filters": "{{ messages | map(attribute='role') | unique | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user')"
    " | list | length }}{{ [3, 1, 2] | sort | first }}{{ {'b': 1, 'a': 2} | dictsort }}{{ 'ab\\ncd' | indent(2) }}"
    "{{ (1.256 | round(2)) }}{{ [1, 2] | sum }}{{ none | default('d', true) }}{{ 'x' | capitalize }}",
    "items": "{% for k, v in messages[2].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }};{% endfor %}",
    "set": "{% set block %}a{{ messages[0].content }}b{% endset %}{{ block | trim ~ 1 ~ none }}{{ [1] + [2] }}{{ 'ab' * 3 }}",
    "range": "{% for i in range(5, 1, -2) %}{{ i }}{% endfor %}{{ 7 // 2 }}{{ 2 ** 5 }}{{ 7 / 2 }}{{ '%s-%d' % ('a', 3) }}",
    "nested": "{% for m in messages if m.role == 'user' %}{% for c in m.content %}{{ c if c is string else c.text }}{% endfor %}{% else %}no{% endfor %}",
    "comment": "{# not shown #}{% raw %}{{ x }}{% endraw %}{{ '{{' }}{% if true and not false or x %}y{% endif %}",
    "inline": "{{ 'a' if messages | length > 2 else 'b' }}{{ (messages | last).role }}{{ messages[-1]['content'][0]['text'] }}",
}  # fmt: skip
BOMBS = {
    "ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "ranges with a condition": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "a range too large": "{{ range(10 ** 9) | list | length }}",
    "a text times": "{{ 'x' * 10 ** 10 }}",
    "a list times": "{{ ([1] * 10 ** 9) | length }}",
    "doubling": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "doubling by ~": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by blocks": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    "doubling by join": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "doubling by replace": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    "its own text": "{% set x %}{% for i in range(99999) %}" + "y" * 5000 + "{% endfor %}{% endset %}",
    "lists in lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "lists compared": "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "numbers": "{{ 9 ** (9 ** 9) }}",
    "numbers squared": "{% set ns = namespace(x=9) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a macro that calls itself": "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "macros that double": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion in a loop": "{% for x in [[1]] recursive %}{{ loop([x]) }}{{ loop([x]) }}{% endfor %}",
    "an indent": "{{ messages | tojson(indent=1000000000) }}",
    "a text indented": "{{ ('a\\n' * 100000) | indent(100000) | length }}",
    "a form of time": "{{ strftime_now('%1000000000d') }}",
    "sums of lists": "{{ [[1], [2]] | sum(start=[]) }}",
    "rounding": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "deep brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep lists": "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "a long template": " " * (LONGEST_TEMPLATE + 1),
}  # fmt: skip
ESCAPES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "attributes by filter": "{{ '' | attr('__class__') }}",
    "methods of numbers": "{{ (5).to_bytes(1000000000, 'big') }}",
    "wide methods": "{{ 'x'.ljust(10 ** 9) }}",
    "format": "{{ '{0:1000000000}'.format(1) }}",
    "format_map": "{{ '{0.__class__}'.format_map([1]) }}",
    "changing what is given": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update({'a': 1}) }}",
    "underscores in a namespace": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns.__class__ }}",
    "lipsum": "{{ lipsum(n=1000) }}",
    "including": "{% include '/etc/passwd' %}",
    "importing": "{% import 'os' as os %}",
    "batches": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slices": "{{ [1] | slice(1000000000) | list | length }}",
}


def reference(source):
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    return environment.from_string(source)


@pytest.mark.parametrize("name", GOOD)
def test_what_templates_use_gives_what_jinja_gives(name):
    given = {"messages": MESSAGES, "bos_token": "<s>", "x": 0}
    assert Template(GOOD[name]).render(given) == reference(GOOD[name]).render(**given)


@pytest.mark.parametrize("name", BOMBS)
def test_work_without_end_is_stopped(name):
    with pytest.raises(DataError, match=r"was stopped|says:|cannot be read|characters"):
        Template(BOMBS[name]).render({"messages": MESSAGES})


@pytest.mark.parametrize("name", ESCAPES)
def test_what_reaches_beyond_the_template_is_refused_or_nothing(name):
    try:
        text = Template(ESCAPES[name]).render({"messages": MESSAGES})
    except DataError:
        return
    assert text.strip() == ""


def test_what_the_template_says_against_a_conversation_is_told():
    template = Template(
        "{% if messages | length > 1 %}{{ raise_exception('Roles must alternate!') }}{% endif %}"
    )
    with pytest.raises(DataError, match="Roles must alternate!"):
        template.render({"messages": MESSAGES})


@pytest.mark.parametrize("source", ["{{ x", "{% for %}", "{{ x | nofilter }}", "{% nothing %}", "{{ 1 + }}"])
def test_what_is_no_template_is_told(source):
    with pytest.raises(DataError, match="cannot be read"):
        Template(source)


@pytest.mark.parametrize(
    "source", ["{{ 1 / 0 }}", "{{ messages[0].content + 1 }}", "{{ x.y.z }}", "{{ none() }}"]
)
def test_a_template_that_fails_is_told(source):
    with pytest.raises(DataError, match="chat template"):
        Template(source).render({"messages": MESSAGES})


def test_a_long_conversation_may_be_rendered():
    messages = [{"role": "user", "content": "x" * 1000}] * 3000
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
    assert len(Template(source).render({"messages": messages})) == 3000 * 1006


def test_what_the_assistant_says_can_be_marked():
    source = "a{% generation %}b{{ x }}{% endgeneration %}c"
    assert Template(source).render({"x": 1}) == f"a{BEGIN_ANSWER}b1{END_ANSWER}c"


def test_the_clock_can_be_asked():
    assert len(Template("{{ strftime_now('%Y-%m-%d') }}").render({})) == 10


def test_jinja_is_new_enough():
    assert tuple(map(int, jinja2.__version__.split(".")[:3])) >= (3, 1, 6)
