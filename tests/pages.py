"""Pages of HTML for tests: read as a browser would, and checked to be whole and self-contained."""

from html.parser import HTMLParser

VOID = {"meta", "img"}
ELSEWHERE = ("http:", "https:", "@import", "url(")
ACTIVE = {"script", "link", "iframe", "object", "embed", "base"}


class Page(HTMLParser):
    """The elements of a page in order, with their attributes and the text in them.

    Every tag is closed in its turn, nothing is loaded from elsewhere, and nothing runs but, on a
    page that is `active`, its own script.
    """

    def __init__(self, content: bytes, active: bool = False):
        super().__init__()
        self.active = ACTIVE - {"script"} if active else ACTIVE
        self.source = content.decode()
        self.open: list[int] = []
        self.elements: list[dict] = []
        self.feed(self.source)
        self.close()
        assert not self.open
        ours = self.source.replace("http://www.w3.org", "")
        assert not [word for word in ELSEWHERE if word in ours]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        assert tag not in self.active
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "src" or value.startswith("data:image/jpeg;base64,")
            assert name != "href" or ":" not in value  # a section, or a file beside the page
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()]["tag"] == tag

    def handle_data(self, data):
        for i in self.open:
            self.elements[i]["text"] += data

    def all(self, *tags: str) -> list[dict]:
        return [element for element in self.elements if element["tag"] in tags]

    def texts(self, *tags: str) -> list[str]:
        return [element["text"] for element in self.all(*tags)]

    def rows(self) -> list[list[str]]:
        """The cells of all tables, row by row."""
        rows: list[list[str]] = []
        for element in self.all("tr", "th", "td"):
            if element["tag"] == "tr":
                rows.append([])
            else:
                rows[-1].append(element["text"])
        return rows
