//! What people type to see only part of a list.

use ibid::model::{State, Timestamp};
use ibid::protocol::Refused;

/// The names that a filter knows before a colon.
const FIELDS: &str = "state: key: age: target: env:";

/// A filter: everything in it must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::owner) struct Filter {
    words: Vec<String>,
    states: Vec<String>,
    keys: Vec<String>,
    targets: Vec<String>,
    environments: Vec<String>,
    /// Created at or after.
    since: Option<Timestamp>,
    /// Created at or before.
    until: Option<Timestamp>,
}

/// What a filter is held against.
pub(super) struct Candidate<'a> {
    pub state: Option<State>,
    pub created: Option<Timestamp>,
    pub key: &'a str,
    pub target: &'a str,
    pub environment: &'a str,
    /// In small letters.
    pub text: &'a str,
}

impl Filter {
    /// Reads what was typed.
    pub(in crate::owner) fn parse(text: &str, now: Timestamp) -> Result<Self, Refused> {
        let mut filter = Self::default();
        for word in text.split_whitespace() {
            let word = word.to_lowercase();
            match word.split_once(':') {
                Some(("state", state)) => {
                    if !State::ALL.iter().any(|known| known.name().starts_with(state)) {
                        let names: Vec<_> = State::ALL.iter().map(|known| known.name()).collect();
                        return Err(wrong(&format!("there is no state '{state}'; there are {}", names.join(", "))));
                    }
                    filter.states.push(state.to_owned());
                }
                Some(("key", key)) => filter.keys.push(key.trim_start_matches("k:").to_owned()),
                Some(("target", target)) => filter.targets.push(target.to_owned()),
                Some(("env", environment)) => filter.environments.push(environment.to_owned()),
                Some(("age", age)) => {
                    let (newer, length) = match age.strip_prefix('>') {
                        Some(length) => (false, length),
                        None => (true, age.trim_start_matches('<')),
                    };
                    let Some(length) = length_of(length) else {
                        return Err(wrong(&format!("'{age}' is no age: write age:<10m, age:>2h or age:7d")));
                    };
                    let then = now.saturating_sub(length);
                    if newer { filter.since = Some(then) } else { filter.until = Some(then) }
                }
                // Anything else with a colon is a word: a time of day, part of an address.
                _ => filter.words.push(word),
            }
        }
        Ok(filter)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.states.is_empty()
            && self.keys.is_empty()
            && self.targets.is_empty()
            && self.environments.is_empty()
            && self.since.is_none()
            && self.until.is_none()
    }

    /// Whether it can be judged without the candidate's text.
    pub(super) const fn needs_text(&self) -> bool {
        !self.words.is_empty() || !self.targets.is_empty()
    }

    /// Whether everything in it holds.
    pub(super) fn holds(&self, candidate: &Candidate<'_>) -> bool {
        let state = candidate.state.map_or("", State::name);
        self.states.iter().all(|wanted| state.starts_with(wanted.as_str()))
            && self.since.is_none_or(|since| candidate.created.is_some_and(|created| created >= since))
            && self.until.is_none_or(|until| candidate.created.is_some_and(|created| created <= until))
            && self.keys.iter().all(|key| candidate.key.starts_with(key.as_str()))
            && self.targets.iter().all(|target| candidate.target.to_lowercase().contains(target.as_str()))
            && self.environments.iter().all(|name| candidate.environment.to_lowercase().contains(name.as_str()))
            && self.words.iter().all(|word| occurs(word, candidate.text))
    }
}

/// Whether a word occurs in a text: as it is, or with its letters in order within one of the text's words.
fn occurs(word: &str, text: &str) -> bool {
    if text.contains(word) {
        return true;
    }
    let in_order = |within: &str| {
        let mut letters = within.chars();
        word.chars().all(|wanted| letters.any(|letter| letter == wanted))
    };
    word.chars().count() >= 3 && text.split_whitespace().any(in_order)
}

/// `90s`, `10m`, `2h`, `7d` in milliseconds.
fn length_of(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

fn wrong(what: &str) -> Refused {
    Refused::new("bad_request", format!("{what}. A filter has words and {FIELDS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(text: &str) -> Candidate<'_> {
        Candidate {
            state: Some(State::Failed),
            created: Some(1000),
            key: "9f3a",
            target: "news/Fetch",
            environment: "dev",
            text,
        }
    }

    fn holds(filter: &str, text: &str) -> bool {
        Filter::parse(filter, 61_000).unwrap().holds(&candidate(text))
    }

    #[test]
    fn every_word_must_occur_and_every_field_hold() {
        assert!(holds("", "anything"));
        assert!(holds("page state:fail key:9f target:fetch env:dev", "fetch_page rust"));
        assert!(!holds("page zig", "fetch_page rust"));
        assert!(!holds("state:succ", "fetch_page"));
        assert!(holds("age:<1m", "x") && holds("age:>1m", "x") && !holds("age:<59s", "x"));
    }

    #[test]
    fn letters_of_a_word_may_be_left_out() {
        assert!(holds("fpage", "fetch_page rust"));
        assert!(!holds("fprust", "fetch_page rust"));
        assert!(!holds("fp", "fetch_page rust"), "two letters in order are in nearly everything");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for wrong in ["state:broken", "age:soon", "age:<", "age:99999999999999999999d"] {
            assert!(Filter::parse(wrong, 0).is_err(), "{wrong}");
        }
        assert!(Filter::parse("10:30 http://x", 0).is_ok());
    }
}
