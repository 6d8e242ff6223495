//! A window over a list that the daemon holds: a few hundred rows around the one that is selected.

use std::collections::HashMap;

use ibid::protocol::{Anchor, GetRows, Head, List, Row, Rows, Sought};

/// Rows on each side of the anchor that are asked for.
const MARGIN: u32 = 150;

/// What becomes of the selection when rows come that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It stays where it is.
    Keep,
    /// The row that was asked for is selected.
    Take,
    /// That row, if anything was found.
    Find,
}

/// Rows that are on their way.
#[derive(Debug, Clone)]
pub struct Coming {
    /// The request.
    pub request: u64,
    /// The subscription, once it is granted.
    pub subscription: Option<u64>,
    pub goal: Goal,
}

/// A window over one list.
#[derive(Debug, Clone, Default)]
pub struct Window {
    pub list: Option<List>,
    pub filter: String,
    pub sort: Option<String>,
    pub reverse: bool,
    /// The rows that are here, and the place of the first in the list.
    pub rows: Vec<Row>,
    pub first: u64,
    /// How many match the filter, and how many there are.
    pub total: u64,
    pub all: u64,
    pub sorts: Vec<String>,
    pub head: Head,
    /// Whether anything has come.
    pub known: bool,
    /// What is wrong with what was asked for.
    pub wrong: String,
    /// The key of the selected row, and its place in the list.
    pub selected: String,
    pub index: u64,
    /// The place that was moved to and is not here yet.
    pub wanted: Option<u64>,
    /// The place of the first row on the screen.
    pub offset: u64,
    /// The selection sticks to the first row, or to the last.
    pub at_top: bool,
    pub at_end: bool,
    /// Rows that came in above since the top was left.
    pub new_above: u64,
    /// Changes are held back, and how many rows came meanwhile.
    pub paused: bool,
    pub behind: u64,
    pub subscription: Option<u64>,
    pub coming: Option<Coming>,
    /// The filter has changed again since those were asked for.
    pub again: bool,
}

/// What taking rows came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They are shown.
    Shown,
    /// A search found nothing.
    NotFound,
    /// They are held back.
    Held,
    /// They are shown, but the selected row is not among them.
    Elsewhere,
}

impl Window {
    /// A window over a list, with nothing in it yet.
    pub fn over(list: List) -> Self {
        Self { list: Some(list), ..Self::default() }
    }

    /// What to ask for so that an anchor comes with what is around it.
    pub fn request(&self, anchor: Anchor) -> Option<GetRows> {
        Some(GetRows {
            list: self.list.clone()?,
            filter: self.filter.clone(),
            sort: self.sort.clone(),
            reverse: self.reverse,
            anchor,
            before: MARGIN,
            after: MARGIN,
        })
    }

    /// The anchor that brings back what is shown.
    pub fn anchor(&self) -> Anchor {
        if self.at_end {
            Anchor::Last
        } else if self.at_top || self.selected.is_empty() {
            Anchor::First
        } else {
            Anchor::Row { key: self.selected.clone(), at: self.index }
        }
    }

    /// The anchor of a search from the selected row.
    pub fn search(&self, what: Sought, back: bool) -> Anchor {
        let from = (!self.selected.is_empty()).then(|| self.selected.clone());
        Anchor::Next { from, back, what }
    }

    /// The row at a place of the list, if it is here.
    pub fn row(&self, place: u64) -> Option<&Row> {
        self.rows.get(usize::try_from(place.checked_sub(self.first)?).ok()?)
    }

    pub fn selected_row(&self) -> Option<&Row> {
        self.row(self.index).filter(|row| row.key() == self.selected)
    }

    fn place_of(&self, key: &str) -> Option<u64> {
        self.rows.iter().position(|row| row.key() == key).map(|at| self.first + at as u64)
    }

    fn select(&mut self, place: u64) {
        if let Some(row) = self.row(place) {
            self.selected = row.key();
            self.index = place;
        }
        self.wanted = None;
    }

