"""One writer per folder, on file systems with locks and without."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenprune import storage
from tokenprune.errors import ConfigError
from tokenprune.storage import NAMES, exclusive

ME = f"process {os.getpid()} on {socket.gethostname()}"
HOLD = (
    "import sys, time; from pathlib import Path; from tokenprune.storage import exclusive\n{}"
    + ("with exclusive(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n")
)
WITHOUT = (
    "import errno, fcntl\ndef refuse(*_): raise OSError({}, 'no locks')\nfcntl.flock = refuse\n"
)


@pytest.fixture(params=["flock", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the file system answers to flock."""
    name: str = request.param
    if name != "flock":

        def refuse(*_: Any) -> None:
            raise OSError(getattr(errno, name), "no locks")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return name


def test_one_at_a_time_and_nothing_left(system: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in range(2):  # the second time, too
        with exclusive(folder):
            with pytest.raises(ConfigError) as caught, exclusive(folder):
                raise AssertionError("two are in")
            assert f"{folder} is in use by {ME}: wait until it ends, or write another out=" in str(
                caught.value
            )
            assert ("if that process is gone, remove" in str(caught.value)) == (system != "flock")
            assert {file.name for file in folder.iterdir()} <= set(NAMES)
        assert not list(folder.iterdir())


def test_the_folder_may_go_while_it_is_held(system: str, tmp_path: Path) -> None:
    """As that of a run that never answered anything."""
    folder = tmp_path / "run"
    with exclusive(folder):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert not folder.exists()


def test_a_killed_process_leaves_no_lock(system: str, tmp_path: Path) -> None:
    code = HOLD.format("" if system == "flock" else WITHOUT.format(f"errno.{system}"))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    with (
        pytest.raises(ConfigError, match=f"is in use by process {process.pid} on "),
        exclusive(tmp_path),
    ):
        raise AssertionError("two are in")
    process.kill()
    process.wait()
    process.stdout.close()
    with exclusive(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_of_another_machine_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell from here whether its process is alive."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".lock.soft").write_text("4711\nelsewhere\n")
    (tmp_path / ".lock.holder").write_text("process 4711 on elsewhere\n")
    said = "in use by process 4711 on elsewhere: .*; if that process is gone, remove .*/.lock.soft$"
    with pytest.raises(ConfigError, match=said), exclusive(tmp_path):
        raise AssertionError("two are in")


def test_other_errors_of_the_file_system_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), exclusive(tmp_path):
        raise AssertionError("nobody is in")


def test_a_folder_that_its_last_holder_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As locks of jobs are, between the moment it is seen and the moment it is locked."""
    folder, real, times = tmp_path / "job", storage._has_locks, []

    def removed(place: Path) -> bool:
        times.append(place)
        if len(times) == 1:
            place.rmdir()
        return real(place)

    monkeypatch.setattr(storage, "_has_locks", removed)
    with exclusive(folder):
        assert folder.is_dir()
    assert len(times) == 2
