"""Writes `docs/conformance.md` from what the last run of the suite found: `python -m tests.conformance.report`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance import results

PAGE = Path(__file__).parents[2] / "docs/conformance.md"
SHORT = {
    "azure-cognitiveservices-vision-customvision": "Python",
    "@azure/cognitiveservices-customvision-training": "JavaScript",
}
HEAD = """# Conformance

Which operation of which version of the API was proved by which client. `make conformance` starts a service, runs each
client below against it in an environment of its own, and writes this page from what it found; nothing here is written
by hand.

- An official client calls every operation it has, with every parameter but the two that name a storage account of
  Azure. Each answer is checked twice: as it stands on the wire (exactly the keys that the client's version declares, in
  their order; types, nulls, ids, dates, enumerations) and as the client deserialised it (every field has its declared
  type and the wire's value). Values are checked where they are known: what was sent, what was counted, which tag wins.
  So are refusals: a wrong key, an unknown project, an unknown iteration, training without a change.
- A community client does its main job unmodified; the operations that were answered well stand here when the job came
  out right. `cvs_evaluate_project` of cvsutils is not run: it sends nothing of its own, and needs torch.

What is allowed beside a version's contract stands in `tests/conformance/wire.py`, with how it is known. No client was
ever published for v3.1 of the training API. A dash stands where a version has no such operation or its client does not
call it; a client struck through found something wrong.
"""


def columns(found: Sequence[Mapping[str, Any]], api: str) -> list[str]:
    """The versions of an API, oldest first."""
    return sorted({each["versions"][api] for each in found})


def short(client: str) -> str:
    """A client's name in a cell."""
    package, version = client.split()[:2]
    return f"{SHORT.get(package, package)} {version}"


def cell(found: Sequence[Mapping[str, Any]], api: str, version: str, operation: str) -> str:
    """The clients of a version that call an operation."""
    names = []
    for each in found:
        problems = each["problems"].get(api, {}).get(operation)
        if each["versions"][api] == version and problems is not None:
            name = short(each["client"])
            names.append(f"~~{name}~~" if problems else name)
    return ", ".join(names) or "–"


def table(found: Sequence[Mapping[str, Any]], api: str) -> Iterator[str]:
    """A row for each operation, a column for each version."""
    versions = columns(found, api)
    yield f"## {api.capitalize()}"
    yield ""
    yield f"| operation | {' | '.join(versions)} |"
    yield f"|---{'|---' * len(versions)}|"
    operations = sorted({name for each in found for name in each["problems"].get(api, {})})
    for operation in operations:
        cells = [cell(found, api, version, operation) for version in versions]
        yield f"| `{operation}` | {' | '.join(cells)} |"
    yield ""


def clients(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each client proved, as a whole."""
    yield "## Clients"
    yield ""
    yield "| client | training | prediction | operations proved | not proved |"
    yield "|---|---|---|---:|---:|"
    for each in found:
        counts: dict[bool, int] = defaultdict(int)
        for operations in each["problems"].values():
            for problems in operations.values():
                counts[bool(problems)] += 1
        versions = f"{each['versions']['training']} | {each['versions']['prediction']}"
        yield f"| {each['client']} | {versions} | {counts[False]} | {counts[True]} |"
    yield ""


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """The whole page."""
    lines = [HEAD, *clients(found), *table(found, "training"), *table(found, "prediction")]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(list(results.all())))
