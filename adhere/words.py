"""Where `find` and `parse` lived before 0.2; importing it says where they are."""

raise ImportError("adhere.words is gone: from adhere import find, parse, occurrences, strip_markup")
