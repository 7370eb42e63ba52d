"""Pages of papers: what stands on them, and that the committed ones are those of today."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from jinja2 import Environment

from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import Found
from tokenprune.reproduce.cells import cells
from tokenprune.reproduce.files import papers, read_table
from tokenprune.reproduce.pages import comparisons, write_index, write_pages
from tokenprune.reproduce.pages.papers import PROMPTS, paper_view
from tokenprune.reproduce.pages.ranks import budget_of, rank
from tokenprune.reproduce.pages.tables import shown as shown_cell
from tokenprune.reproduce.pages.write import rendered

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "docs" / "results" / "papers"


def figure(value: float, n: int = 2700, **more) -> Found:
    told = {"machine": "a machine", "date": "2026-11-01", "run": "0123", "of": 2700}
    return Found(value=value, n=n, **told, **more)


# the full model is a point and a half above the printed 58.5
OURS = {
    ("Full 7B", "vmme_wo_subs"): figure(60.0, full=True, guessed=3),
    ("FastV 7B", "vmme_wo_subs"): figure(58.6, effect=-1.4, effect_low=-2.1, effect_high=-0.7),
    ("DyCoke 7B K=0.7", "vmme_wo_subs"): figure(
        59.9, effect=-0.1, effect_low=-0.6, effect_high=0.4
    ),
    ("Full 0.5B", "vmme_wo_subs"): figure(44.3, full=True),
    ("DyCoke 0.5B K=0.7", "vmme_wo_subs"): figure(
        41.0, 200, effect=-3.0, effect_low=-9.0, effect_high=3.0
    ),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """DyCoke's, with some figures of ours for its Table 1."""

    def ours(id_):
        return OURS if id_ == "dycoke/table1" else {}

    return paper_view("dycoke", ours, lambda id_: None, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def first(page):
    return page.tables[0]


def cell_of(table, row, label):
    (place,) = (place for place, head in enumerate(table.heads) if head == label)
    (found,) = (one for one in table.rows if one.name == row)
    return found.cells[place]


def test_committed_pages_are_byte_for_byte_those_of_the_committed_figures(tmp_path):
    shutil.copytree(COMMITTED / "images", tmp_path / "images")
    made = write_pages(papers(), tmp_path)
    assert {file.name for file in made} == {file.name for file in COMMITTED.glob("*.*")}
    for file in made:
        stale = f"{file.name} is stale: make papers"
        assert file.read_bytes() == (COMMITTED / file.name).read_bytes(), stale


def test_the_committed_index_is_that_of_the_committed_figures(tmp_path):
    made = write_index(tmp_path / "README.md")
    assert made.read_text() == (ROOT / "experiments" / "README.md").read_text(), "make papers"


def test_a_figure_that_deviates_is_shown_with_its_difference(first):
    shown = cell_of(first, "FastV 7B", "VideoMME")
    assert (shown.printed, shown.ours, shown.delta, shown.sign) == ("57.3", "58.6", "+1.3", "Δ")


def test_levels_are_grey_where_the_full_model_deviates_and_there_alone(first):
    assert cell_of(first, "DyCoke 7B K=0.7", "VideoMME").grey
    assert not cell_of(first, "Full 0.5B", "VideoMME").grey
    assert "deviates from the printed one in VideoMME" in first.banner


def test_effects_stand_beside_the_printed_ones_with_their_interval(first):
    assert first.effects is not None
    (row,) = (row for row in first.effects.rows if row[0] == "FastV 7B")
    assert row == ["FastV 7B", "VideoMME", "-1.2", "-1.4", "[-2.1, -0.7]", "2,700 of 2,700"]


def test_fewer_samples_are_partial_however_near(first):
    shown = cell_of(first, "DyCoke 0.5B K=0.7", "VideoMME")
    assert (shown.status, shown.why) == ("partial", "200 of 2,700 samples")


def test_the_order_of_methods_is_compared(first):
    (line,) = (line for line in first.orders if line.startswith("VideoMME: "))
    # of the pairs of one model three stand in the same order, and one does not
    assert "Kendall's tau of 5 rows, ours against printed: 0.50" in line


def test_claims_are_decided_on_printed_figures_and_on_ours(first):
    rows = {row[0]: row for row in first.claims.rows}
    claim = rows["On PerceptionTest the 7B model gains at K=0.7"]
    assert claim[1].startswith("holds: +0.5 on PerceptionTest")
    assert claim[2] == "-"


def test_what_a_row_is_stands_as_words_to_copy(first):
    (row,) = (row for row in first.rows if row.name == "DyCoke 7B K=0.7")
    assert row.settings == "model 7B, K 0.7, P 0.7, L 3"
    assert row.run == (
        "strategy=dycoke dycoke.merge=0.7 dycoke.prune=0.7 dycoke.layer=3 "
        "model=llava-hf/llava-onevision-qwen2-7b-ov-hf frames=32"
    )


def test_the_appendix_names_runs_and_counts_guesses(page):
    (row,) = page.runs.rows  # of one digest
    assert row[page.runs.heads.index("date")] == "2026-11-01"
    assert page.facts[3] == ("our figures", "a machine, 2026-11-01")


def test_the_summary_counts_all_printed_figures(page):
    assert sum(share.cells for share in page.shares) == 888
    assert page.summary[0] == "81 analytic figures: 65 exact, 16 slip."


def test_a_rank_is_among_methods_of_no_more_tokens():
    table = read_table("dytok/table5")
    rows = {row.label: row for row in table.rows}
    best = rows["VisionZip† + DyToK 25 % guide 7B"]
    # seven methods each at 25, 20 and 10 %
    assert rank(table, best, "avg", budget_of(table, best)) == "1 of 21"
    assert rank(table, rows["Vanilla"], "avg", budget_of(table, rows["Vanilla"])) == "5 of 36"
    plain = rows["VisionZip 10 %"]
    assert rank(table, plain, "avg", budget_of(table, plain)) == "7 of 7"


def test_results_name_the_budget_the_protocol_and_the_table(page):
    heads, rows = page.results.heads, page.results.rows
    row = next(
        dict(zip(heads, row, strict=True))
        for row in rows
        if row[1] == "VideoMME" and row[3] == "72B" and row[6] == "18.75 %"
    )
    assert (row["printed"], row["printed in"], row["protocol"]) == (
        "66.3",
        "dycoke/table1",
        "lmms-2024",
    )
    assert row["rank at no more tokens"] == "1 of 2"


def test_a_page_needs_nothing_from_elsewhere(page):
    text = rendered("paper.html.j2", page=page)
    assert not re.search(r"<(script|img|iframe|source)[^>]+src=[\"']?(?!data:)", text)
    assert "<link" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_no_status_is_told_by_colour_alone(page):
    text = rendered("paper.html.j2", page=page)
    cells = re.findall(
        r'<td class="(exact|slip|deviates|partial|not-run|blocked)[^>]*>(.*?)</td>', text
    )
    signs = {"exact": "=", "slip": "≠", "deviates": "Δ", "partial": "◐", "not-run": "·"}
    assert len(cells) > 700
    for status, inside in cells:
        assert signs.get(status, "–") in inside
        assert status.replace("-", " ") in inside


def test_markup_of_figures_is_text(page):
    text = rendered("paper.md.j2", page=page, bar=40)
    assert "58.3<br>59.9 Δ +1.6 (grey) |" in text
    assert "\n\n\n" not in text


def test_what_needs_no_run_decides_a_claim_on_ours():
    table = read_table("dytok/table16")
    found = comparisons.claims(table, cells(table), {}, None)
    assert found is not None
    ours = {row[0].partition(",")[0]: row[2] for row in found.rows}
    assert ours["FLOPs fall as much"] == "does not hold: 3.34x"
    assert ours["22 % less memory"] == "-"


def test_time_on_other_hardware_has_no_difference_but_a_ratio():
    table = read_table("dycoke/table3")
    timed = {
        ("Full 7B 32 frames", "total_time"): Found(1722.0, full=True, machine="another machine"),
        ("DyCoke 7B 32 frames K=0.7", "total_time"): Found(
            1421.0, effect=0.825, machine="another machine"
        ),
    }
    made = cells(table, timed)
    (line,) = wording.ratios(table, made)
    assert line == "DyCoke 7B 32 frames K=0.7, Total time: 1.21x less, printed 1.54x."
    (full,) = (one for one in made if one.found is not None and one.found.full)
    view = shown_cell(full, False)
    assert (view.printed, view.ours, view.delta, view.sign) == ("2:33:30", "28:42", "", "")


def test_the_prompt_of_a_page_is_that_of_the_template():
    from tokenprune.loading.templates import QWEN_1_5

    content = [{"type": "video"}, {"type": "text", "text": "{text}"}]
    sent = (
        Environment()
        .from_string(QWEN_1_5)
        .render(messages=[{"role": "user", "content": content}], add_generation_prompt=True)
    )
    assert sent.replace("<image>", "<video>") == PROMPTS["qwen_1_5"]
