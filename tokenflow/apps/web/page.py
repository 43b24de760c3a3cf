"""The whole page: its parts from top to bottom, and how jobs are started and found again."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from tokenflow.apps.web import (
    compare_tab,
    edit_tab,
    history_tab,
    job_panel,
    keyframes_panel,
    region_panel,
    result_panel,
    settings_panel,
)
from tokenflow.apps.web.fields import marked, shown
from tokenflow.apps.web.form import Values
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.kept_form import CLIP, PROMPTS, form_of, kept_form
from tokenflow.apps.web.mistakes import ELSEWHERE, by_field, note_html
from tokenflow.apps.web.model_list import device_memory, models_html, published_html
from tokenflow.apps.web.progress_view import outlook_html
from tokenflow.apps.web.quirks import HIDDEN, follow, on, on_load, reveal, store_form
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.work import edit_job, trial_job
from tokenflow.errors import TokenflowError

TITLE = "tokenflow"

PUBLISHED = (
    "<h2>Published models</h2><p>The field Model of the tab Edit takes these names, and any other folder in diffusers' "
    "layout, .safetensors file or Hub id. A model of the Hub is downloaded when it is first used. One model is in "
    "memory at a time. “At least” is what is needed with settings that save memory (docs/small_cards.md).</p>"
)


def build(site: Site) -> Any:
    """The page as Gradio's Blocks."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as page:
        gr.HTML("<h1>tokenflow: edit a clip by a sentence</h1>")
        with gr.Tabs():
            with gr.Tab("Edit"):
                edit = edit_tab.build(site)
            with gr.Tab("Compare"):
                compare = compare_tab.build()
            with gr.Tab("History") as history:
                in_history = gr.Column()
            with gr.Tab("Settings") as settings:
                folded = settings_panel.build(site, set(edit.fields))
                fields = {key: (edit.fields | folded)[key] for key in site.keys}
                settings_panel.build_yaml(site, settings, edit.clip, fields)
            with gr.Tab("Models") as models:
                table, published = gr.HTML(elem_id="models"), gr.HTML(elem_id="published")
        wrong = gr.HTML(elem_id="wrong")
        jobs = job_panel.build(site)
        result = result_panel.build(site)
        with in_history:
            history_tab.build(site, history, result.shown, edit.clip, fields)
        edit_tab.take_examples(site, edit, fields)
        keyframes_panel.connect(site, edit.keyframes, edit.clip, fields)
        region_panel.connect(site, edit.region, edit.clip, fields)
        on(models.select, lambda: _models(site), [], [table, published])
        _start_jobs(site, edit, compare, jobs, fields, wrong)
        _estimate(site, edit, fields, wrong)
        _show_outcome(site, jobs, result)
        _mark_failed(site, edit, jobs, fields)
        _find_again(page, site, edit, compare, jobs, fields)
    return page


def _models(site: Site) -> list[str]:
    """The models that are offered, and where the page is local those that can be downloaded."""
    memory = device_memory()
    return [models_html(site.models, memory), PUBLISHED + published_html(memory) if site.space.is_local else ""]


def _start_jobs(
    site: Site,
    edit: edit_tab.EditTab,
    compare: compare_tab.CompareTab,
    jobs: job_panel.JobPanel,
    fields: dict[str, Any],
    wrong: Any,
) -> None:
    """What the buttons do: put a job into the queue, or say what is wrong beside the field."""

    def answer(request: gr.Request, forms: Sequence[Values], clip: str, kind: str) -> list[Any]:
        try:
            configs: list[Any] = []
            for values in forms:
                configs.append(site.of(request).config(values, clip))
            job = trial_job(configs[0], site.editor) if kind == "trial" else edit_job(apart(configs), site.editor)
        except TokenflowError as error:
            mistakes = by_field(error, ["clip.path", *fields])
            return [gr.skip(), *_said(edit, mistakes), *marked(fields, mistakes)]
        return [site.jobs.submit(job).id, *_said(edit, {}), *marked(fields, {})]

    def try_some(request: gr.Request, clip: str, *values: str | None) -> list[Any]:
        return answer(request, [_form(fields, values)], clip, "trial")

    def edit_whole(request: gr.Request, clip: str, *values: str | None) -> list[Any]:
        return answer(request, [_form(fields, values)], clip, "whole")

    def compare_prompts(request: gr.Request, prompts: str, clip: str, *values: str | None) -> list[Any]:
        forms = compare_tab.by_prompts(_form(fields, values), prompts)
        return answer(request, forms or [_form(fields, values) | {"edit.prompt": ""}], clip, "compare")

    def compare_seeds(request: gr.Request, count: float, clip: str, *values: str | None) -> list[Any]:
        return answer(request, compare_tab.by_seeds(_form(fields, values), int(count)), clip, "compare")

    inputs = [edit.clip, *fields.values()]
    outputs = [jobs.job_id, edit.clip_note, wrong, *fields.values()]
    for event, function, first in (
        (edit.tried.click, try_some, []),
        (edit.whole.click, edit_whole, []),
        (compare.by_prompt.click, compare_prompts, [compare.prompts]),
        (compare.by_seed.click, compare_seeds, [compare.seeds]),
    ):
        reveal(on(event, function, [*first, *inputs], outputs), "[role=alert], .tf-wrong", "#status")


