//! What stands in front of a screen: help, explanations, questions.

use ibid::protocol::Scope;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use crate::app::actions;
use crate::app::model::{Model, Overlay};
use crate::app::palette;
use crate::app::sensors::SensorBoard;
use crate::app::tree::shorten;
use crate::output::clean;
use crate::widgets::{frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(overlay) = &model.overlay else { return };
    match overlay {
        Overlay::Help { scroll } => {
            let lines = actions::ALL
                .iter()
                .map(|entry| Line::raw(format!(" {:<12} {}", entry.keys.join(" "), entry.words)))
                .collect();
            show(canvas, area, model, "keys · j k scroll · esc closes", lines, *scroll);
        }
        Overlay::Explain { explanation, scroll } => {
            let mut lines =
                vec![Line::from(Span::styled(format!(" {}", clean(&explanation.sentence)), style::strong()))];
            if let Some(would) = &explanation.would_hit {
                lines.push(Line::raw(format!(" {}", clean(would))));
            }
            lines.push(Line::default());
            let width = usize::from(area.width.saturating_sub(6).min(94));
            for fact in &explanation.facts {
                lines.extend(frame::field(&clean(&fact.name), 16, &clean(&fact.text), width));
            }
            let title = format!("explain {} · {} · esc closes", explanation.execution, explanation.kind);
            show(canvas, area, model, &title, lines, *scroll);
        }
        Overlay::Rerun { step } => {
            let lines = vec![
                Line::raw(format!(" f  force {step}: it really runs, with the arguments it had;")),
                Line::raw("    what it calls is looked up as usual"),
                Line::raw(format!(" n  start {} again as a new run, cache as usual", step.run)),
                Line::raw(" esc  nothing"),
            ];
            show(canvas, area, model, "run again", lines, 0);
        }
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
        Overlay::Palette { typed, selected } => {
            let found = palette::matching(model, typed);
            let mut lines = vec![Line::raw(format!(" : {}_", clean(typed)))];
            lines.extend(found.iter().enumerate().map(|(index, entry)| {
                let chosen = index == *selected;
                let style = if chosen { style::selected() } else { ratatui::style::Style::default() };
                let mark = if chosen { ">" } else { " " };
                let text = format!("{:<12} {}", entry.keys.join(" "), entry.words);
                Line::from(vec![Span::raw(format!(" {mark} ")), Span::styled(text, style)])
            }));
            if found.is_empty() {
                lines.push(Line::raw(" no action has these words"));
            }
            let page = area.height.saturating_sub(5);
            let scroll = u16::try_from(*selected).unwrap_or(0).saturating_sub(page);
            show(canvas, area, model, "actions · type words · enter does it · esc closes", lines, scroll);
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
