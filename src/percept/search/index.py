"""The index as users of Python see it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data.files import named_paths
from percept.infer.labeller import AnyLabels, NoneBelow
from percept.infer.labels import Templates
from percept.search.again import Again, encode_again
from percept.search.build import Report, build
from percept.search.contracts import ImageEncoder, Stamp
from percept.search.cutting import Cutting
from percept.search.hits import Answer, Wanted
from percept.search.locate import Finds
from percept.search.query import ask
from percept.search.question import Images, Texts, question
from percept.search.reload import load_stamped
from percept.search.spans import LEVEL
from percept.search.store import Filter, Repair, Root, Status, Store

if TYPE_CHECKING:
    from percept.infer.classifying import Results
    from percept.infer.dupes import Dupes

PathLike = str | os.PathLike[str]


class Index:
    """Images and videos that can be searched; an open folder on disk, usable from any thread.

    Use it in a `with` block, or call `close`.

    >>> index = percept.Index("percept-index")              # doctest: +SKIP
    >>> index.add(["holiday"])                              # doctest: +SKIP
    >>> print(index.status().images, "images")              # doctest: +SKIP

    Args:
        folder: folder of an index that `percept index` or `Index.create` made.
        encoder: the model it was made with; default: loaded when it is first needed. Nothing is fetched for it.

    Raises:
        PerceptError: there is no index in the folder, it is damaged, or it was made with a different model.
    """

    def __init__(self, folder: PathLike | Store, encoder: ImageEncoder | None = None) -> None:
        self.store = folder if isinstance(folder, Store) else Store(Path(folder), encoder)
        """The index on disk."""
        self._encoder = encoder
        self._loaded: tuple[Stamp, ImageEncoder] | None = None
        self._lock = Lock()

    @classmethod
    def create(cls, folder: PathLike, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Index":
        """Create an empty index in a new or empty folder.

        Args:
            folder: folder of the index.
            encoder: the model it belongs to from now on.
            stamp: how to load the model again, from `percept.search.contracts.stamp_of`; default: by its name.

        Raises:
            PerceptError: the model produces no vectors, or the folder is in use.
        """
        return cls(Store.create(Path(folder), encoder, stamp=stamp), encoder)

    @classmethod
    def open_or_create(cls, folder: PathLike, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Index":
        """Open the index in a folder, or create it if there is none; raises the errors of both."""
        return cls(Store.open_or_create(Path(folder), encoder, stamp=stamp), encoder)

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index."""
        self.store.close()

    def __len__(self) -> int:
        """Return the number of files that can be found."""
        return len(self.store)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self)} files, {self.stamp})"

    @property
    def folder(self) -> Path:
        """Folder of the index."""
        return self.store.folder

    @property
    def stamp(self) -> Stamp:
        """Stamp of the model with which the index was made."""
        return self.store.stamp

    @property
    def encoder(self) -> ImageEncoder:
        """The model of the index: the one that was given, else loaded when first needed and after the model was changed.

        Raises:
            PerceptError: it is not on this machine, or the one that was given is not the index's any more.
        """
        if self._encoder is not None:
            self.store.check(self._encoder)
            return self._encoder
        with self._lock:
            stamp = self.stamp
            if self._loaded is None or not self._loaded[0].agrees(stamp):
                encoder = load_stamped(stamp)
                self.store.check(encoder)
                self._loaded = stamp, encoder
            return self._loaded[1]

    def add(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        prune: bool = False,
        cutting: Cutting | None = None,
    ) -> Report:
        """Add folders and files, or bring those of earlier calls up to date; unchanged files are not read.

        Args:
            paths: folders (searched with their subfolders), image and video files; default: all folders added before.
            include: patterns of the shell, such as "*.jpg"; files of the folders that match none are left out.
            exclude: patterns of files and folders to leave out.
            hidden: take hidden files and folders too.
            prune: drop files that no longer exist wherever they were.
            cutting: how videos are cut into pieces.

        Raises:
            PerceptError: a path does not exist, or there are no folders from before.
        """
        named = None if paths is None else named_paths(paths)
        roots = selected(self.store, named, include=include, exclude=exclude, hidden=hidden)
        return build(self.store, self.encoder, roots, prune=prune, cutting=cutting)

    def search(
        self,
        text: Texts = None,
        *,
        image: Images = None,
        not_: Texts = None,
        not_image: Images = None,
        weight: float = 0.5,
        not_weight: float = 0.5,
        top: int = 5,
        where: Filter | None = None,
        min_score: float | None = None,
        group: str | None = None,
        above: float = 0.95,
        moments: bool = False,
        level: float = LEVEL,
        localizer: Finds | None = None,
    ) -> Answer:
        """Find the images and videos nearest to texts, to images, or to both; several threads may search at once.

        >>> for hit in index.search("a red cup", not_="a table", top=3).hits:    # doctest: +SKIP
        ...     print(hit.path, hit.score, hit.span)

        Args:
            text: description of what to find, or several, which are averaged.
            image: image that it should resemble, or several.
            not_: description of what to avoid, or several.
            not_image: image to stay away from, or several.
            weight: share of the texts in [0, 1] if there are images too.
            not_weight: weight of what is avoided; what is wanted has the weight 1.
            top: number of hits.
            where: condition on the files.
            min_score: least cosine of a hit.
            group: "folder" for one hit per folder, "duplicate" for one per group of near-duplicates.
            above: cosine from which two hits are near-duplicates.
            moments: hits are moments of videos.
            level: where a moment ends; see `percept.search.spans.moments`.
            localizer: finds where moments start and end: what `percept.load` returns for the folder of `percept train excl/nano`.

        Raises:
            PerceptError: nothing is searched for, the index is empty, an image cannot be read, or an impossible value.
        """
        asked = question(text, image=image, not_=not_, not_image=not_image, weight=weight, not_weight=not_weight)
        wanted = Wanted(
            top=top, where=where, min_score=min_score, group=group, above=above, moments=moments, level=level
        ).check()
        return ask(self.store, self.encoder, asked, wanted, localizer=localizer)

    def encode_again(self, *, limit: int | None = None) -> Again:
        """Encode again, after `percept index upgrade`, what still has vectors of the former model; safe to interrupt.

        Args:
            limit: most images and videos; all if None.
        """
        return encode_again(self.store, self.encoder, limit=limit)

    def classify(
        self,
        labels: AnyLabels,
        *,
        templates: Templates = None,
        none_below: NoneBelow = None,
        top: int | None = None,
        where: Filter | None = None,
    ) -> "Results":
        """Rank labels for the files of the index by their stored vectors; no file is read, and several threads may do so at once.

        >>> results = index.classify(["cat", "dog"], top=1)                       # doctest: +SKIP
        >>> for path, guesses in zip(results.paths, results):                     # doctest: +SKIP
        ...     print(path, guesses[0], results.spans.get(path))

        Args:
            labels: texts, taught labels, or the path of a folder that `percept teach` wrote; these need no model.
            templates: one or several texts with {} for the label; several are averaged.
            none_below: probability below which a file is called "none", or "auto"; see `percept.infer.labeller.labeller`.
            top: number of labels; default: all.
            where: condition on the files.

        Returns:
            The ranked labels of each file, with `paths`, and for videos `spans` with the labels of each span.

        Raises:
            PerceptError: no file passes, labels of a different model, or an impossible value.
        """
        from percept.infer.taught import open_labels
        from percept.search.labelling import classify, labeller_for

        chosen = open_labels(os.fspath(labels)) if isinstance(labels, os.PathLike) else labels
        ranker = labeller_for(self.store, lambda: self.encoder, chosen, templates, none_below)
        return classify(self.store, ranker, top=top, where=where)

    def dupes(self, *, above: float = 0.95, keep: str = "largest", where: Filter | None = None) -> "Dupes":
        """Return the groups of near duplicates among the files of the index, by their stored vectors.

        >>> for group in index.dupes(above=0.97).groups:                          # doctest: +SKIP
        ...     print(group.keep.path, [copy.file.path for copy in group.copies])

        Args:
            above: least cosine of a copy with the file that is kept.
            keep: which file of a group is kept: largest, sharpest, oldest, newest or first.
            where: condition on the files.

        Raises:
            PerceptError: no file passes, or an impossible value.
        """
        from percept.search.duplicates import find_dupes

        return find_dupes(self.store, above=above, keep=keep, where=where)

    def remove(self, paths: PathLike | Iterable[PathLike]) -> list[Path]:
        """Forget files and folders; return the files that were forgotten. Nothing is deleted outside the index."""
        several = [paths] if isinstance(paths, str | os.PathLike) else paths
        return self.store.remove([Path(path) for path in several])

    def status(self) -> Status:
        """Count what is stored, and check all vectors against their checksums."""
        return self.store.status()

    def compact(self) -> int:
        """Free the room of removed vectors; return their number."""
        return self.store.compact()

    def repair(self) -> tuple[Repair, Report]:
        """Drop damaged vectors, and encode their files again."""
        repair = self.store.repair()
        return repair, build(self.store, self.encoder, [])


def selected(
    store: Store,
    paths: Sequence[Path] | None,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: bool = False,
) -> list[Root]:
    """Return what to index: the paths given with the selection given, or those of earlier runs with their own.

    Raises:
        PerceptError: no path is given, and the index remembers no folder.
    """
    if paths:
        return [
            Root(path=Path(os.path.abspath(path)), include=tuple(include), exclude=tuple(exclude), hidden=hidden)
            for path in paths
        ]
    if include or exclude or hidden:
        raise PerceptError("a selection of files needs folders. Name the folders to which it belongs.")
    if not (roots := store.roots()) and not len(store):
        raise PerceptError(f"the index {store.folder} remembers no folder. Name at least one folder or file.")
    for root in roots:
        if not os.path.exists(root.path):
            notice(f"{root.path} is not there now; its files are kept in the index")
    return roots
