"""Settings: where they come from, who wins, and what wrong ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.settings import Settings, find_project, load_settings, redact_url


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give an empty project whose folder has a space and a letter beyond ASCII."""
    folder = tmp_path / "my pröject"
    folder.mkdir()
    (folder / "agent99.toml").touch()
    return folder


def _refusal(project: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(project, environ or {})
    return str(caught.value)


@pytest.mark.parametrize("mark", ["agent99.toml", "pyproject.toml", ".git"])
def test_the_project_is_the_nearest_marked_folder(tmp_path: Path, mark: str) -> None:
    """Any of the three marks makes a project; the nearest upward counts."""
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (tmp_path / "a" / mark).touch()
    assert tmp_path / "a" == find_project(inner)
    (inner / ".git").mkdir()
    assert inner == find_project(inner)


def test_without_a_mark_the_start_is_the_project() -> None:
    """Where nothing is marked up to the root, the folder itself is it."""
    assert Path("/proc/self") == find_project(Path("/proc/self"))


def test_defaults(project: Path) -> None:
    """An empty project means the embedded server in a hidden folder, mesh `main`."""
    settings = load_settings(project, {})
    assert project == settings.project
    assert project / ".agent99" == settings.state_folder
    assert (None, "main", 5.0, 0) == (
        settings.url,
        settings.mesh,
        settings.linger_s,
        settings.server_port,
    )


def test_the_start_is_the_current_folder_by_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments the current folder and the process's environment count."""
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setenv("AGENT99_MESH", "mine")
    settings = load_settings()
    assert (project, "mine") == (settings.project, settings.mesh)


def test_pyproject_then_own_file_then_environment(project: Path) -> None:
    """The later source wins, key by key."""
    (project / "pyproject.toml").write_text(
        '[tool.agent99]\nmesh = "one"\nlinger_s = 1\nserver_port = 7001\n'
    )
    (project / "agent99.toml").write_text('mesh = "two"\nlinger_s = 2.5\n')
    settings = load_settings(project, {"AGENT99_MESH": "three"})
    assert ("three", 2.5, 7001) == (settings.mesh, settings.linger_s, settings.server_port)


def test_every_variable(project: Path) -> None:
    """Each setting has a variable, and text becomes its type."""
    environ = {
        "AGENT99_URL": "nats://h:1",
        "AGENT99_MESH": "Mine",
        "AGENT99_STATE": "/state",
        "AGENT99_LINGER_S": "0.5",
        "AGENT99_NATS_SERVER": "/bin/nats-server",
        "AGENT99_SERVER_PORT": "7001",
        "AGENT99_SERVER_START_TIMEOUT_S": "7",
        "AGENT99_SYNC_INTERVAL_S": "0",
        "AGENT99_STORE_BYTES_MAX": "2000000",
        "AGENT99_MEMORY_BYTES_MAX": "3000000",
    }
    assert Settings(
        project=project,
        url="nats://h:1",
        mesh="mine",
        state_folder=Path("/state"),
        linger_s=0.5,
        server_binary=Path("/bin/nats-server"),
        server_port=7001,
        server_start_timeout_s=7.0,
        sync_interval_s=0.0,
        store_bytes_max=2_000_000,
        memory_bytes_max=3_000_000,
    ) == load_settings(project, environ)


def test_an_empty_variable_is_none(project: Path) -> None:
    """`AGENT99_URL= agent99 run` means: no address."""
    (project / "agent99.toml").write_text('url = "nats://h:1"\n')
    assert "nats://h:1" == load_settings(project, {"AGENT99_URL": ""}).url


def test_a_relative_path_is_relative_to_the_file_that_says_it(project: Path) -> None:
    """Wherever the programme is started."""
    (project / "agent99.toml").write_text('state_folder = "../state"\n')
    inner = project / "inner"
    inner.mkdir()
    assert project.parent / "state" == load_settings(inner, {}).state_folder


def test_a_home_folder_is_expanded(project: Path) -> None:
    """`~` is the user's home."""
    settings = load_settings(project, {"AGENT99_STATE": "~/state"})
    assert Path.home() / "state" == settings.state_folder


def test_an_unknown_key_is_named_with_its_file(project: Path) -> None:
    """A misspelt key is no silent default; the sentence lists the right ones."""
    (project / "agent99.toml").write_text('meshh = "one"\n')
    text = _refusal(project)
    rule = "meshh is no setting; there are: dead_bytes_max,"
    assert text.startswith(f"{project / 'agent99.toml'}: {rule}")


def test_the_project_cannot_be_set(project: Path) -> None:
    """It is found, never configured."""
    (project / "agent99.toml").write_text('project = "/"\n')
    assert "project is no setting" in _refusal(project)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('linger_s = "soon"', "linger_s: expected `float`, got `str`"),
        ("linger_s = -1", "linger_s: expected `float` >= 0.0"),
        ("mesh = 7", "mesh: expected `str`, got `int`"),
        (
            'mesh = "a b"',
            "mesh: expected 1 to 63 of a to z, 0 to 9, '-' and '_', with a letter or digit first",
        ),
        ("server_port = 65536", "server_port: expected `int` <= 65535"),
        ("state_folder = 1", "state_folder: expected a path"),
        ('state_folder = ""', "state_folder: expected a path"),
        ('url = "http://h:1"', "url: expected nats://host:port or tls://host:port"),
        (
            'url = "nats://h:1,nats://u:p@h:x"',
            "url: expected a port from 1 to 65535, got 'nats://h:x'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_key(project: Path, line: str, rule: str) -> None:
    """The sentence says which file, which key and what was expected."""
    (project / "pyproject.toml").write_text(f"[tool.agent99]\n{line}\n")
    text = _refusal(project)
    assert text.startswith(f"{project / 'pyproject.toml'}: [tool.agent99]: {rule}")


def test_a_wrong_variable_is_named(project: Path) -> None:
    """The sentence says which variable."""
    text = _refusal(project, {"AGENT99_LINGER_S": "soon"})
    assert "the variable AGENT99_LINGER_S: expected `float`, got `str`" == text


def test_a_port_that_is_none_is_named_with_its_variable(project: Path) -> None:
    """The sentence says which variable, and shows no credential."""
    text = _refusal(project, {"AGENT99_URL": "nats://me:secret@127.0.0.1:99999"})
    assert (
        "the variable AGENT99_URL: expected a port from 1 to 65535, got 'nats://127.0.0.1:99999'"
    ) == text


def test_a_file_that_is_no_toml(project: Path) -> None:
    """The sentence says which file and where."""
    (project / "agent99.toml").write_text("mesh = \n")
    text = _refusal(project)
    assert text.startswith(f"{project / 'agent99.toml'} is no TOML: ")
    assert "line 1" in text


def test_a_file_that_is_no_text(project: Path) -> None:
    """Bytes that are no UTF-8 are no TOML."""
    (project / "agent99.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML" in _refusal(project)


def test_a_file_that_cannot_be_read(project: Path) -> None:
    """The system's reason is passed on."""
    (project / "agent99.toml").unlink()
    (project / "agent99.toml").mkdir()
    assert f"{project / 'agent99.toml'} cannot be read: Is a directory" == _refusal(project)


@pytest.mark.parametrize("text", ["tool = 1\n", "[tool]\nagent99 = 1\n"])
def test_a_table_that_is_none(project: Path, text: str) -> None:
    """`[tool.agent99]` has to be a table."""
    (project / "pyproject.toml").write_text(text)
    assert f"{project / 'pyproject.toml'}: [tool.agent99] is no table" == _refusal(project)


def test_a_pyproject_without_our_table_says_nothing(project: Path) -> None:
    """Other tools' tables do not matter."""
    (project / "pyproject.toml").write_text("[tool.other]\nmesh = 1\n")
    assert "main" == load_settings(project, {}).mesh


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://ada:secret@host:4222", "nats://host:4222"),
        ("nats://secret@host:4222", "nats://host:4222"),
        ("tls://host:4222", "tls://host:4222"),
        ("nats://a:secret@h:1, tls://b:secret@i:2", "nats://h:1,tls://i:2"),
        ("nats://a:se@cret@h:1", "nats://h:1"),
        ("nats://a:se,cret@h:1", "nats://h:1"),
        ("nats://a:secret://x@h:1", "nats://h:1"),
        ("ada:secret@host", "host"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_credential(url: str, shown: str) -> None:
    """User, password and token go; scheme, host and port stay."""
    assert shown == redact_url(url)


@given(st.text(min_size=1).filter(lambda text: "://" not in text))
def test_no_password_survives(password: str) -> None:
    """Whatever characters it has."""
    assert "nats://host:4222" == redact_url(f"nats://ada:{password}@host:4222")


def test_no_error_shows_a_credential(project: Path) -> None:
    """Not even the one about the address itself."""
    for url in (
        "http://ada:secret@h:1",
        "nats://ada:secret@",
        "ada:secret@h",
        "nats://ada:secret@h h",
    ):
        text = _refusal(project, {"AGENT99_URL": url})
        assert "AGENT99_URL" in text
        assert "secret" not in text


def test_the_repr_shows_no_credential(project: Path) -> None:
    """Settings may be logged."""
    settings = load_settings(project, {"AGENT99_URL": "nats://ada:secret@h:1"})
    assert f"Settings(mesh='main', url=nats://h:1, state_folder={str(project / '.agent99')!r})" == (
        repr(settings)
    )
    assert "url=embedded" in repr(load_settings(project, {}))
