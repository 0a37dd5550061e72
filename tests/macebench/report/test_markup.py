from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macebench.report.markup import Html, breakable, el, esc, join


class Collector(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.attributes = [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(text):
    collector = Collector()
    collector.feed(text)
    collector.close()
    return collector


def test_children_and_attributes_are_escaped_unless_they_are_html():
    assert el("p", "<b>&", el("i", "x"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;<i>x</i></p>'


def test_attribute_names_and_switches():
    assert el("input", type="checkbox", checked=True, disabled=False, id=None) == '<input type="checkbox" checked>'
    assert el("th", data_sort=1, class_="a") == '<th data-sort="1" class="a"></th>'
    with pytest.raises(ValueError, match="no attribute name"):
        el("p", **{"x onclick": "1"})


def test_join_leaves_out_what_is_none():
    assert join(["a", None, Html("<b>")], "&") == "a&amp;<b>"


def test_short_names_are_not_broken():
    assert breakable("bas_null") == "bas_null"
    assert breakable("bas_corrected<") == "bas_<wbr>corrected&lt;"


@given(st.text())
def test_no_text_can_leave_its_place(text):
    found = read(el("p", text, title=text))
    assert found.tags == ["p"]
    assert [name for name, _ in found.attributes] == ["title"]
    assert found.attributes[0][1].replace("\r\n", "\n").replace("\r", "\n") == str(
        esc_reverse(text)
    ).replace("\r\n", "\n").replace("\r", "\n")  # fmt: skip


def esc_reverse(text):
    import html

    return html.unescape(esc(text))


@pytest.mark.parametrize("mark", ["\x00", "\x1b", "\u202e", "\u2066", "\x85"])
def test_control_and_direction_marks_are_shown_as_replaced(mark):
    assert esc(f"a{mark}b") == "a\ufffdb"
