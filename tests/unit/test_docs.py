"""README and docs tell the truth: what they name exists, and what exists is named."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from doctest import DocTestParser, DocTestRunner
from pathlib import Path

import click
import pytest

import martlet
from martlet import errors, formats
from martlet.cli import main
from martlet.recommend import declaration
from martlet.recommend.reading import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
REFERENCE = ROOT / "docs" / "reference.md"
GUIDE = ROOT / "docs" / "guides" / "recommender.md"

FENCE = re.compile(r"^ *```(\S*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def blocks(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[list[str]]:
    """The lines of shell blocks and the inline code that call martlet, as words."""
    lines: list[str] = []
    for kind, text in blocks(page):
        if kind in ("sh", "bash", "shell", "console", ""):
            lines += text.replace("\\\n", " ").splitlines()
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    lines += [" ".join(code.split()) for code in re.findall(r"`(martlet [^`]+)`", prose)]
    found = []
    for line in lines:
        line = line.strip().removeprefix("$ ")
        match = re.match(r"(?:\S+/)?(?:python3? -m )?martlet (?=[a-z-])(.*)", line)
        if match is None:
            continue
        text = re.split(r"\s[|;&>#]|\s{3,}", match.group(1))[0]
        try:
            found.append(shlex.split(text))
        except ValueError:
            found.append(text.split())
    return found


def command(name: str) -> click.Command | None:
    return main.get_command(click.Context(main), name)


@each_page
def test_every_command_and_option_that_is_named_exists(page: Path):
    for words in commands(page):
        name, *rest = words
        if name.startswith("-"):
            assert name in ("--help", "-h", "--version"), words
            continue
        found = command(name)
        if isinstance(found, click.Group) and rest and not rest[0].startswith("["):
            found = found.get_command(click.Context(found), rest[0])
        assert found is not None, f"no command: martlet {' '.join(words)}"
        known = {"--help", "-h"} | {opt for param in found.params for opt in param.opts}
        for word in rest:
            option = word.split("=")[0]
            # The flags of tensorflow_model_server are taken by name, with underscores.
            if re.match(r"--?[a-z]", option) and "_" not in option:
                assert option in known or (name == "serve" and option in ("--port", "--help")), (
                    f"martlet {name} has no {option}"
                )


@each_page
def test_python_blocks_with_prompts_run(page: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = DocTestRunner()
    for number, (kind, text) in enumerate(blocks(page)):
        if kind in ("python", "pycon") and ">>> " in text:
            test = DocTestParser().get_doctest(text, {}, f"{page.name}:{number}", str(page), 0)
            assert runner.run(test).failed == 0


@each_page
def test_links_between_pages_lead_somewhere(page: Path):
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", DECISIONS, ids=lambda p: p.stem)
def test_every_decision_has_its_number_and_its_line_in_the_index(page: Path):
    head, _, title = page.read_text(encoding="utf-8").partition("\n")[0].partition(": ")
    assert head == f"# {page.name[:4]}", "a decision begins with '# NNNN: Title'"
    index = (page.parent / "README.md").read_text(encoding="utf-8")
    assert f"- [{page.name[:4]}]({page.name}) {title}\n" in index, "add it to decisions/README.md"


@each_page
def test_no_page_names_a_folder_of_one_machine(page: Path):
    text = page.read_text(encoding="utf-8")
    found = re.search(r"(?<![\w.:/])/(home|root|Users|work|tmp|mnt|opt)/\w+", text)
    assert found is None, f"{page.name} names {found and found.group()}"


def test_the_reference_names_every_command_and_option():
    text = REFERENCE.read_text(encoding="utf-8")
    names = main.list_commands(click.Context(main))
    for group in [name for name in names if isinstance(command(name), click.Group)]:
        found = command(group)
        assert isinstance(found, click.Group)
        names += [f"{group} {name}" for name in found.list_commands(click.Context(found))]
    for name in names:
        first, _, second = name.partition(" ")
        found = command(first)
        if isinstance(found, click.Group) and second:
            found = found.get_command(click.Context(found), second)
        assert found is not None
        assert f"### martlet {name}\n" in text, f"{name}: run python docs/write_reference.py"
        section = text.split(f"### martlet {name}\n")[1].split("\n##")[0]
        for param in found.params:
            if isinstance(param, click.Option):
                assert param.opts[0] in section, (
                    f"martlet {name} {param.opts[0]}: run python docs/write_reference.py"
                )


def test_the_reference_names_every_error_with_its_code():
    text = REFERENCE.read_text(encoding="utf-8")
    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, errors.MartletError):
            assert re.search(rf"^\| `{name}` \|.*\| `{found.code.value}` \|", text, re.MULTILINE)


def test_the_reference_names_every_public_name_and_format():
    text = REFERENCE.read_text(encoding="utf-8")
    for name in martlet.__all__:
        assert f"`martlet.{name}`" in text, name
    for name in formats.BUILTIN:
        assert f"| `{name}` |" in text, f"{name}: run python docs/write_reference.py"


def test_every_format_has_its_page():
    pages = {
        "torchscript": "torch",
        "torch_export": "torch",
        "sklearn": "scikit-learn",
        "gzip": "folders-and-gzip",
        "folder": "folders-and-gzip",
    }
    for name in formats.BUILTIN:
        assert (ROOT / "docs" / "formats" / f"{pages.get(name, name)}.md").is_file(), name


def test_the_declaration_in_the_guide_is_one():
    (text,) = [text for kind, text in blocks(GUIDE) if kind == "toml"]
    declared = parse(text, GUIDE.name)
    assert {type(each) for each in declared.candidates} == {
        declaration.Neighbours,
        declaration.Similar,
        declaration.Stored,
        declaration.Popular,
    }
    assert {type(each) for each in declared.filters} == {
        declaration.DropSeen,
        declaration.DropUnknown,
        declaration.KeepWhere,
    }
    assert {type(each) for each in declared.rerank} == {
        declaration.Dedupe,
        declaration.Cap,
        declaration.Diversity,
    }
    model, dot = declared.ranking
    assert isinstance(model, declaration.ByModel) and isinstance(dot, declaration.ByDot)
    assert {type(each) for each in model.features.values()} == {
        declaration.Column,
        declaration.Vector,
        declaration.Dot,
        declaration.Given,
        declaration.Key,
    }


# What the file calls otherwise than the code.
WRITTEN = {"of": None, "operator": None, "value": None, "field": "request", "column": None,
           "timeout_s": "timeout_ms", "table": None,
           "candidates": None, "tables": None, "filters": None, "ranking": None,
           "rerank": None, "models": None}  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        declaration.Declaration,
        declaration.Neighbours,
        declaration.Similar,
        declaration.Stored,
        declaration.Popular,
        declaration.DropSeen,
        declaration.DropUnknown,
        declaration.ByModel,
        declaration.Dedupe,
        declaration.Cap,
        declaration.Diversity,
        declaration.Given,
    ],
    ids=lambda part: part.__name__,
)
def test_the_guide_explains_every_key(part: type):
    text = GUIDE.read_text(encoding="utf-8")
    for each in fields(part):
        key = WRITTEN.get(each.name, each.name)
        if key is not None:
            assert f"| `{key}` |" in text or f"{{ {key} = " in text or f", {key} = " in text, key
