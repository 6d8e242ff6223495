//! Starting a workflow: choose it, fill in its arguments, see what would happen, start it.

use ibid::model::{Json, Parameter, ParameterKind};
use ibid::protocol::{
    Explain, ExplainedStart, ListTargets, Request, Scope, Shown, Submit, TargetView, UseCache, length_in_words,
};

use super::arguments;
use super::model::{Model, Overlay, Purpose};

/// What is being started.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// The workflows to choose from, and what was typed to find one.
    pub targets: Vec<TargetView>,
    pub typed: String,
    pub selected: usize,
    pub chosen: Option<Chosen>,
    pub wrong: String,
}

/// The workflow that was chosen, with its arguments as they are typed.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub target: String,
    pub scope: Scope,
    pub parameters: Vec<Parameter>,
    pub doc: Option<String>,
    pub fields: Vec<String>,
    pub at: usize,
    pub use_cache: bool,
    /// Which earlier start is shown; 0 is what was typed here.
    pub recalled: usize,
    typed: Vec<String>,
    /// What would happen, in words.
    pub prospect: Vec<String>,
}

impl Form {
    pub fn choosing(targets: Vec<TargetView>) -> Self {
        let targets = targets.into_iter().filter(|target| target.kind.starts_by_hand()).collect();
        Self { targets, ..Self::default() }
    }

    /// The workflows and shell tasks that have every typed word in their name.
    pub fn found(&self) -> Vec<&TargetView> {
        let words: Vec<String> = self.typed.split_whitespace().map(str::to_lowercase).collect();
        let fits = |target: &&TargetView| {
            let text = format!("{} {}", target.target, target.doc.as_deref().unwrap_or_default()).to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        self.targets.iter().filter(fits).collect()
    }

    /// What a start would do has come.
    pub fn explained(&mut self, explained: &ExplainedStart) {
        let Some(chosen) = &mut self.chosen else { return };
        let hits = explained.calls.iter().filter(|call| matches!(call.kind.as_str(), "hit" | "linked")).count();
        chosen.prospect = explained.calls.iter().take(6).map(|call| call.sentence.clone()).collect();
        if explained.calls.len() > 1 {
            let like = explained.like.map_or_else(String::new, |run| format!(" (going by {run})"));
            chosen.prospect.insert(0, format!("{hits} of {} calls would not run{like}:", explained.calls.len()));
        }
        self.wrong.clear();
    }
}

impl Chosen {
    fn new(target: String, scope: Scope, parameters: Vec<Parameter>, doc: Option<String>, fields: Vec<String>) -> Self {
        let typed = fields.clone();
        Self {
            target,
            scope,
            parameters,
            doc,
            fields,
            at: 0,
            use_cache: false,
            recalled: 0,
            typed,
            prospect: Vec::new(),
        }
    }

    /// What stands in a field: its kind, or what is wrong with it.
    pub fn judge(&self, at: usize) -> Result<&'static str, String> {
        let (Some(parameter), Some(typed)) = (self.parameters.get(at), self.fields.get(at)) else { return Ok("") };
        match (typed.trim(), &parameter.default) {
            ("", Some(_)) => Ok("default"),
            ("", None) if matches!(parameter.kind, ParameterKind::VarPositional | ParameterKind::VarKeyword) => {
                Ok("none")
            }
            ("", None) => Err("missing".to_owned()),
            (text, _) => match Json::parse(text) {
                Ok(json) => Ok(match json.as_str().bytes().next() {
                    Some(b'{') => "object",
                    Some(b'[') => "list",
                    Some(b'"') => "text",
                    Some(b't' | b'f') => "bool",
                    Some(b'n') => "null",
                    _ => "number",
                }),
                Err(_) if text.starts_with(['{', '[', '"']) => Err("not finished".to_owned()),
                Err(_) => Ok("text"),
            },
        }
    }

