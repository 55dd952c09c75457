"""The wheel, installed where nothing of this checkout can be found, does its job without a network."""

import json
import os
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from unprompted.backbones import shipped

ROOT = Path(__file__).parents[2]
CUTS = (("unshare", "-n"), ("unshare", "-rn"))  # as root; as somebody who may make a user namespace
NO_CONNECTIONS = """
import socket

def refuse(*given):
    raise OSError("the network is cut off")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run(*words, cwd, home):
    """A program as somebody else has it: no variable of this process but PATH."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(w) for w in words], cwd=cwd, env=variables, capture_output=True, encoding="utf-8"
    )


def works(*words):
    try:
        return subprocess.run([*words, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel of this checkout; its dependencies are those of this environment."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    pytest.importorskip("pip", reason="installing the wheel needs pip")
    folder = tmp_path_factory.mktemp("installed")
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    built = run(sys.executable, *build, cwd=ROOT, home=folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    ended = run(sys.executable, *install, cwd=folder, home=folder)
    assert ended.returncode == 0, ended.stderr
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # Lines of a .pth file only extend the path: the editable install of this checkout is not followed.
    dependencies = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    return folder / "env"


@pytest.fixture(scope="module")
def cut_off(installed):
    """The words before a program that take the network from it; without `unshare`, Python refuses."""
    words = next((words for words in CUTS if works(*words)), ())
    if not words:
        (site,) = (installed / "lib").glob("python*/site-packages")
        (site / "sitecustomize.py").write_text(NO_CONNECTIONS)
    return words


def test_the_package_is_that_of_the_wheel(installed, tmp_path):
    found = "import unprompted; print(unprompted.__file__)"
    ended = run(installed / "bin" / "python", "-c", found, cwd=tmp_path, home=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.strip()).is_relative_to(installed)


def test_the_network_is_really_cut_off(installed, cut_off, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection({server.getsockname()!r}, 5)"
        python = installed / "bin" / "python"
        ended = run(*cut_off, python, "-c", connect, cwd=tmp_path, home=tmp_path)
    assert ended.returncode == 1
    assert "OSError" in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shipped.folder() is None, reason="the built-in weights are not in this checkout")
def test_the_demo_runs_without_a_network(installed, cut_off, tmp_path):
    """With the built-in weights and the method that learns nothing, which is the quickest."""
    quickest = ("--method", "sam2-mask", "--set", "supports=1")
    program = installed / "bin" / "unprompted"
    ended = run(*cut_off, program, "demo", *quickest, "--device", "cpu", cwd=tmp_path, home=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "sam2-mask on builtin" in ended.stdout
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] > 0.2
    assert (tmp_path / "demo" / "demo.png").is_file()
