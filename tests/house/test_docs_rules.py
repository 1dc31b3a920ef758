"""The rules about documents can fail: each is shown a document with something wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ._docs import Block, blocks, broken_links, commands, compiles, documents, named_in, programmes
from .test_docs import _exists, run_programme

DOCUMENT = """\
# Title

A paragraph with `code`, a [link](docs/other.md#a-heading--more) and `[no](link.md)`.

```python
# greeter.py
x = 1
```

```python continues
y = x + 1
```

1. In a list:

   ```python no-run
   async with here() as mesh:
       await mesh
   ```

````markdown
```python
not python at all
```
````

```console
$ agent99 run \\
      greeter.py   # a comment
"a result"
$ AGENT99_URL=nats://here make demo
```
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Give the document above, with the one that it links to."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("## A heading: & more\n")
    path = tmp_path / "README.md"
    path.write_text(DOCUMENT)
    return path


def test_blocks_are_found(document: Path) -> None:
    """Blocks come with their line, language, marks and text, without the indent of a list."""
    found = list(blocks(document.parent, document))
    assert ["python", "python", "python", "markdown", "console"] == [one.language for one in found]
    assert [6, 11, 17, 22, 28] == [one.line for one in found]
    assert ("greeter.py", "# greeter.py\nx = 1\n") == (found[0].file, found[0].text)
    assert {"no-run"} == found[2].marks
    assert found[2].text.startswith("async with")
    assert "README.md:6" == found[0].place


def test_programme_has_what_it_continues(document: Path) -> None:
    """A block that continues others runs after them; one marked `no-run` does not run."""
    found = list(programmes(list(blocks(document.parent, document))))
    assert ["# greeter.py\nx = 1\n", "# greeter.py\nx = 1\n\ny = x + 1\n"] == [
        text for _, text in found
    ]


def test_commands_are_read(document: Path) -> None:
    """Commands come without their comment, their output, their line breaks and their variables."""
    console = list(blocks(document.parent, document))[-1]
    assert [("agent99", ["run", "greeter.py"]), ("make", ["demo"])] == list(commands(console))


def test_unclosed_block_is_found(tmp_path: Path) -> None:
    """A block that is never closed is reported instead of swallowing the rest."""
    path = tmp_path / "README.md"
    path.write_text("```python\nx = 1\n")
    assert ["unclosed"] == [one.language for one in blocks(tmp_path, path)]


def test_bad_python_is_found() -> None:
    """A block that is no Python fails; one that awaits at its top level does not."""
    compiles("await x\nasync with y: pass", "here")
    compiles("try:\n    return await x\nexcept E:\n    pass", "here", is_fragment=True)
    for is_fragment in (False, True):
        with pytest.raises(SyntaxError):
            compiles("this is no python", "here", is_fragment=is_fragment)


def test_failing_snippet_is_found(tmp_path: Path) -> None:
    """A snippet that raises fails with its last words; a good one, with files, does not."""
    run_programme(tmp_path, "import asyncio, part\nawait asyncio.sleep(part.x)", {"part.py": "x=0"})
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_programme(tmp_path, "1 / 0", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/other.md)", None),
        ("[a](docs/other.md#a-heading--more)", None),
        ("[a](https://example.org/x)", None),
        ("`[a](none.md)`", None),
        ("```\n[a](none.md)\n```", None),
        ("[a](none.md)", "no file none.md"),
        ("[a](docs/other.md#none)", "no heading docs/other.md#none"),
        ("[a](../outside.md)", "no file ../outside.md"),
    ],
)
def test_broken_link_is_found(document: Path, text: str, expected: str | None) -> None:
    """A link to a file or heading that is not there is found, and only such a one."""
    document.write_text(text)
    found = list(broken_links(document.parent, document))
    assert ([] if expected is None else [f"README.md: {expected}"]) == found


@pytest.mark.parametrize(
    ("programme", "words", "expected"),
    [
        ("make", ["demo"], True),
        ("make", ["bench", "NAME=request", "-j2"], True),
        ("make", ["coffee"], False),
        ("pip", ["install", "agent99"], True),
    ],
)
def test_unknown_command_is_found(programme: str, words: list[str], expected: bool) -> None:
    """A target that make does not know is found."""
    assert expected is _exists(programme, words)


def test_names_are_read_from_code_type(tmp_path: Path) -> None:
    """A name counts as documented where it stands in code type, alone or in a signature."""
    (tmp_path / "api.md").write_text(
        "`connect(url=None)` and `agent99 server stop` but not Agent\n"
    )
    named = named_in(tmp_path)
    assert {"connect", "url", "agent99 server stop"} <= named
    assert "Agent" not in named


def test_every_document_counts(tmp_path: Path) -> None:
    """Documents at the top, under docs/ and in the package count; the changelog does not."""
    for name in ("README.md", "CHANGELOG.md", "docs/a/b.md", "src/agent99/systems/shop/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    names = {path.relative_to(tmp_path).as_posix() for path in documents(tmp_path)}
    assert {"README.md", "docs/a/b.md", "src/agent99/systems/shop/README.md"} == names


def test_block_knows_its_file() -> None:
    """Only a first line that is nothing but a file's name names a file."""
    empty = frozenset[str]()
    assert "" == Block("x.md", 1, "python", empty, "# see greeter.py\n").file
    assert "a_b.py" == Block("x.md", 1, "python", empty, "# a_b.py\nx = 1\n").file
