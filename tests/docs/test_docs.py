"""What the docs say is so: links lead somewhere, commands exist, the glossary knows every metric."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from ccm_runtime.cli import app
from ccm_training.config import Config

ROOT = Path(__file__).resolve().parents[2]
OURS = ("docs", "proto", "training", "export", "tests", "benchmarks", "examples")
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(page for folder in OURS for page in (ROOT / folder).rglob("*.md")))
    if "node_modules" not in page.parts
)
README = ROOT / "README.md"


def blocks(page):
    """Indented or fenced code of a page, as lines."""
    text = page.read_text()
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    return [line.strip() for block in fenced for line in block.splitlines()] + indented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_exists(page):
    commands = get_command(app).commands
    for line in blocks(page):
        words = line.removeprefix("$ ").split()
        if len(words) < 2 or words[0] != "ccm" or words[1].startswith(("-", "<", "[")):
            continue
        assert words[1] in commands, f"{page.name}: {line}"
        command = commands[words[1]]
        if hasattr(command, "commands"):
            assert words[2] in command.commands, f"{page.name}: {line}"
            command = command.commands[words[2]]
        known = {option for parameter in command.params for option in parameter.opts}
        given = {word.strip("[]").partition("=")[0] for word in words if word.strip("[").startswith("--")}
        assert given <= known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in blocks(page):
        if match := re.match(r"(?:\$ )?make ([a-z]+)", line):
            assert match[1] in targets, f"{page.name}: {line}"


def test_the_readme_is_short_and_its_two_commands_are_those_that_integration_runs():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert "make quickstart" in blocks(README)
    assert "make test" in blocks(README)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")


def test_every_metric_that_training_emits_is_in_the_glossary_and_no_other():
    source = "\n".join(path.read_text() for path in (ROOT / "training/ccm_training").rglob("*.py"))
    emitted = set(re.findall(r'metrics\["([a-z_]+/[a-z_]+)"\]', source))
    for shared in re.findall(r'metrics\[f"\{name\}/([a-z_]+)"\]', source):
        emitted |= {f"explorer/{shared}", f"executor/{shared}"}
    documented = set(re.findall(r"^\| `([a-z_]+/[a-z_]+)`", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE))
    assert emitted <= documented
    assert not {name for name in documented - emitted if name not in source}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_setting_exists(page):
    groups = {name: field.annotation.model_fields for name, field in Config.model_fields.items() if is_group(field)}
    for group, setting in re.findall(r"\b([a-z]+)\.([a-z_]+)\b(?=[=`])", page.read_text()):
        if group in groups and setting not in {"json", "mjs", "py", "cc"}:
            assert setting in groups[group], f"{page.name}: {group}.{setting}"


def is_group(field):
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "adr"
    pages = {path.name for path in folder.glob("0*.md")}
    listed = set(re.findall(r"\]\((0[^)]+\.md)\)", (folder / "README.md").read_text()))
    assert pages == listed


NOVELTY_IS_EXPLAINED = (
    "docs/glossary.md",
    "docs/reference/client.md",
    "docs/reference/metrics.md",
    "proto/ccm_runtime/v1/adaptation.proto",
    "ccm_runtime/metrics.py",
    "export/ccm_export/model_card.py",
)


@pytest.mark.parametrize("name", NOVELTY_IS_EXPLAINED)
def test_how_many_trials_novelty_lets_pass_is_said_as_it_was_measured(name):
    measured = json.loads((ROOT / "benchmarks/results/reliability/novelty.json").read_text())
    assert f"{100 * (1 - measured['false_alarms']):.0f} % of trials on " in (ROOT / name).read_text()
