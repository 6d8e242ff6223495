//! What stands in front of a screen: help, explanations, questions.

use ibid::protocol::{Comparison, Explanation, Prospect, Scope};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use unicode_width::UnicodeWidthStr as _;

use crate::app::form::{self, Form};
use crate::app::model::{Model, Overlay};
use crate::app::palette;
use crate::app::sensors::SensorBoard;
use crate::app::steps::shorten;
use crate::output::clean;
use crate::widgets::{frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(overlay) = &model.overlay else { return };
    let width = usize::from(area.width.saturating_sub(6).min(94));
    match overlay {
        Overlay::Help { typed, selected } => {
            let title = "keys usable now · type to filter · enter does it · esc closes";
            draw_actions(canvas, area, model, title, typed, *selected);
        }
        Overlay::Palette { typed, selected } => {
            draw_actions(canvas, area, model, "actions · type words · enter does it · esc closes", typed, *selected);
        }
        Overlay::Explain { explanation, scroll } => {
            let title = format!("explain {} · {} · d diff · esc closes", explanation.execution, explanation.kind);
            show(canvas, area, model, &title, explain_lines(explanation, width), *scroll);
        }
        Overlay::Compare { comparison, scroll, all } => {
            let title = format!(
                "{} and {} · tab {} · esc closes",
                comparison.one,
                comparison.other,
                if *all { "only what differs" } else { "all parts" }
            );
            show(canvas, area, model, &title, compare_lines(comparison, *all, width, model), *scroll);
        }
        Overlay::Rerun { step, predicted } => {
            let mut lines = Vec::new();
            let mut add = |key: &str, what: String, prospect: Option<&Prospect>| {
                lines.extend(frame::field(key, 5, &what, width));
                if let Some(prospect) = prospect {
                    lines.extend(frame::field("", 5, &form::prospect(prospect), width));
                }
            };
            let predicted = predicted.as_ref();
            let forced = predicted.map(|predicted| &predicted.forced);
            add("f", format!("force {step} with the arguments it had; what it calls is looked up as usual"), forced);
            let below = predicted.map(|predicted| &predicted.below);
            add("b", "force it and everything below: nothing older is taken".to_owned(), below);
            let again = predicted.map(|predicted| &predicted.again);
            add("n", format!("start {} again as a new run, cache as usual", step.run), again);
            add("a", format!("the same, but edit the arguments of {} first", step.run), None);
            add("esc", "nothing".to_owned(), None);
            show(canvas, area, model, "run again", lines, 0);
        }
        Overlay::Environments { environments, selected } => {
            let all = std::iter::once("all projects and environments".to_owned());
            let rest = environments.iter().map(|env| {
                let base = env.base.as_ref().map_or_else(String::new, |base| format!("   on {}", clean(base)));
                format!("{}/{}{base}", clean(&env.project), clean(&env.environment))
            });
            let lines = all.chain(rest).enumerate().map(|(at, text)| choice(text, at == *selected)).collect();
            show(canvas, area, model, "show · enter · esc closes", lines, scroll_to(*selected, area));
        }
        Overlay::Start(form) => draw_form(canvas, area, model, form, width),
        Overlay::Cancel { id, others } => {
            let lines = vec![
                Line::raw(match others {
                    1 => format!(" One other waits for {id}."),
                    others => format!(" {others} others wait for {id}."),
                }),
                Line::raw(" m  mine only: it goes on for the others"),
                Line::raw(format!(" a  all {}: it stops for everyone", others + 1)),
                Line::raw(" esc  nothing"),
            ];
            show(canvas, area, model, "cancel", lines, 0);
        }
        Overlay::Sensors(board) => {
            let title = "sensors · enter open · s start · x stop for good · esc closes";
            show(
                canvas,
                area,
                model,
                title,
                board_lines(board, usize::from(area.width.min(100)).saturating_sub(10)),
                0,
            );
        }
        Overlay::Choose { title, ids, selected } => {
            let lines = ids
                .iter()
                .enumerate()
                .map(|(index, id)| {
                    let (mark, style) = if index == *selected {
                        (">", style::selected())
                    } else {
                        (" ", style::borrowed(model.colour))
                    };
                    Line::from(vec![Span::raw(format!(" {mark} ")), Span::styled(id.to_string(), style)])
                })
                .collect();
            let page = area.height.saturating_sub(6);
            let scroll = u16::try_from(*selected).unwrap_or(0).saturating_sub(page);
            show(canvas, area, model, title, lines, scroll);
        }
    }
}

