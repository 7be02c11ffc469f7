"""What commands print with `--json`: one line, which the page of it documents."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from command import ccm

from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands import export as exporting
from ccm_runtime.commands.doctor import Diagnosis
from ccm_runtime.replay import Comparison
from ccm_training.scores import Evaluation

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "json.md"
ROWS = {
    command: set(re.findall(r"`(\w+)`", row[2]))
    for row in re.finditer(r"^\| (`ccm .*?) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    for command in re.findall(r"`ccm ([a-z-]+)`", row[1])
}


def told(printed):
    """The object of the only line."""
    (line,) = printed.splitlines()
    return json.loads(line)


def test_verify_tells_what_it_checked(tiny_bundle):
    finished = ccm("verify", tiny_bundle, "--json")
    assert (0, "") == (finished.returncode, finished.stderr)
    report = told(finished.stdout)
    assert ROWS["verify"] == set(report)
    digest = load_bundle(tiny_bundle).digest
    assert (str(tiny_bundle), digest, None) == (report["bundle"], report["bundle_digest"], report["public_key"])
    assert report["checks"]["padding"] == "rows that are not valid change nothing"


def test_a_bundle_that_does_not_verify_prints_nothing_on_standard_output(tiny_bundle):
    (tiny_bundle / "MODEL_CARD.md").write_text("another card", encoding="utf-8")
    finished = ccm("verify", tiny_bundle, "--json")
    assert (6, "") == (finished.returncode, finished.stdout)
    assert "MODEL_CARD.md" in finished.stderr


def test_export_tells_what_it_wrote_and_advises_on_standard_error(tiny_bundle, tmp_path, monkeypatch, capsys):
    bundle = load_bundle(tiny_bundle)
    monkeypatch.setattr(exporting, "export_run", lambda *_, **__: bundle.manifest)
    exporting.export(tmp_path / "run", tiny_bundle, max_rate=None, fallback="zero", as_json=True)
    printed = capsys.readouterr()
    report = told(printed.out)
    assert ROWS["export"] == set(report)
    assert (str(tiny_bundle), bundle.digest) == (report["bundle"], report["bundle_digest"])
    assert {"max_rate": None, "fallback": "zero"} == report["safety"]
    assert {"tolerance", "num_inputs"} == set(report["parity"])
    assert f"next: ccm verify {tiny_bundle}" in printed.err


def test_export_s_advice_can_be_pasted_where_a_name_has_spaces(tiny_bundle, tmp_path, monkeypatch, capsys):
    manifest, bundle = load_bundle(tiny_bundle).manifest, tmp_path / "of mine"
    monkeypatch.setattr(exporting, "export_run", lambda *_, **__: manifest)
    exporting.export(tmp_path / "run", bundle, max_rate=None, fallback="zero", as_json=False)
    assert f"next: ccm verify '{bundle}'    or    ccm serve '{bundle}'" in capsys.readouterr().err


def test_the_page_knows_every_entry():
    assert set(Evaluation.model_fields) == ROWS["evaluate"] == ROWS["adapt"]
    assert set(Diagnosis.model_fields) == ROWS["doctor"]
    assert {field.name for field in fields(Comparison)} < ROWS["replay"]


@pytest.mark.parametrize("command", ["families"])
def test_a_list_is_of_what_the_page_says(command):
    assert ROWS[command] == set(told(ccm(command, "--json").stdout)[0])