    /// The start, unless an argument is not right; then which and why.
    pub fn submit(&self) -> Result<Submit, (usize, String)> {
        let (mut by_position, mut named) = (Vec::new(), Vec::new());
        let typed = |at: usize| self.fields.get(at).map_or("", |typed| typed.trim());
        let is = |kind: ParameterKind| move |(_, parameter): &(usize, &Parameter)| parameter.kind == kind;
        // What comes after a list of further arguments, or can only be given by position, is given so.
        let spread = self.parameters.iter().enumerate().find(is(ParameterKind::VarPositional));
        let by_place = spread.is_some_and(|(at, _)| !typed(at).is_empty());
        for (at, parameter) in self.parameters.iter().enumerate() {
            self.judge(at).map_err(|wrong| (at, format!("{}: {wrong}", parameter.name)))?;
            let given = (!typed(at).is_empty()).then(|| arguments::value(typed(at)));
            match (parameter.kind, given) {
                (ParameterKind::VarPositional, Some(list)) => {
                    let items = items(&list).ok_or((at, format!("{}: write a list, e.g. [1, 2]", parameter.name)))?;
                    by_position.extend(items);
                }
                (ParameterKind::VarKeyword, Some(object)) => {
                    let members = members(&object);
                    named.extend(members.ok_or((at, format!("{}: write an object", parameter.name)))?);
                }
                (ParameterKind::PositionalOnly, given) => {
                    by_position.extend(given.or_else(|| parameter.default.clone()));
                }
                (ParameterKind::PositionalOrKeyword, given) if by_place => {
                    by_position.extend(given.or_else(|| parameter.default.clone()));
                }
                (_, Some(value)) => named.push((parameter.name.clone(), value)),
                (_, None) => {}
            }
        }
        let use_cache = self.use_cache.then_some(UseCache::AsDeclared);
        let start = Submit::new(self.scope.clone(), self.target.clone());
        Ok(Submit { arguments: by_position, named, use_cache, ..start })
    }

    fn recall(&mut self, starts: &[Vec<String>], older: bool) {
        if self.recalled == 0 {
            self.typed.clone_from(&self.fields);
        }
        self.recalled = if older { (self.recalled + 1).min(starts.len()) } else { self.recalled.saturating_sub(1) };
        let recalled = self.recalled.checked_sub(1).and_then(|at| starts.get(at)).unwrap_or(&self.typed);
        let mut fields = recalled.clone();
        fields.resize(self.parameters.len(), String::new());
        self.fields = fields;
    }
}

fn items(list: &Json) -> Option<Vec<Json>> {
    let items: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(list.as_str()).ok()?;
    items.iter().map(|item| Json::parse(item.get()).ok()).collect()
}

fn members(object: &Json) -> Option<Vec<(String, Json)>> {
    let members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(object.as_str()).ok()?;
    members.into_iter().map(|(name, value)| Some((name, Json::parse(value.get()).ok()?))).collect()
}

impl Model {
    pub(super) fn ask_targets(&mut self) {
        let scope = self.scope_shown();
        self.ask(Purpose::Targets, Request::Targets(ListTargets { scope }));
    }

    /// A run is to be started again: how its workflow takes arguments has to be known for that.
    pub(super) fn ask_parameters(&mut self, shown: Shown, edit: bool) {
        if shown.step.arguments.iter().any(|argument| argument.value.value.is_none()) {
            self.status = "its arguments are too large to be sent again from here: 'ibid run' can".to_owned();
            return;
        }
        let scope = Scope { project: shown.run.project.clone(), environment: shown.run.environment.clone() };
        self.starting = Some((Box::new(shown), edit));
        self.ask(Purpose::Parameters, Request::Targets(ListTargets { scope }));
    }

    /// Starts the run again with the arguments that it had, or opens the form with them.
    pub(super) fn start_with(&mut self, targets: &[TargetView]) {
        let Some((shown, edit)) = self.starting.take() else { return };
        let Some(target) = targets.iter().find(|target| target.target == shown.run.target) else {
            self.status = format!("{} is not registered any more", shown.run.target);
            return;
        };
        let text = |position: usize| {
            let argument = shown.step.arguments.get(position)?;
            argument.value.value.as_ref().map(ToString::to_string)
        };
        let fields = (0..target.parameters.len()).map(|position| text(position).unwrap_or_default()).collect();
        let scope = Scope { project: shown.run.project.clone(), environment: shown.run.environment.clone() };
        let parameters = target.parameters.clone();
        let chosen = Chosen::new(shown.run.target.clone(), scope, parameters, target.doc.clone(), fields);
        match chosen.submit() {
            Ok(submit) if !edit => _ = self.ask(Purpose::Start, Request::Submit(submit)),
            Err((_, wrong)) if !edit => self.status = wrong,
            _ => self.overlay = Some(Overlay::Start(Box::new(Form { chosen: Some(chosen), ..Form::default() }))),
        }
    }

    /// A key in the form. It comes back unless it was closed.
    pub fn press_form(&mut self, mut form: Box<Form>, key: &str) {
        match form.chosen.take() {
            Some(chosen) => self.press_fields(form, chosen, key),
            None => self.press_targets(form, key),
        }
    }

    fn press_targets(&mut self, mut form: Box<Form>, key: &str) {
        match key {
            "esc" => return,
            "enter" => {
                let found = form.found().get(form.selected).map(|target| (*target).clone());
                if let Some(target) = found {
                    let fields = vec![String::new(); target.parameters.len()];
                    let scope = self.scope_shown();
                    let chosen = Chosen::new(target.target, scope, target.parameters, target.doc, fields);
                    form.chosen = Some(chosen);
                }
            }
            "down" | "tab" => form.selected = (form.selected + 1).min(form.found().len().saturating_sub(1)),
            "up" => form.selected = form.selected.saturating_sub(1),
            "backspace" => {
                form.typed.pop();
                form.selected = 0;
            }
            "space" => form.typed.push(' '),
            key if key.chars().count() == 1 => {
                form.typed.push_str(key);
                form.selected = 0;
            }
            _ => {}
        }
        self.overlay = Some(Overlay::Start(form));
    }

