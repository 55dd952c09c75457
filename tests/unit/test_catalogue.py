from unprompted import catalogue
from unprompted.registry import Registry

SOURCE = '''
"""A module that must not be imported."""
raise RuntimeError("imported")


class Plug:
    """What it is for.

    Attributes:
        speed: how fast, in metres
            a second.
    """

    speed: float = 1.5
    parts: Part = field(default_factory=Part)
    paper: ClassVar[str] = "A paper"
    endings = (".a", FOLDER)

    def run(self):
        """Run."""
'''


def test_a_plugin_is_described_without_being_imported(tmp_path, monkeypatch):
    (tmp_path / "plugged_in.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    (entry,) = catalogue.entries(Registry("gadget", {"plug": "plugged_in:Plug"}))
    assert (entry.name, entry.summary) == ("plug", "What it is for.")
    assert entry.settings == (
        catalogue.Setting("speed", "float", "1.5", "how fast, in metres a second."),
        catalogue.Setting("parts", "Part", "Part()", ""),
    )
    assert entry.constants == {"paper": "A paper", "endings": (".a",)}


def test_a_plugin_that_is_not_there_is_listed_by_its_address():
    (entry,) = catalogue.entries(Registry("gadget", {"lost": "no_such_module:Plug"}))
    assert entry.summary == "no_such_module:Plug"