/// A line of something to choose from.
fn choice(text: String, selected: bool) -> Line<'static> {
    let look = if selected { style::selected() } else { ratatui::style::Style::default() };
    Line::from(vec![Span::raw(if selected { " > " } else { "   " }), Span::styled(text, look)])
}

/// How far to scroll so that a line is to be seen.
fn scroll_to(selected: usize, area: Rect) -> u16 {
    let page = area.height.saturating_sub(3);
    (u16::try_from(selected).unwrap_or(u16::MAX) + 1).saturating_sub(page)
}

fn draw_actions(canvas: &mut Frame<'_>, area: Rect, model: &Model, title: &str, typed: &str, selected: usize) {
    let found = palette::matching(model, typed);
    let mut lines = vec![Line::raw(format!(" : {}_", clean(typed)))];
    let room = usize::from(area.width.saturating_sub(6).min(94)).saturating_sub(18);
    lines.extend(found.iter().enumerate().map(|(at, entry)| {
        let keys = model.keymap.of(entry.action).join(" ");
        choice(format!("{keys:<13} {}", shorten(entry.words, room)), at == selected)
    }));
    if found.is_empty() {
        lines.push(Line::raw(" no action has these words"));
    }
    show(canvas, area, model, title, lines, scroll_to(selected + 1, area));
}

fn explain_lines(explanation: &Explanation, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = frame::field("", 0, &clean(&explanation.sentence), width)
        .into_iter()
        .map(|line| line.patch_style(style::strong()))
        .collect();
    for cause in &explanation.causes {
        lines.extend(frame::field(&clean(&cause.name), 16, &clean(&cause.text), width));
    }
    if let Some(would) = &explanation.would_hit {
        lines.extend(frame::field("", 0, &clean(would), width));
    }
    lines.push(Line::default());
    for fact in &explanation.facts {
        lines.extend(frame::field(&clean(&fact.name), 16, &clean(&fact.text), width));
    }
    lines
}

fn compare_lines(comparison: &Comparison, all: bool, width: usize, model: &Model) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let equal: Vec<&str> = comparison.parts.iter().filter(|part| part.equal).map(|part| part.name.as_str()).collect();
    for part in comparison.parts.iter().filter(|part| all || !part.equal) {
        let sign = if part.equal { "=" } else { "≠" };
        let key = if part.in_key || !part.name.starts_with("argument") { "" } else { "   (not in key)" };
        let values =
            if part.equal { clean(&part.one) } else { format!("{} → {}", clean(&part.one), clean(&part.other)) };
        let text = format!("{sign} {values}{}", if part.equal { "" } else { key });
        let mut block = frame::field(&shorten(&clean(&part.name), 19), 20, &text, width);
        if !part.equal {
            block = block.into_iter().map(|line| line.patch_style(style::strong())).collect();
        }
        lines.extend(block);
        for change in &part.changes {
            let look = match change.contains(" + ") {
                true => style::state(ibid::model::State::Succeeded, model.colour),
                false => ratatui::style::Style::default(),
            };
            lines.push(Line::from(Span::styled(
                format!("   {}", shorten(&clean(change), width.saturating_sub(4))),
                look,
            )));
        }
    }
    if lines.is_empty() {
        lines.push(Line::raw(" they differ in nothing that is compared"));
    }
    if !all {
        lines.push(Line::default());
        lines.extend(frame::field("equal", 20, &clean(&equal.join(", ")), width));
    }
    lines
}

