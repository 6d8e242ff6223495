//! What `y` puts into the terminal's clipboard.

use ibid::model::Id;
use ibid::protocol::{StepView, size_in_words};

use super::actions::Action;
use super::listings::Listing;
use super::model::{Model, Screen};

impl Model {
    /// Copies what an action names of what is selected.
    pub(super) fn copy(&mut self, action: Action) {
        let found = match action {
            Action::CopyCommand => Some(("the command", self.command())),
            Action::CopyId => self.selected_id().map(|id| ("the id", id.to_string())),
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
    fn command(&self) -> String {
        match (self.screen, self.looked.selected) {
            (Screen::Runs, _) => match self.selected_run {
                Some(run) => format!("ibid show {run}"),
                None => "ibid runs".to_owned(),
            },
            (Screen::Run(run), Some(step)) if step != run.root() => format!("ibid show {}", Id::Step(step)),
            (Screen::Run(run), _) => format!("ibid show {run}"),
            (Screen::List(Listing::Queue), _) => "ibid queue".to_owned(),
            (Screen::List(Listing::Workers), _) => "ibid workers".to_owned(),
            (Screen::List(Listing::Daemon), _) => "ibid daemon status".to_owned(),
            (Screen::List(Listing::Cache), _) => {
                let scope = self.scope_shown();
                let namespace = self.listings.namespace.as_ref().map_or_else(String::new, |name| format!(" '{name}'"));
                format!("ibid -p {} -e {} cache ls{namespace}", scope.project, scope.environment)
            }
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
