from collections.abc import Iterable, Iterator, Sequence

from ownvision.data_rights.formats import Entry, Picture


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    raise NotImplementedError
