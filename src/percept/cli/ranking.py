"""What `percept classify` does with ranked files: rows, tables, a sheet, and files sorted by label. Results pass through one by one."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percept.cli.output import is_stdout, write_rows
from percept.cli.placing import Placing
from percept.cli.show import bad_files, common_folder, count_kinds, say, within, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from torch import Tensor

    from percept.data.files import BadFile
    from percept.infer.classifying import Span
    from percept.infer.encoder import Encoder
    from percept.infer.labeller import Labeller
    from percept.infer.labels import Guess

NONE = "none"
PLACES = ("best", "second", "third")
MANY, DOUBTED = 20, 0.3
"""Files from which it is checked whether labels that are texts fit, and share of files from which a doubt is printed."""
FIELDS = {
    "path": str, "start": float, "stop": float, "label": str, "probability": float, "score": float, "guesses": object,
}  # fmt: skip
"""Of a row of --out: start and stop in seconds for a part of a video, else null; guesses are the best labels with the same numbers."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A file with its ranked labels, and those of the parts of a video."""

    path: Path
    guesses: "list[Guess]"
    spans: "Sequence[Span]" = ()
    content: int = 0
    """Number of the image or video in an index."""


class Doubts:
    """Counts the files that other words fit better than the labels do."""

    def __init__(self, encoder: "Encoder", labels: "Labeller") -> None:
        from dataclasses import replace

        from percept.infer.labeller import other_texts

        self._labels = replace(labels, others=other_texts(encoder, labels))
        self.files = self.doubted = 0

    def see(self, vectors: "Tensor") -> None:
        """Count some vectors."""
        self.files += len(vectors)
        self.doubted += int((self._labels.probabilities(vectors).sum(dim=1) < 0.5).sum())

    def show(self) -> None:
        """Print a notice if there are many."""
        if self.files >= MANY and self.doubted > DOUBTED * self.files:
            notice(
                f"other words fit {self.doubted:,} of {self.files:,} files better than any of these labels do, so many labels may be "
                "wrong. percept classify --none-below auto leaves these out; percept teach learns labels from a few images of each."
            )


class Summary:
    """What is printed about many ranked files; keeps the first `show`, and the best label of each where it is needed later."""

    def __init__(self, *, show: int, keep_best: bool) -> None:
        self._show, self._keep_best = show, keep_best
        self.first: list[Ranked] = []
        self.best: list[tuple[Path, Guess, int]] = []
        self.tally: Counter[str] = Counter()
        self.images = self.videos = 0
        self._folders: set[Path] = set()

    def watch(self, items: Iterable[Ranked]) -> Iterator[Ranked]:
        """Yield the items again."""
        from percept.data.files import is_video

        for item in items:
            if len(self.first) < self._show:
                self.first.append(item)
            if self._keep_best:
                self.best.append((item.path, item.guesses[0], item.content))
            self.tally[item.guesses[0].label] += 1
            self._folders.add(item.path.parent)
            if is_video(item.path):
                self.videos += 1
            else:
                self.images += 1
            yield item

    def show(self, top: int) -> None:
        """Print the tables."""
        folder, places = common_folder([each / "_" for each in self._folders]), places_of(top)
        rows = [(within(item.path, folder), *cells(item.guesses, top)) for item in self.first]
        files = f"{count_kinds(self.images, self.videos)} in {folder}"
        if rows:
            everything = len(rows) == self.images + self.videos
            title = files if everything else f"The first {len(rows)} of {files}"
            table(title, ("file" if self.videos else "image", *places), rows)
        for item in self.first:
            if item.spans:
                _show_spans(within(item.path, folder), item.spans, places)
        if self.tally:
            things = "files" if self.videos else "images"
            table(f"{things.capitalize()} by best label", ("label", things), self.tally.most_common())


def places_of(top: int) -> tuple[str, ...]:
    """Return the names of the first places."""
    return (*PLACES, *(f"{place}th" for place in range(len(PLACES) + 1, top + 1)))[:top]


def cells(guesses: "Sequence[Guess]", top: int) -> list[str]:
    """Return the guesses as cells, as many as there are columns."""
    return [str(guess) for guess in guesses][:top]


def _show_spans(name: str, spans: "Sequence[Span]", places: Sequence[str]) -> None:
    from percept.infer.classifying import joined

    rows = [(f"{span.start:.1f} - {span.stop:.1f}", *cells(span.guesses, len(places))) for span in joined(spans)]
    table(f"{name}, neighbouring parts of one label joined", ("seconds", *places), rows)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is done with the results."""

    top: int
    show: int
    out: Path | None
    sheet: Path | None
    placing: Placing | None

    def take(
        self,
        items: Iterable[Ranked],
        *,
        labels: int,
        facts: Mapping[str, Any],
        bad: "Sequence[BadFile]" = (),
        doubts: Doubts | None = None,
        thumbnail: "Callable[[int], bytes | None] | None" = None,
    ) -> int:
        """Write, print and sort the results, and return the exit code.

        Args:
            items: the files.
            labels: number of labels.
            facts: what .json and .parquet say about the run.
            bad: files that could not be used.
            doubts: counts of files that no label may fit.
            thumbnail: returns the thumbnail of a content of an index.

        Raises:
            PerceptError: there are none, or a file cannot be written.
        """
        on_stderr = is_stdout(self.out)
        summary = Summary(show=self.show, keep_best=self.sheet is not None or self.placing is not None)
        self._write(summary.watch(items), facts)
        bad_files(bad, on_stderr=on_stderr)
        if not on_stderr:
            summary.show(min(self.top, labels))
        if doubts is not None:
            doubts.show()
        if labels == 1 and not summary.tally[NONE]:
            notice(
                "a single label always has 100 %. Give several; percept classify --none-below auto lets other nouns compete."
            )
        if self.sheet is not None and summary.best:
            _draw(self.sheet, summary.best, thumbnail)
        if not summary.tally:
            raise PerceptError("none of the files could be read, so nothing was ranked")
        if self.placing is None:
            return 0
        failed = self.placing.by_folder(
            [path for path, *_ in summary.best], [guess.label for _, guess, _ in summary.best], on_stderr=on_stderr
        )
        return 2 if failed else 0

    def _write(self, items: Iterable[Ranked], facts: Mapping[str, Any]) -> None:
        if self.out is None:
            for _ in items:
                pass
            return
        write_rows(self.out, _rows(items), FIELDS, facts=facts)
        if not is_stdout(self.out):
            say(f"wrote {self.out}")


def _draw(
    sheet: Path, best: "Sequence[tuple[Path, Guess, int]]", thumbnail: Callable[[int], bytes | None] | None
) -> None:
    from percept.infer.sheet import write_sheet

    with writing(sheet):
        jpeg = None if thumbnail is None else lambda number: thumbnail(best[number][2])
        write_sheet(sheet, [path for path, *_ in best], [guess for _, guess, _ in best], jpeg=jpeg)
        say(f"wrote {sheet}")


def _rows(items: Iterable[Ranked]) -> Iterator[dict[str, Any]]:
    for item in items:
        for span in item.spans:
            yield {"path": item.path, "start": span.start, "stop": span.stop, **_values(span.guesses)}
        if not item.spans:
            yield {"path": item.path, **_values(item.guesses)}


def _values(guesses: "Sequence[Guess]") -> dict[str, Any]:
    from percept.core.config import to_dict

    return {**to_dict(guesses[0]), "guesses": [to_dict(guess) for guess in guesses]}