def _form(fields: dict[str, Any], values: Sequence[str | None]) -> dict[str, str]:
    """The text of each field by the key of its setting."""
    return {key: value or "" for key, value in zip(fields, values, strict=True)}


def _said(edit: edit_tab.EditTab, mistakes: dict[str, str]) -> list[Any]:
    """What is wrong with the clip, and what is wrong beside fields that the tab Edit does not show."""
    about_clip = note_html(mistakes["clip.path"]) if "clip.path" in mistakes else gr.skip()
    elsewhere = [
        text if key == ELSEWHERE else f"{key}: {text}"
        for key, text in mistakes.items()
        if key not in edit.fields and key != "clip.path"
    ]
    return [about_clip, note_html("; ".join(elsewhere))]


def _estimate(site: Site, edit: edit_tab.EditTab, fields: dict[str, Any], wrong: Any) -> None:
    """Say what the edit of the whole clip would take, in the words of the command line."""

    def estimate(request: gr.Request, clip: str, *values: str | None) -> Iterator[list[Any]]:
        yield ["<p role=status>Estimating…</p>", *[gr.skip()] * (2 + len(fields))]
        try:
            config = site.of(request).config(_form(fields, values), clip)
            with importing():
                from tokenflow.apps.dry_run import dry_run
            found = dry_run(config, timed=False)  # a job may be at work on the device
        except TokenflowError as error:
            mistakes = by_field(error, ["clip.path", *fields])
            yield ["", *_said(edit, mistakes), *marked(fields, mistakes)]
        else:
            yield [outlook_html(found), *_said(edit, {}), *marked(fields, {})]

    outputs = [edit.outlook, edit.clip_note, wrong, *fields.values()]
    reveal(on(edit.estimate.click, estimate, [edit.clip, *fields.values()], outputs), "[role=alert], .tf-wrong")


def apart(configs: list[Any]) -> list[Any]:
    """The configurations with a folder each: those of one comparison may have been given the same."""
    seen: dict[Any, int] = {}
    apart = []
    for config in configs:
        folder = config.output.dir
        seen[folder] = seen.get(folder, 0) + 1
        own = folder if seen[folder] == 1 else folder.with_name(f"{folder.name}-seed{config.edit.seed}")
        output = config.output.model_copy(update={"dir": own})
        apart.append(config.model_copy(update={"output": output}))
    return apart


def _show_outcome(site: Site, jobs: job_panel.JobPanel, result: result_panel.ResultPanel) -> None:
    """Show the result of an edit once it has ended."""

    def show(name: str) -> list[Any]:
        job = site.jobs.find(name)
        if job is None or job.kind == "trial" or not job.outcome:
            return [gr.skip(), gr.skip()]
        folders = [str(folder) for folder in job.outcome]
        return [folders[0], folders if len(folders) > 1 else []]

    on(jobs.finished.change, show, [jobs.finished], [result.shown, result.several])


def _mark_failed(site: Site, edit: edit_tab.EditTab, jobs: job_panel.JobPanel, fields: dict[str, Any]) -> None:
    """Show what made a job fail beside the field where it was entered, too."""

    def mark(name: str) -> list[Any]:
        job = site.jobs.find(name)
        if job is None or job.error is None:
            return [gr.skip()] * (1 + len(fields))
        mistakes = by_field(job.error, ["clip.path", *fields])
        about_clip = note_html(mistakes["clip.path"]) if "clip.path" in mistakes else gr.skip()
        return [about_clip, *marked(fields, mistakes)]

    on(jobs.finished.change, mark, [jobs.finished], [edit.clip_note, *fields.values()])


def _find_again(
    page: Any,
    site: Site,
    edit: edit_tab.EditTab,
    compare: compare_tab.CompareTab,
    jobs: job_panel.JobPanel,
    fields: dict[str, Any],
) -> None:
    """After a reload, show the job and the form that the tab had shown; in a new tab, a job that is under way."""

    def restore(request: gr.Request, name: str, kept: str) -> list[Any]:
        site.warm_up()
        own = site.of(request)
        shown_before = site.jobs.find(name)
        job = shown_before or own.newest_unfinished()
        form = kept_form(kept, own) or (form_of(shown_before, site.space) if shown_before else None)
        found_id = job.id if job else ""
        if form is None:
            return [found_id, *[gr.skip()] * (2 + len(fields))]
        return [found_id, form.clip, form.prompts, *shown(fields, form.values)]

    form, found = gr.Textbox("", visible=HIDDEN), gr.Textbox("", visible=HIDDEN)
    store_form({CLIP: edit.clip_name, PROMPTS: compare.prompts, **fields})
    on_load(page, restore, [jobs.job_id, form], [found, edit.clip, compare.prompts, *fields.values()])
    follow(found, jobs.job_id)
