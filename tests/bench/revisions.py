"""Other revisions of this project, read by git: which one there is to compare with, and its server in a folder."""

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

from .errors import BenchError

PROJECT = Path(__file__).resolve().parents[2]
#: The server, and what says which packages it needs.
_PACKAGE, _SETUP = "greenfcgi", "pyproject.toml"


class NoRevision(BenchError):
    """There is nothing to compare with; the message is one line that says why."""


def parent() -> str:
    """The revision before what is here: HEAD where the server has uncommitted changes, else the parent of HEAD.

    Raises `NoRevision` without git, outside a checkout, and where HEAD has no parent or a shallow clone lacks it; and
    where the parent's server is the same.
    """
    # An unpacked release may lie in a checkout of something else.
    if _git("rev-parse", "--show-prefix").strip():
        raise NoRevision("this is not the top folder of a checkout")
    if _git("status", "--porcelain", "--", _PACKAGE):
        return "HEAD"
    if not _git("rev-list", "--max-count=1", "--skip=1", "--first-parent", "HEAD"):
        raise NoRevision("HEAD has no parent here")
    if not _git("diff", "--name-only", "HEAD^", "HEAD", "--", _PACKAGE):
        raise NoRevision("the server is that of the parent of HEAD")
    return "HEAD^"


def describe(revision: str) -> str:
    """Its short name, and the first line of its message. Raises `NoRevision` where git knows no such commit."""
    return _git("log", "-1", "--format=%h %s", "--end-of-options", revision, "--").strip()


def unpack(revision: str, folder: Path) -> Path:
    """Its server in `folder`/tree, which is returned: the package, and pyproject.toml. Raises `NoRevision`."""
    archive, tree = folder / "tree.zip", folder / "tree"
    _git("archive", "--format=zip", f"--output={archive}", revision, _PACKAGE, _SETUP)
    with zipfile.ZipFile(archive) as members:
        members.extractall(tree)
    return tree


def other_packages(tree: Path) -> list[str]:
    """What the server of `tree` wants installed and the one here does not, or in another version."""
    return sorted(_packages(tree) - _packages(PROJECT))


def _packages(tree: Path) -> set[str]:
    project = tomllib.loads((tree / _SETUP).read_text())["project"]
    return {re.sub(r"\s", "", one) for one in project.get("dependencies", [])}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoRevision(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        told = done.stderr.strip().splitlines()
        raise NoRevision(told[0] if told else f"git {arguments[0]} ended with status {done.returncode}")
    return done.stdout
