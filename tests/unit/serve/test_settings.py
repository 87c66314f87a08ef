"""Settings come from defaults, the file, the environment and options, in that order."""

from pathlib import Path

import pytest

from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.settings import Settings, decode, encode, load


def test_defaults_stand_alone() -> None:
    assert load(environ={}) == Settings()


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "tallybook.toml"
    file.write_text('data_dir = "a"\n[server]\nport = 1\nhost = "0.0.0.0"\napi_workers = 1\n')
    environ = {"TALLYBOOK__SERVER__PORT": "2", "TALLYBOOK__SERVER__ACCESS_LOG": "false"}

    found = load(file, environ, {"server.port": 3, "data_dir": Path("b"), "server.host": None})

    assert found.data_dir == Path("b")
    assert found.server.port == 3
    assert found.server.host == "0.0.0.0"
    assert found.server.api_workers == 1
    assert found.server.access_log is False


@pytest.mark.parametrize(
    "environ",
    [
        {"TALLYBOOK__SERVER__PROT": "1"},
        {"TALLYBOOK__SERVER__PORT": "many"},
        {"TALLYBOOK__SERVER__PORT": "70000"},
        {"TALLYBOOK__LAKE__MEMORY_MB": "-1"},
        {"TALLYBOOK__DATA_DIR__X": "1", "TALLYBOOK__DATA_DIR": "a"},
    ],
)
def test_what_is_not_a_setting_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        load(environ=environ)
    assert caught.value.code == "bad-setting"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        load(tmp_path / "absent.toml", {})


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tallybook.toml"
    file.write_text("[server")
    with pytest.raises(Invalid):
        load(file, {})


def test_a_child_gets_what_its_parent_has() -> None:
    settings = load(environ={"TALLYBOOK__DATA_DIR": "x", "TALLYBOOK__SERVER__PORT": "9"})
    assert decode(encode(settings)) == settings