    fn press_fields(&mut self, mut form: Box<Form>, mut chosen: Chosen, key: &str) {
        let last = chosen.fields.len().saturating_sub(1);
        match key {
            "esc" if form.targets.is_empty() => return,
            "esc" => {
                form.wrong.clear();
                self.overlay = Some(Overlay::Start(form));
                return;
            }
            "enter" | "^e" => match chosen.submit() {
                Ok(submit) if key == "enter" => {
                    self.remembered.note_start(&chosen.target, chosen.fields.clone());
                    form.wrong.clear();
                    self.ask(Purpose::Start, Request::Submit(submit));
                }
                Ok(start) => _ = self.ask(Purpose::Check, Request::Explain(Explain { start })),
                Err((at, wrong)) => {
                    chosen.at = at;
                    form.wrong = wrong;
                }
            },
            "tab" | "down" => chosen.at = if chosen.at == last { 0 } else { chosen.at + 1 },
            "backtab" | "up" => chosen.at = if chosen.at == 0 { last } else { chosen.at - 1 },
            "pgup" | "pgdn" => {
                let starts = self.remembered.starts.get(&chosen.target).cloned().unwrap_or_default();
                if starts.is_empty() {
                    form.wrong = "it was not started from here before".to_owned();
                }
                chosen.recall(&starts, key == "pgup");
            }
            "^t" => chosen.use_cache = !chosen.use_cache,
            key => {
                chosen.prospect.clear();
                if let Some(field) = chosen.fields.get_mut(chosen.at) {
                    match key {
                        "backspace" => _ = field.pop(),
                        "^u" => field.clear(),
                        "space" => field.push(' '),
                        key if key.chars().count() == 1 => field.push_str(key),
                        _ => {}
                    }
                }
            }
        }
        form.chosen = Some(chosen);
        self.overlay = Some(Overlay::Start(form));
    }
}

/// What a re-run would come to, in words.
pub fn prospect(prospect: &ibid::protocol::Prospect) -> String {
    let calls = |count: u32| if count == 1 { "call".to_owned() } else { "calls".to_owned() };
    let more = if prospect.cut { ", and more" } else { "" };
    let spent =
        if prospect.spent > 0 { format!(", {} last time", length_in_words(prospect.spent)) } else { String::new() };
    format!(
        "{} {} would run{spent}; {} {} hit{more}",
        prospect.runs,
        calls(prospect.runs),
        prospect.hits,
        calls(prospect.hits)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen() -> Chosen {
        let parameter = |name: &str, default: Option<&str>| Parameter {
            kind: ParameterKind::PositionalOrKeyword,
            name: name.to_owned(),
            default: default.map(|text| Json::parse(text).unwrap()),
        };
        let parameters = vec![parameter("day", None), parameter("limit", Some("10"))];
        Chosen::new("m/w".to_owned(), Scope::default(), parameters, None, vec![String::new(); 2])
    }

    #[test]
    fn what_is_typed_is_judged_before_it_is_sent() {
        let mut form = chosen();
        assert_eq!(form.submit().unwrap_err(), (0, "day: missing".to_owned()));
        assert_eq!(form.judge(1), Ok("default"));
        for (typed, kind) in
            [("2026-01-01", "text"), ("5", "number"), ("[1]", "list"), ("true", "bool"), ("{}", "object")]
        {
            form.fields[0] = typed.to_owned();
            assert_eq!(form.judge(0), Ok(kind), "{typed}");
        }
        form.fields[0] = "[1, ".to_owned();
        assert_eq!(form.judge(0), Err("not finished".to_owned()));
        form.fields[0] = "x".to_owned();
        let submit = form.submit().unwrap();
        assert_eq!(submit.named, [("day".to_owned(), Json::string("x"))], "a default is left to the daemon");
    }

    #[test]
    fn earlier_starts_are_recalled_and_what_was_typed_comes_back() {
        let mut form = chosen();
        form.fields[0] = "mine".to_owned();
        let starts = [vec!["newer".to_owned(), String::new()], vec!["older".to_owned()]];
        form.recall(&starts, true);
        assert_eq!(form.fields[0], "newer");
        form.recall(&starts, true);
        form.recall(&starts, true);
        assert_eq!(form.fields, ["older", ""]);
        form.recall(&starts, false);
        form.recall(&starts, false);
        assert_eq!(form.fields[0], "mine");
    }
}
