"""Requirements are read as pip's own library reads them."""

import importlib.metadata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version as Reference

from bytebrew.requirements import Version, allows, applies, lacking, required

NUMBER = st.integers(0, 3).map(str)
RELEASE = st.lists(NUMBER, min_size=1, max_size=3).map(".".join)


@st.composite
def versions(draw: st.DrawFn) -> str:
    """A version with some of its parts, in one of their spellings."""
    parts = [draw(st.sampled_from(["", "", "1!"])), draw(RELEASE)]
    parts.append(draw(st.sampled_from(["", "", "a1", "-beta.2", "rc1", "c", ".pre1"])))
    parts.append(draw(st.sampled_from(["", "", ".post1", "-2", "r3"])))
    parts.append(draw(st.sampled_from(["", "", ".dev0", "dev3"])))
    parts.append(draw(st.sampled_from(["", "", "", "+abc.1", "+2"])))
    return "".join(parts)


@given(versions(), versions())
def test_versions_have_the_order_of_pep_440(one: str, other: str) -> None:
    ours, theirs = (Version.of(one), Version.of(other)), (Reference(one), Reference(other))
    assert (ours[0] < ours[1], ours[0] == ours[1]) == (theirs[0] < theirs[1], theirs[0] == theirs[1])


@given(st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~=", "==="]), versions(), versions())
@example("<", "0.post1", "0.dev0")
@example("<", "0.post1", "0.post1.dev0")
@example(">", "0.dev0", "0+abc.1")
def test_a_version_is_allowed_where_pip_allows_it(sign: str, bound: str, version: str) -> None:
    try:
        expected = SpecifierSet(f"{sign}{bound}").contains(version, prereleases=True)
    except InvalidSpecifier:
        return
    assert allows(f"{sign}{bound}", version) is expected


@given(st.sampled_from(["==", "!="]), RELEASE, versions())
def test_a_prefix_is_matched_as_pip_matches_it(sign: str, prefix: str, version: str) -> None:
    assert allows(f"{sign}{prefix}.*", version) is SpecifierSet(f"{sign}{prefix}.*").contains(version, prereleases=True)


@pytest.mark.parametrize(
    "marker",
    [
        "python_version >= '3.11'",
        "python_version < '3.9'",
        'sys_platform == "win32" or (os_name == "posix" and platform_system != "Windows")',
        "extra == 'test'",
        "python_full_version ~= '3.9' and implementation_name == 'cpython'",
        "'linux' in sys_platform",
        "sys_platform not in 'win32 cygwin'",
        "(python_version>='3.11' and extra=='x') or platform_python_implementation=='PyPy'",
        "'3.10' <= python_version",
    ],
)
def test_a_marker_is_true_where_it_is_to_pip(marker: str) -> None:
    assert applies(marker) is Marker(marker).evaluate({"extra": ""})


@pytest.mark.parametrize("marker", ["", "python_version", "python_version > ", "pond == 'deep'", "(extra == 'a'", "'"])
def test_what_is_no_marker_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match="is no environment marker"):
        applies(marker)


def test_what_is_lacking_is_told_with_what_is_there() -> None:
    httpx = importlib.metadata.version("httpx")
    assert lacking(
        [
            "httpx>=0.1",
            "HTTPX (<0.2,>=0.1)",
            "nowhere-to-be-found[all] >= 2 ; python_version >= '3'",
            "nowhere-to-be-found; extra == 'all'",
            "httpx @ https://example.com/httpx.whl",
            "far-off @ https://example.com/far.whl",
            "httpx=>1",
            "???",
        ]
    ) == [
        f"needs HTTPX<0.2,>=0.1, and HTTPX is {httpx}",
        "needs nowhere-to-be-found>= 2, which is not installed",
        "needs far-off, which is not installed",
        "needs 'httpx=>1', which cannot be checked: '=>1' is no version specifier",
        "needs '???', which is not in the form of PEP 508",
    ]


def test_everything_that_is_installed_here_can_be_read() -> None:
    every = [text for dist in importlib.metadata.distributions() for text in dist.requires or ()]
    assert len(every) > 50
    assert not [words for words in lacking(every) if "cannot be checked" in words or "form of PEP" in words]
    assert "httpx" in required(every)
