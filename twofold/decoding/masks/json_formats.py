"""The `format`s of JSON strings that a mask holds, as patterns.

llguidance has its own, some of which let wrong text through (29 February in any year, a second of 60 at any
time, hosts of any length), so these stand in their place. Where the standard's rule needs counting that a
pattern cannot do, the pattern here is the narrower one: what a mask writes is right, and some right texts it
does not write (parts of a host over 32 characters that touch no hyphen, an offset beside a leap second).
"""

from __future__ import annotations

_DAY = r"0[1-9]|[12]\d"
_MONTH_DAY = rf"(?:(?:0[13578]|1[02])-(?:{_DAY}|3[01])|(?:0[469]|11)-(?:{_DAY}|30)|02-(?:0[1-9]|1\d|2[0-8]))"
_LEAP_YEAR = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = rf"(?:\d{{4}}-{_MONTH_DAY}|{_LEAP_YEAR}-02-29)"
_OFFSET = r"(?:[zZ]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_TIME = rf"(?:(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?{_OFFSET}|23:59:60(?:\.\d+)?[zZ])"
_DURATION_TIME = r"T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S)"
_DURATION_DATE = r"(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)"
_LABEL = r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,31}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_H = r"[0-9a-fA-F]{1,4}"
_PATH = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})"
_REST = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9a-fA-F]{2})"
_USER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9a-fA-F]{2})"
_NAME = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9a-fA-F]{2})"


def _ipv6() -> str:
    options = [rf"(?:{_H}:){{7}}{_H}"]
    for before in range(8):  # "::" stands for at least one group
        head = rf"{_H}(?::{_H}){{{before - 1}}}" if before else ""
        most = 7 - before
        tail = rf"(?:{_H}(?::{_H}){{0,{most - 1}}})?" if most else ""
        options.append(f"{head}::{tail}")
    return "(?:" + "|".join(options) + ")"


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


# A format's pattern, as ECMA-262, and the most characters it may have.
FORMATS: dict[str, tuple[str, int | None]] = {
    "date": (_whole(_DATE), None),
    "time": (_whole(_TIME), None),
    "date-time": (_whole(rf"{_DATE}[tT]{_TIME}"), None),
    "duration": (_whole(rf"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|\d+W)"), None),
    "uuid": (_whole(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), None),
    "ipv4": (_whole(_IPV4), None),
    "ipv6": (_whole(_ipv6()), None),
    "hostname": (_whole(_HOST), 253),
    "email": (_whole(rf"{_ATOM}(?:\.?{_ATOM}){{0,31}}@{_HOST}"), 254),
    "uri": (
        _whole(
            rf"[A-Za-z][A-Za-z0-9+\-.]*:(?://(?:{_USER}*@)?{_NAME}*(?::\d*)?(?:/{_PATH}*)*"
            rf"|/(?:{_PATH}+(?:/{_PATH}*)*)?|{_PATH}+(?:/{_PATH}*)*|)(?:\?{_REST}*)?(?:#{_REST}*)?"
        ),
        None,
    ),
}
