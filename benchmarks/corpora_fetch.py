"""Packages of npm and Debian as archives in the cache folder, the files in them, and SVG as PNG."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from percept.core.errors import PerceptError
from percept.core.io import replacing

PATIENCE = 600
"""Seconds after which a package client is stopped."""
RASTERISER = ("@resvg/resvg-js", "2.6.2")
SIDE = 256
"""Width in pixels of SVG files drawn as PNG."""
DRAW = """
const { Resvg } = require('@resvg/resvg-js'), fs = require('fs')
for (const [from, to] of JSON.parse(fs.readFileSync(0, 'utf8'))) {
  const drawn = new Resvg(fs.readFileSync(from, 'utf8'), { fitTo: { mode: 'width', value: SIDE }, background: 'white' })
  fs.writeFileSync(to, drawn.render().asPng())
}
""".replace("SIDE", str(SIDE))


class Unavailable(PerceptError):
    """A package cannot be had on this machine: there is no client, or no network."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of npm."""

    name: str
    version: str
    licence: str
    """Of the part that is used; an SPDX identifier."""
    author: str

    @property
    def file(self) -> str:
        """Name of the archive that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def run(command: Sequence[str], folder: Path, text: str | None = None) -> str:
    """Run a client in a folder and return what it prints.

    Raises:
        Unavailable: it is not installed, fails, or takes more than `PATIENCE` seconds.
    """
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed. Install it, or use a machine that has it.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(command[:3])}` took more than {PATIENCE} s. Check the network.") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise Unavailable(f"`{' '.join(command[:3])}` failed: {lines[0][:200]}. Check the network.")
    return done.stdout


def npm(package: Package, folder: Path) -> Path:
    """Return the archive of a package, downloaded into a folder if it is not there.

    Raises:
        Unavailable: there is no npm, or it cannot download the package.
    """
    archive = folder / package.file
    if not archive.is_file():
        with replacing(archive) as temporary:
            parts = temporary.with_suffix(".folder")
            try:
                run(["npm", "pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", "."], parts)
                (parts / package.file).rename(temporary)
            finally:
                shutil.rmtree(parts, ignore_errors=True)
    return archive


def debian(package: str, folder: Path) -> Path:
    """Return the archive of a Debian package, downloaded into a folder if it is not there.

    Raises:
        Unavailable: there is no apt-get, or it cannot download the package.
    """
    if not (files := sorted(folder.glob(f"{package}_*.deb"))):
        try:
            run(["apt-get", "download", package], folder)
        except Unavailable as error:
            raise Unavailable(f"{error} `apt-get update` may help.") from None
        files = sorted(folder.glob(f"{package}_*.deb"))
    return files[-1]


def debian_version(archive: Path) -> str:
    """Return the version of a downloaded Debian package, from the name of its archive."""
    return archive.name.split("_")[1].replace("%3a", ":")


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the regular files of an archive whose name is wanted, in the order of the archive."""
    with _opened(archive) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted(name):
                file = tar.extractfile(member)
                assert file is not None
                yield name, file.read()


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    if archive.suffix != ".deb":
        with archive.open("rb") as file:
            yield file
        return
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


def rasterise(drawings: Mapping[str, bytes], folder: Path, tools: Path) -> None:
    """Draw SVG files on white and write them as `folder`/NAME.png, with the resvg package of npm.

    Raises:
        Unavailable: there is no npm or node, or a drawing is broken.
    """
    if not (tools / "node_modules" / RASTERISER[0]).is_dir():
        run(["npm", "install", "--silent", "--ignore-scripts", "@".join(RASTERISER)], tools)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    try:
        for name, data in drawings.items():
            (folder / f"{name}.svg").write_bytes(data)
            pairs.append((str(folder / f"{name}.svg"), str(folder / f"{name}.png")))
        run(["node", "-e", DRAW], tools, json.dumps(pairs))
    finally:
        for svg, _ in pairs:
            Path(svg).unlink(missing_ok=True)
