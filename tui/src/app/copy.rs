//! What `y` puts into the terminal's clipboard.

use ibid::model::Id;
use ibid::protocol::{Row, StepView, size_in_words};

use super::actions::Action;
use super::model::{Model, Screen, Tab, Which};

impl Model {
    /// Copies what an action names of what is selected.
    pub(super) fn copy(&mut self, action: Action) {
        let found = match action {
            Action::Where => {
                self.status = format!("the same on the command line: {}", self.command());
                return;
            }
            Action::CopyCommand => Some(("the command", self.command())),
            Action::CopyId => self.selected_or_said().map(|id| ("the id", id.to_string())),
            Action::CopyKey if self.main.selected_row().is_some_and(|row| matches!(row, Row::Key(_))) => {
                self.main.selected_row().map(|row| ("the key", row.key()))
            }
            _ => match self.selected_step() {
                Some(step) => of_step(action, step),
                None => None,
            },
        };
        match found {
            Some((what, text)) if !text.is_empty() => {
                self.status = format!("copied {what}, {}", size_in_words(text.len() as u64));
                self.clipboard = Some(text);
            }
            Some((what, _)) => self.status = format!("{what} is not here: 'ibid result' prints what is large"),
            None if self.status.is_empty() => self.status = "there is none to copy here".to_owned(),
            None => {}
        }
    }

    /// The command that shows what the screen shows.
    pub(super) fn command(&self) -> String {
        let scope = self.scope_shown();
        let place = format!("ibid -p {} -e {}", scope.project, scope.environment);
        match (&self.screen, self.selected_id()) {
            (Screen::Runs, Some(run)) => format!("ibid show {run}"),
            (Screen::Runs, None) => "ibid runs".to_owned(),
            (Screen::Run(_), Some(id)) if self.focus() == Which::Log => format!("ibid logs {id}"),
            (Screen::Run(_), Some(Id::Step(step))) if self.tab == Tab::Key => format!("ibid cache show {step}"),
            (Screen::Run(run), Some(Id::Step(step))) if step == run.root() => format!("ibid show {run}"),
            (Screen::Run(_), Some(id)) => format!("ibid show {id}"),
            (Screen::Run(run), None) => format!("ibid show {run}"),
            (Screen::Queue, _) => "ibid queue".to_owned(),
            (Screen::Workers, _) => "ibid workers".to_owned(),
            (Screen::Daemon, _) => "ibid daemon status".to_owned(),
            (Screen::Namespaces, _) => format!("{place} cache ls"),
            (Screen::Keys(namespace), _) => format!("{place} cache ls '{namespace}'"),
            (Screen::Key(key), _) => format!("{place} cache show {key}"),
        }
    }
}

fn of_step(action: Action, step: &StepView) -> Option<(&'static str, String)> {
    match action {
        Action::CopyKey => Some(("the key", step.key.clone()?)),
        Action::CopyArguments => {
            let values: Option<Vec<&str>> = step
                .arguments
                .iter()
                .map(|argument| argument.value.value.as_ref().map(|value| value.as_str()))
                .collect();
            Some(("the arguments", values.map_or_else(String::new, |values| values.join(" "))))
        }
        Action::CopyResult => {
            let result = step.newest()?.result.as_ref()?;
            Some(("the result", result.value.as_ref().map_or_else(String::new, ToString::to_string)))
        }
        _ => None,
    }
}
