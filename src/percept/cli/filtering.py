"""Options that choose files of an index, shared by `percept search`, `percept classify --index` and `percept dupes --index`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import tyro

from percept.core.errors import PerceptError

if TYPE_CHECKING:
    from percept.search.store import Filter


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Which files of the index."""

    path: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Pattern of paths such as 'holiday/*' or '*.png', or a folder or file; may be given several times."""
    not_path: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Pattern of paths to leave out; may be given several times."""
    type: str | None = None
    """image or video."""
    after: str | None = None
    """Taken (EXIF) or else changed at this date or later: 2024, 2024-05 or 2024-05-31."""
    before: str | None = None
    """Taken (EXIF) or else changed before this date."""
    min_side: int | None = None
    """Pixels that the shorter side has at least."""
    max_side: int | None = None
    """Pixels that the longer side has at most."""

    def chosen(self) -> "Filter | None":
        """Return the filter; None if nothing was chosen.

        Raises:
            PerceptError: a value that cannot be used.
        """
        from percept.search.filters import make_filter

        return make_filter(
            path=self.path, not_path=self.not_path, kind=self.type, after=self.after, before=self.before,
            min_side=self.min_side, max_side=self.max_side,
        )  # fmt: skip

    def check_index(self, index: object, paths: object) -> None:
        """Check that either paths or an index is given, and conditions with an index only.

        Raises:
            PerceptError: both are given, or conditions without an index.
        """
        if index is not None and paths:
            raise PerceptError(
                "paths and an index were given. Choose files of an index with --path, or leave out --index."
            )
        if index is None and self != ANY:
            raise PerceptError("--path, --type, --after and the like choose files of an index. Give one with --index.")


FilesWhere: TypeAlias = Annotated[FilterOptions, tyro.conf.arg(name="")]
ANY = FilterOptions()
