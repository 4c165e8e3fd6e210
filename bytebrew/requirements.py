"""Checks the `Requires-Dist` of a distribution against the installed distributions (PEP 508, PEP 440)."""

import importlib.metadata
import operator
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*(@[^;]*|\(?[^;@()]*\)?)\s*(?:;(.*))?", re.DOTALL
)
_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|rc|c)[-_.]?(?P<pre_number>\d*))?"
    r"(?P<post>-(?P<implicit>\d+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_number>\d*))?"
    r"(?P<dev>[-_.]?dev[-_.]?(?P<dev_number>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_SPECIFIER = re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)\s*(\S+?)(\.\*)?\s*")
_TOKEN = re.compile(
    r"""\s*([()]|\b(?:and|or)\b|\bnot\s+in\b|\bin\b|===|~=|==|!=|<=|>=|<|>|"[^"]*"|'[^']*'|[a-z_][\w.]*)\s*"""
)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Version(NamedTuple):
    """A version, ordered as in PEP 440."""

    epoch: int
    release: tuple[int, ...]
    pre: tuple[int, int]
    post: int
    dev: float
    local: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, text: str) -> "Version":
        """Parses a version; ValueError if it is invalid."""
        if not (match := _VERSION.fullmatch(text.strip())):
            raise ValueError(f"'{text}' is no version")
        release = [int(part) for part in match["release"].split(".")]
        while len(release) > 1 and release[-1] == 0:
            release.pop()
        kind = (match["pre"] or "").lower()[:1]
        pre = ("ab".find(kind) if kind in "ab" else 2, int(match["pre_number"] or 0)) if kind else (3, 0)
        if not kind and match["dev"] and not match["post"]:
            pre = (-1, 0)
        local = [part.lower() for part in re.split(r"[-_.]", match["local"] or "") if part]
        return cls(
            epoch=int(match["epoch"] or 0),
            release=tuple(release),
            pre=pre,
            post=int(match["implicit"] or match["post_number"] or 0) if match["post"] else -1,
            dev=int(match["dev_number"] or 0) if match["dev"] else float("inf"),
            local=tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in local),
        )

    @property
    def base(self) -> tuple[int, tuple[int, ...]]:
        """Epoch and release, without suffixes."""
        return self.epoch, self.release

    @property
    def early(self) -> bool:
        """Whether it is a pre-release or a development release."""
        return self.pre[0] < 3 or self.dev != float("inf")


class Requirement(NamedTuple):
    """A `Requires-Dist`; `specifiers` may be an address, which begins with `@`."""

    name: str
    extras: tuple[str, ...]
    specifiers: str
    marker: str | None

    @classmethod
    def of(cls, text: str) -> "Requirement":
        """Parses a requirement; ValueError if it is invalid."""
        if not (match := _REQUIREMENT.fullmatch(text)):
            raise ValueError(f"'{text}' is not in the form of PEP 508")
        extras = tuple(extra.strip() for extra in (match[2] or "").split(",") if extra.strip())
        return cls(match[1], extras, match[3].strip(" ()"), match[4])

    def applies(self, extras: Iterable[str] = ()) -> bool:
        """Whether it counts in this process, for a distribution with these extras; ValueError for a bad marker."""
        return self.marker is None or any(applies(self.marker, extra) for extra in ("", *extras))

    def fits(self, version: str) -> bool:
        """Whether a version satisfies it; ValueError if that cannot be checked."""
        return self.specifiers.startswith("@") or allows(self.specifiers, version)

    def __str__(self) -> str:
        return f"{self.name}{'' if self.specifiers.startswith('@') else self.specifiers}"