fn draw_form(canvas: &mut Frame<'_>, area: Rect, model: &Model, form: &Form, width: usize) {
    let Some(chosen) = &form.chosen else {
        let mut lines = vec![Line::raw(format!(" {}_", clean(&form.typed)))];
        let found = form.found();
        lines.extend(found.iter().enumerate().map(|(at, target)| {
            let names: Vec<_> = target.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            let doc = target.doc.as_deref().and_then(|doc| doc.lines().next()).unwrap_or_default();
            let text = format!("{}({})  {doc}", target.target, names.join(", "));
            choice(shorten(&clean(&text), width.saturating_sub(4)), at == form.selected)
        }));
        if found.is_empty() {
            lines
                .push(Line::raw(" no workflow has these words; 'ibid register MODULE' makes a module's targets known"));
        }
        let Scope { project, environment } = model.scope_shown();
        let title =
            format!("start a workflow of {project}/{environment} · type to find it · esc closes, E shows others");
        return show(canvas, area, model, &title, lines, scroll_to(form.selected + 1, area));
    };
    let mut lines = Vec::new();
    if let Some(doc) = &chosen.doc {
        lines.extend(frame::field("", 0, &clean(doc.lines().next().unwrap_or_default()), width));
    }
    let room = chosen.parameters.iter().map(|parameter| parameter.name.chars().count()).max().unwrap_or(0).min(20) + 2;
    for (at, parameter) in chosen.parameters.iter().enumerate() {
        let typed = chosen.fields.get(at).map_or("", String::as_str);
        let here = at == chosen.at;
        let shown = match (typed, &parameter.default, here) {
            ("", Some(default), false) => default.to_string(),
            (typed, _, true) => format!("{typed}_"),
            (typed, _, false) => typed.to_owned(),
        };
        let judged = match chosen.judge(at) {
            Ok("default") => match &parameter.default {
                Some(default) if here => format!("default {default}"),
                _ => "default".to_owned(),
            },
            Ok(kind) => kind.to_owned(),
            Err(wrong) => wrong,
        };
        let name = shorten(&parameter.name, room);
        let value = shorten(&clean(&shown), width.saturating_sub(room + judged.width() + 8).max(8));
        let text = format!("{name:<room$} {value}");
        let gap = " ".repeat(width.saturating_sub(text.width() + judged.width() + 5));
        lines.push(choice(text, here));
        if let Some(line) = lines.last_mut() {
            line.push_span(Span::styled(format!("{gap} {judged}"), style::quiet()));
        }
    }
    if chosen.parameters.is_empty() {
        lines.push(Line::raw(" it takes no arguments"));
    }
    let cache = if chosen.use_cache { "take an earlier result, and be one" } else { "really run it" };
    lines.extend(frame::field("", 0, &format!("^t {cache}"), width));
    for line in &chosen.prospect {
        lines.extend(frame::field("", 2, &clean(line), width));
    }
    if !form.wrong.is_empty() {
        let wrong = frame::field("", 0, &clean(&form.wrong), width);
        lines.extend(
            wrong.into_iter().map(|line| line.patch_style(style::state(ibid::model::State::Failed, model.colour))),
        );
    }
    lines.push(Line::default());
    let keys = "enter starts · tab next · pgup pgdn earlier starts · ^e what would happen · esc back";
    lines.extend(frame::field("", 0, keys, width));
    let Scope { project, environment } = &chosen.scope;
    let title = format!("start {} in {project}/{environment}", chosen.target);
    show(canvas, area, model, &title, lines, 0);
}

fn board_lines(board: &SensorBoard, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let running = board.sensors.iter().map(|sensor| {
        let checkpoint = sensor.checkpoint.as_ref().map_or_else(String::new, |text| format!(" from {text}"));
        format!(
            "{:<10} {:<5} {}({}){checkpoint}  {}/{}  {}",
            sensor.state,
            sensor.run.to_string(),
            sensor.target,
            sensor.arguments,
            sensor.project,
            sensor.environment,
            sensor.detail
        )
    });
    let available = board.available.iter().map(|sensor| {
        let names: Vec<_> = sensor.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let Scope { project, environment } = &sensor.scope;
        format!("{:<16} {}({})  {project}/{environment}", "start", sensor.target, names.join(", "))
    });
    for (index, text) in running.chain(available).enumerate() {
        let selected = index == board.selected;
        let (mark, style) = if selected { (">", style::selected()) } else { (" ", ratatui::style::Style::default()) };
        lines
            .push(Line::from(vec![Span::raw(format!(" {mark} ")), Span::styled(shorten(&clean(&text), width), style)]));
    }
    if lines.is_empty() {
        lines.push(Line::raw(" no sensor is registered: decorate a function with @sensor() from ibid"));
    }
    if let Some(typed) = &board.typing {
        lines.push(Line::default());
        lines.push(Line::raw(format!(" arguments: {}_   enter starts, esc does not", clean(typed))));
    }
    if !board.wrong.is_empty() {
        lines.push(Line::raw(format!(" {}", clean(&board.wrong))));
    }
    lines
}

fn show(canvas: &mut Frame<'_>, area: Rect, model: &Model, title: &str, lines: Vec<Line<'static>>, scroll: u16) {
    let width = area.width.saturating_sub(4).min(96);
    let room = usize::from(width.saturating_sub(2)).max(1);
    let needed: usize = lines.iter().map(|line| line.width().div_ceil(room).max(1)).sum();
    let height = u16::try_from(needed + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = frame::block(title, model.ascii, true);
    canvas.render_widget(Clear, place);
    canvas.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }).scroll((scroll, 0)), place);
}
