"""The documentation names everything there is: settings, limits, commands, domains, errors, kinds of data."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from azure.cognitiveservices.vision.customvision.training.models import CustomVisionErrorCodes
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup

from ownvision.cli import app
from ownvision.domains import DOMAINS
from ownvision.limits import TIERS, Limits
from ownvision.settings import Settings
from ownvision.store.tables import Base

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src/ownvision"
CODE = re.compile(r"(BadRequest|Conflict|NotFound|Forbidden)([A-Z]\w+)?|(Unsupported|Error)[A-Z]\w+")


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The table row that documents each field: variable, default, meaning."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        default = "–" if field.default is None else f"`{field.default}`"
        yield f"| `{prefix}{name.upper()}` | {default} | {field.description} |"


@pytest.mark.parametrize("row", [*rows_of(Settings, "OWNVISION_")])
def test_every_setting_stands_in_the_settings_page(row: str) -> None:
    assert row in page("settings.md")


@pytest.mark.parametrize("row", [*rows_of(Limits, "OWNVISION_LIMITS__")])
def test_every_limit_stands_in_the_limits_page(row: str) -> None:
    assert row in page("limits.md")


def test_every_tier_stands_in_the_limits_page() -> None:
    text = page("limits.md")
    for name, tier in TIERS.items():
        values = ["–" if value is None else f"{value:,}" for value in vars(tier).values()]
        assert f"| {name} | {' | '.join(values)} |" in text


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: f"{domain.type} {domain.name}")
def test_every_domain_stands_in_the_domains_page(domain: object) -> None:
    row = f"| {domain.type} | {domain.name} | `{domain.id}` | "  # type: ignore[attr-defined]
    assert row in page("domains.md")


def commands(command: TyperCommand | TyperGroup, name: str) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for child_name, child in command.commands.items():
            yield from commands(child, f"{name} {child_name}")
    else:
        yield name, command


@pytest.mark.parametrize(("name", "command"), [*commands(typer.main.get_command(app), "ownvision")])
def test_every_command_and_option_stands_in_the_commands_page(name: str, command: TyperCommand) -> None:
    sections = page("commands.md").split("\n## ")
    section = next((text for text in sections if text.startswith(f"`{name}")), "")
    assert section, f"docs/commands.md has no section `{name}`"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert any(f"`{option}" in section for option in parameter.opts), f"{name}: {parameter.opts}"


class Codes(ast.NodeVisitor):
    """Collects the error codes and picture statuses that a module names whole."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and CODE.fullmatch(node.value):
            self.found.add(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Parts of a code that is put together are none."""


def codes_in_source() -> set[str]:
    codes = Codes()
    for path in SOURCE.rglob("*.py"):
        if path.name != "errors.py" or path.parent != SOURCE:
            codes.visit(ast.parse(path.read_text()))
    return codes.found


def test_every_error_code_stands_in_the_errors_page() -> None:
    text = page("errors.md")
    assert not [code for code in sorted(codes_in_source()) if f"| `{code}` |" not in text]


def test_no_error_code_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", page("errors.md"), re.MULTILINE))
    assert documented <= codes_in_source() | {code.value for code in CustomVisionErrorCodes}


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_every_table_stands_in_the_data_map(table: str) -> None:
    assert f"| `{table}` |" in page("data-map.md")


@pytest.mark.parametrize("page_name", sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")))
def test_every_page_is_reached_and_every_link_leads_somewhere(page_name: str) -> None:
    path = DOCS / page_name
    if page_name != "index.md":
        assert f"({page_name})" in page("index.md")
    check_links(path)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_link_of_the_repository_pages_leads_somewhere(name: str) -> None:
    check_links(ROOT / name)


def check_links(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    for page_text in ((ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()):
        assert set(re.findall(r"`?make ([a-z-]+)", page_text)) <= explained
