"""Each check finds what it is for: a good page passes, and a page with one fault does not."""

import base64
import random

import pytest
from checks import (
    PHONE,
    WEIGHT_LIMIT,
    accessibility,
    contrast_of_kinds,
    images,
    links,
    mathematics,
    overflow,
    readable,
    scrolling,
    targets,
    theme_follows,
    visit,
    weight,
)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">{head}</head>
<body><header><nav><a href="index.html">Home</a></nav></header><main><article><h1>Page</h1>
<p id="there">This page has text enough to be called readable by the check for that.</p>
{body}</article></main></body></html>"""

FORMULA = (
    '<span class="math"><span class="katex"><span class="katex-mathml">x</span>'
    "{shown}</span></span>"
)
SHOWN = '<span class="katex-html" aria-hidden="true">x</span>'
CODE = '<pre><span class="k">if</span> <span class="k">in</span> <span class="c1"># c</span></pre>'
FOLLOWS = """<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light" };
dark.onchange = follow;
follow();
</script>"""
DARK = """<style>html[data-theme=dark] :is(body, a) { background: #222; color: #eee }
html[data-theme=dark] .c { color: #333 }</style>"""
TINY = "style='font-size: 6px; padding: 0; border: 0'"
SCROLLS = f"<pre style='overflow: auto'>{'Text wider than a phone. ' * 4}</pre>"
LONGER = FORMULA.format(shown=SHOWN.replace(">x<", ">softmax<"))
PALE = f'{LONGER}<p style="color: #ccc">{LONGER}</p>'
MANY = "<p>Black on white.</p>" * 9
PALE_GROUND = "<span style='background: #333'>black on <b>black</b></span>"
PALE_INPUT = "aria-label='pale' style='color: #ccc'"
SMALL = "<span style='font-size: 40px'>grey, but large</span> grey and small"
STYLE = "<style>.katex-mathml { position: absolute }</style>"


@pytest.fixture
def write(tmp_path, serve_folder):
    """Write a page; gives its address."""

    def page(body="", head="") -> str:
        (tmp_path / "index.html").write_text(PAGE.format(body=body, head=head), encoding="utf8")
        return serve_folder(tmp_path) + "index.html"

    return page


def loading(visited):
    return visited.problems


def checks_in_browser(source):
    """Every check that needs a browser."""
    return {
        loading: loading,
        overflow: lambda visited: overflow(visited.page),
        accessibility: lambda visited: accessibility(visited.page),
        weight: lambda visited: weight(visited.responses),
        mathematics: lambda visited: mathematics(visited.page, source),
        readable: lambda visited: readable(visited.page),
        targets: lambda visited: targets(visited.page),
        theme_follows: lambda visited: theme_follows(visited.page, "dark"),
    }


def test_a_good_page_passes(browser, write, tmp_path):
    address = write(FORMULA.format(shown=SHOWN) + '<a href="#there">There</a>', STYLE + FOLLOWS)
    source = (tmp_path / "index.html").read_text(encoding="utf8")
    with visit(browser, address) as visited:
        problems = {name: run(visited) for name, run in checks_in_browser(source).items()}
    assert not any(problems.values()), problems
    assert not links(tmp_path)
    assert not images(source)


@pytest.mark.parametrize(
    ("check", "words", "head", "body"),
    [
        (loading, "console error", "<script>console.error('no')</script>", ""),
        (loading, "console warning", "<script>console.warn('hm')</script>", ""),
        (loading, "script error", "<script>nothing()</script>", ""),
        (loading, "status 404", "", '<img src="missing.png" alt="A picture">'),
        (loading, "another host", "", '<img src="http://other.invalid/a.png" alt="A picture">'),
        (overflow, "px wide", "", '<div style="width: 2000px">wide</div>'),
        (accessibility, "image-alt", "", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'),
        (accessibility, "color-contrast", "", '<p style="color: #ccc">pale</p>'),
        (accessibility, "color-contrast", "<style>.c1 { color: #ccc }</style>", CODE),
        (accessibility, "color-contrast", STYLE, PALE),
        (accessibility, "color-contrast", "", f"{MANY}<p style='opacity: 0.3'>pale</p>"),
        (accessibility, "color-contrast", "", f"{MANY}<p>{PALE_GROUND}</p>"),
        (accessibility, "color-contrast", "", f"{MANY}<input value='pale' {PALE_INPUT}>"),
        (accessibility, "color-contrast", "", f"{MANY}<p style='color: #777'>{SMALL}</p>"),
        (targets, "target-size", "", f"<button {TINY}>a</button><button {TINY}>b</button>"),
        (accessibility, "content-name", "", '<button aria-label="Other">Named</button>'),
        (weight, "a first view is", "", "<script>/*{heavy}*/</script>"),
        (mathematics, "raw LaTeX", "", r"<p>\(x\) and \frac{1}{2}</p>"),
        (mathematics, "raw LaTeX", "", "<p>the weight $x_i$</p>"),
        (mathematics, "0 typeset", STYLE, FORMULA.format(shown='<span class="katex-html"></span>')),
        (mathematics, "0 typeset", "", FORMULA.format(shown=SHOWN)),
        (mathematics, "0 typeset", "", '<span class="math">x</span>'),
        (readable, "titles", "", "<h1>Another</h1>"),
        (readable, "hardly any", "<style>article p { display: none }</style>", ""),
        (
            theme_follows,
            "is light where the system's is dark",
            FOLLOWS.replace("onchange", "no"),
            "",
        ),
        (readable, "no link", "<style>nav { display: none }</style>", ""),
    ],
)
def test_a_bad_page_is_found(browser, write, tmp_path, check, words, head, body):
    heavy = base64.b64encode(random.Random(0).randbytes(WEIGHT_LIMIT)).decode()
    address = write(body.replace("{heavy}", heavy), head)
    source = (tmp_path / "index.html").read_text(encoding="utf8")
    with visit(browser, address) as visited:
        problems = checks_in_browser(source)[check](visited)
    assert any(words in problem for problem in problems), problems


def test_what_scrolls_on_a_phone_only_is_found(browser, write):
    with visit(browser, write(SCROLLS)) as visited:
        assert scrolling(visited.page) == []
        visited.page.set_viewport_size({"width": PHONE, "height": 800})
        (problem,) = scrolling(visited.page)
    assert "scrollable-region" in problem


def test_a_colour_that_is_bad_in_the_dark_only_is_found(browser, write):
    with visit(browser, write('<p class="c">grey</p>', FOLLOWS + DARK)) as visited:
        assert accessibility(visited.page) == []
        assert theme_follows(visited.page, "dark") == []
        (problem,) = contrast_of_kinds(visited.page)
    assert "color-contrast" in problem


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("no file", '<a href="gone.html">gone</a>'),
        ("no file", '<img src="gone.png" alt="A picture">'),
        ("no file", '<a href="../outside.html">outside</a>'),
        ("not there", '<a href="#nowhere">nowhere</a>'),
        ("not there", '<a href="index.html#nowhere">nowhere</a>'),
        ("host's root", '<a href="/index.html">root</a>'),
    ],
)
def test_a_bad_link_is_found(write, tmp_path, words, body):
    write(body)
    (problem,) = links(tmp_path)
    assert words in problem


def test_a_bad_address_in_a_style_sheet_is_found(write, tmp_path):
    write()
    (tmp_path / "style.css").write_text("a { background: url('gone.png') }", encoding="utf8")
    (problem,) = links(tmp_path)
    assert "no file" in problem


@pytest.mark.parametrize(
    "image",
    [
        "<img src='a.png'>",
        "<img src='a.png' alt=''>",
        "<img src='a.png' alt='../_images/0b1946a1d6a1b9c2d3e4f5a6b7c8d9e0.png'>",
        "<img src='a.png' alt='figure.png'>",
    ],
)
def test_an_unwritten_alternative_text_is_found(image):
    (problem,) = images(PAGE.format(head="", body=image))
    assert "no written alternative text" in problem