    /// Rows have come.
    pub fn take(&mut self, subscription: u64, mut rows: Rows) -> Taken {
        let fresh = self.coming.as_ref().filter(|coming| coming.subscription == Some(subscription)).map(|c| c.goal);
        let goal = fresh.unwrap_or(Goal::Keep);
        if goal == Goal::Find && rows.at.is_none() {
            return Taken::NotFound;
        }
        if fresh.is_none() && self.paused {
            self.behind = rows.total.saturating_sub(self.total);
            // What was sent counts as known on this subscription: it is resolved when it is shown.
            self.resolve(&mut rows);
            return Taken::Held;
        }
        self.resolve(&mut rows);
        let came = rows.total.saturating_sub(self.total);
        let before = self.known && goal == Goal::Keep;
        self.rows = rows.rows;
        self.first = rows.first;
        self.total = rows.total;
        self.all = rows.all;
        self.sorts = rows.sorts;
        self.head = rows.head;
        self.known = true;
        self.wrong.clear();
        if fresh.is_some() {
            self.subscription = Some(subscription);
            self.coming = None;
        }
        match (goal, rows.at) {
            (_, None) => {
                self.selected.clear();
                (self.index, self.offset, self.wanted) = (0, 0, None);
            }
            (Goal::Take | Goal::Find, Some(at)) => {
                self.select(self.wanted.filter(|at| self.row(*at).is_some()).unwrap_or(at))
            }
            (Goal::Keep, Some(at)) if self.at_end || self.at_top => {
                self.select(if self.at_end { self.total.saturating_sub(1) } else { 0 });
                if self.selected_row().is_none() {
                    self.select(at);
                }
            }
            (Goal::Keep, Some(at)) => match self.place_of(&self.selected) {
                Some(place) => {
                    // The list does not move under the cursor.
                    self.offset = (self.offset + place).saturating_sub(self.index);
                    self.index = place;
                    self.new_above += if before { came } else { 0 };
                }
                // It is somewhere else in the list: nothing else is selected in its place before that is known.
                None if fresh.is_none() && !self.selected.is_empty() => return Taken::Elsewhere,
                None if self.row(self.index).is_some() => self.select(self.index),
                None => self.select(at),
            },
        }
        if self.at_top {
            self.new_above = 0;
        }
        Taken::Shown
    }

    /// Puts the rows that are named only in their full form.
    fn resolve(&self, rows: &mut Rows) {
        if !rows.rows.iter().any(|row| matches!(row, Row::Same(_))) {
            return;
        }
        let known: HashMap<String, &Row> = self.rows.iter().map(|row| (row.key(), row)).collect();
        for row in &mut rows.rows {
            if let Row::Same(key) = row
                && let Some(full) = known.get(key.as_str())
            {
                *row = (*full).clone();
            }
        }
        rows.rows.retain(|row| !matches!(row, Row::Same(_)));
    }

    /// Moves the selection. Says what has to be asked for, if the place is not here or near an end.
    pub fn move_to(&mut self, place: u64, page: u64) -> Option<(Anchor, Goal)> {
        let last = self.total.checked_sub(1)?;
        let place = place.min(last);
        self.at_top = place == 0;
        if self.at_top {
            self.new_above = 0;
        }
        if self.row(place).is_none() {
            self.wanted = Some(place);
            return Some((Anchor::At(place), Goal::Take));
        }
        self.select(place);
        let end = self.first + self.rows.len() as u64;
        let near_start = self.first > 0 && place < self.first + page;
        let near_end = end <= last && place + page >= end;
        (self.coming.is_none() && (near_start || near_end)).then(|| (self.anchor_here(), Goal::Keep))
    }

    fn anchor_here(&self) -> Anchor {
        Anchor::Row { key: self.selected.clone(), at: self.index }
    }

    /// Moves by a number of rows within what is here.
    pub fn move_within(&mut self, by: i64) {
        self.wanted = None;
        let Some(last) = (self.rows.len() as u64).checked_sub(1).map(|last| self.first + last) else { return };
        self.select(self.index.saturating_add_signed(by).clamp(self.first, last));
        self.at_top = self.index == 0;
    }

    /// Moves by a number of rows.
    pub fn move_by(&mut self, by: i64, page: u64) -> Option<(Anchor, Goal)> {
        let from = self.wanted.unwrap_or(self.index);
        self.move_to(from.saturating_add_signed(by), page)
    }

