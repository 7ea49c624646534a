"""What help() prints, for people who have no page of documentation open."""
import pydoc
import re
from dataclasses import fields

import vitlab


def printed(thing):
    return pydoc.render_doc(thing, renderer=pydoc.plaintext)


def test_help_of_vitlab_fits_on_a_screen_and_names_everything():
    told = printed(vitlab).splitlines()
    assert len(told) <= 66                                                  # half of it are the names of files
    words = set(re.findall(r"\w+", "\n".join(told[:20])))                   # all that people need is at its beginning
    assert set(dir(vitlab)) <= words, set(dir(vitlab)) - words


def test_help_of_a_recipe_says_what_each_field_is():
    told = printed(vitlab.Recipe)
    for field in fields(vitlab.Recipe):
        assert re.search(rf"^ \|  {field.name}: \S", told, re.M), field.name


def test_help_of_create_lists_the_backbones():
    told = printed(vitlab.create)
    for name in vitlab.backbones.NAMES:
        assert re.search(rf"\b{name}\b", told), name