def lacking(requirements: Iterable[str]) -> list[str]:
    """Unmet requirements in this process, each as a predicate such as `needs httpx>=1, and httpx is 0.28`."""
    found = []
    for text in requirements:
        try:
            wanted = Requirement.of(text)
        except ValueError:
            found.append(f"needs '{text}', which is not in the form of PEP 508")
            continue
        try:
            if not wanted.applies():
                continue
            version = importlib.metadata.version(wanted.name)
            if not wanted.fits(version):
                found.append(f"needs {wanted}, and {wanted.name} is {version}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"needs {wanted}, which is not installed")
        except ValueError as error:
            found.append(f"needs '{text}', which cannot be checked: {error}")
    return found


def required(requirements: Iterable[str]) -> set[str]:
    """Normalized names of the required distributions."""
    return {normalized(match[1]) for text in requirements if (match := _REQUIREMENT.fullmatch(text))}


def normalized(name: str) -> str:
    """A distribution's name, normalized by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def allows(specifiers: str, version: str) -> bool:
    """Whether a version fits specifiers such as `>=1,<2`; ValueError if either cannot be parsed."""
    return all(_allows(one, version) for one in specifiers.split(",") if one.strip())


def _allows(specifier: str, text: str) -> bool:
    if not (match := _SPECIFIER.fullmatch(specifier)):
        raise ValueError(f"'{specifier}' is no version specifier")
    sign, wanted, prefix = match.groups()
    if sign == "===":
        return text.lower() == f"{wanted}{prefix or ''}".lower()
    version, bound = Version.of(text), Version.of(wanted)
    if prefix or sign == "~=":
        if (prefix and sign not in ("==", "!=")) or bound.local:
            raise ValueError(f"'{specifier}' is no version specifier")
        parts = [int(part) for part in wanted.rpartition("!")[2].lower().lstrip("v").split(".") if part.isdecimal()]
        parts = parts if prefix else [*map(int, _release(wanted))][:-1]
        if not parts:
            raise ValueError(f"'{specifier}' is no version specifier")
        padded = (*version.release, *[0] * len(parts))[: len(parts)]
        same = version.epoch == bound.epoch and padded == tuple(parts)
        if sign == "~=":
            return same and version._replace(local=()) >= bound
        return same is (sign == "==")
    public = version if bound.local and sign in ("==", "!=") else version._replace(local=())
    if sign == "<" and not bound.early:  # what comes before a version is what comes before its development releases
        return public < bound._replace(pre=(-1, 0) if bound.post < 0 else bound.pre, dev=0, local=())
    if sign == ">" and bound.dev == float("inf") and bound.post < 0:  # what comes after it is not its post-releases
        return public > bound and (version.base, version.pre) != (bound.base, bound.pre)
    return bool(_ORDER[sign](public, bound))


def _release(text: str) -> list[str]:
    match = _VERSION.fullmatch(text)
    return match["release"].split(".") if match else []


def applies(marker: str, extra: str = "") -> bool:
    """Whether an environment marker is true for this process and an extra; ValueError if it cannot be parsed."""
    tokens, at = [], 0
    while at < len(marker):
        if not (match := _TOKEN.match(marker, at)):
            raise ValueError(f"'{marker.strip()}' is no environment marker")
        tokens.append(match[1])
        at = match.end()
    tokens.reverse()
    try:
        value = _any(tokens, _environment() | {"extra": extra})
    except (IndexError, KeyError) as error:
        raise ValueError(f"'{marker.strip()}' is no environment marker") from error
    if tokens:
        raise ValueError(f"'{marker.strip()}' is no environment marker")
    return value


def _any(tokens: list[str], environment: dict[str, str]) -> bool:
    value = _all(tokens, environment)
    while tokens and tokens[-1] == "or":
        tokens.pop()
        value = _all(tokens, environment) or value
    return value


def _all(tokens: list[str], environment: dict[str, str]) -> bool:
    value = _term(tokens, environment)
    while tokens and tokens[-1] == "and":
        tokens.pop()
        value = _term(tokens, environment) and value
    return value


def _term(tokens: list[str], environment: dict[str, str]) -> bool:
    if tokens[-1] == "(":
        tokens.pop()
        value = _any(tokens, environment)
        if tokens.pop() != ")":
            raise KeyError(")")
        return value
    left, sign, right = tokens.pop(), " ".join(tokens.pop().split()), tokens.pop()
    first, second = (one[1:-1] if one[0] in "'\"" else environment[one] for one in (left, right))
    if sign in ("in", "not in"):
        return (first in second) is (sign == "in")
    try:
        return _allows(f"{sign}{second}", first)
    except ValueError:
        return bool(_ORDER[sign](first, second))


def _environment() -> dict[str, str]:
    own = sys.implementation
    return {
        "os_name": os.name,
        "sys_platform": sys.platform,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "python_full_version": platform.python_version(),
        "implementation_name": own.name,
        "implementation_version": ".".join(map(str, own.version[:3])),
    }