    /// Scrolls as little as is needed to have the selection on the screen, and no blank rows at its end.
    pub fn show_selected(&mut self, page: u64) {
        let page = page.max(1);
        self.offset = self.offset.clamp((self.index + 1).saturating_sub(page), self.index);
        self.offset = self.offset.min(self.total.saturating_sub(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibid::protocol::NamespaceView;

    fn row(number: u64) -> Row {
        Row::Namespace(NamespaceView {
            namespace: format!("n{number}"),
            executed: 0,
            failed: 0,
            hits: 0,
            links: 0,
            saved: 0,
            bytes: 0,
            last_used: 0,
        })
    }

    fn rows(first: u64, names: impl IntoIterator<Item = u64>, total: u64, at: u64) -> Rows {
        let rows = names.into_iter().map(row).collect();
        Rows { total, all: total, first, at: Some(at), rows, sorts: Vec::new(), head: Head::None }
    }

    fn window() -> Window {
        let mut window = Window::over(List::Queue {});
        window.coming = Some(Coming { request: 1, subscription: Some(7), goal: Goal::Take });
        assert_eq!(window.take(7, rows(0, 0..300, 10_000, 0)), Taken::Shown);
        window
    }

    #[test]
    fn what_is_near_is_moved_to_at_once_and_what_is_far_is_asked_for() {
        let mut window = window();
        assert_eq!(window.move_by(1, 30), None);
        assert_eq!(window.selected, "n1");
        assert_eq!(window.move_by(9000, 30), Some((Anchor::At(9001), Goal::Take)));
        assert_eq!(window.selected, "n1", "nothing jumps before the rows are there");
        assert_eq!(window.move_by(1, 30), Some((Anchor::At(9002), Goal::Take)));
        window.coming = Some(Coming { request: 2, subscription: Some(8), goal: Goal::Take });
        window.take(8, rows(8851, 8851..9152, 10_000, 9001));
        assert_eq!((window.selected.as_str(), window.index), ("n9002", 9002));
    }

    #[test]
    fn near_an_end_of_what_is_here_more_is_asked_for() {
        let mut window = window();
        let more = window.move_to(280, 30);
        assert_eq!(more, Some((Anchor::Row { key: "n280".to_owned(), at: 280 }, Goal::Keep)));
        assert_eq!(window.selected, "n280");
    }

    #[test]
    fn the_list_does_not_move_under_the_cursor() {
        let mut window = window();
        window.move_to(5, 30);
        window.show_selected(30);
        window.offset = 3;
        window.take(7, rows(0, [1000, 1001].into_iter().chain(0..300), 10_002, 0));
        assert_eq!((window.selected.as_str(), window.index, window.offset, window.new_above), ("n5", 7, 5, 2));
    }

    #[test]
    fn no_other_row_is_selected_because_the_selected_one_is_out_of_sight() {
        let mut window = window();
        window.move_to(5, 30);
        assert_eq!(window.take(7, rows(0, 1000..1300, 11_000, 0)), Taken::Elsewhere);
        assert_eq!((window.selected.as_str(), window.index), ("n5", 5));
        window.coming = Some(Coming { request: 2, subscription: Some(8), goal: Goal::Keep });
        assert_eq!(window.take(8, rows(850, (1150..1300).chain(0..150), 11_000, 1005)), Taken::Shown);
        assert_eq!((window.selected.as_str(), window.index), ("n5", 1005));
    }

    #[test]
    fn rows_that_are_named_only_are_the_ones_that_were_here() {
        let mut window = window();
        let mut change = rows(0, 0..3, 3, 0);
        change.rows = vec![row(50), Row::Same("n1".to_owned()), Row::Same("n2".to_owned())];
        window.take(7, change);
        let keys: Vec<_> = window.rows.iter().map(Row::key).collect();
        assert_eq!(keys, ["n50", "n1", "n2"]);
    }

    #[test]
    fn a_search_that_finds_nothing_changes_nothing() {
        let mut window = window();
        window.move_to(5, 30);
        window.coming = Some(Coming { request: 2, subscription: Some(8), goal: Goal::Find });
        let nothing = Rows { at: None, rows: Vec::new(), ..rows(0, [], 10_000, 0) };
        assert_eq!(window.take(8, nothing), Taken::NotFound);
        assert_eq!((window.selected.as_str(), window.rows.len()), ("n5", 300));
    }
}
