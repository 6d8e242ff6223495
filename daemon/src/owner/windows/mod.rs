//! Parts of lists: sorted, filtered and counted here, so that a client holds a few hundred rows however
//! many there are.
//!
//! A list is kept as columns of what it is sorted and filtered by; the rows of a window are read from the
//! store when they are wanted. All of it is done on another thread.

mod cache;
mod filter;
mod log;
mod queue;
mod runs;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ibid::model::{Id, RunId, StepId};
use ibid::protocol::{Anchor, GetRows, Head, List, Refused, Row, Rows, Sought};

pub(super) use self::filter::Filter;
use super::Owner;
use crate::store::StoreError;

/// How many rows a window has at most.
const ROWS_MAX: u32 = 2000;

/// Of how many runs the tree is kept.
const TREES_MAX: usize = 8;

/// With more changes than this a list is made anew when it is wanted again.
const DIRTY_MAX: usize = 20_000;

/// A list that nobody has looked at for so long is dropped.
const UNUSED_MAX: Duration = Duration::from_secs(120);

/// How many keys that were typed or gone to are remembered with the step that was found for them.
const RESOLVED_MAX: usize = 256;

/// Of how many namespaces the keys are kept.
const KEYS_MAX: usize = 4;

/// A list that is kept, and what has to be read anew before it is used again.
struct Kept<T, D> {
    list: Arc<tokio::sync::Mutex<T>>,
    dirty: BTreeSet<D>,
    used: Instant,
}

impl<T: Default, D> Default for Kept<T, D> {
    fn default() -> Self {
        Self { list: Arc::default(), dirty: BTreeSet::new(), used: Instant::now() }
    }
}

/// The lists that are kept between two looks at them.
#[derive(Default)]
pub(super) struct Windows {
    runs: Option<Kept<runs::Catalogue, RunId>>,
    trees: BTreeMap<RunId, Kept<tree::Tree, StepId>>,
    keys: HashMap<(u32, String), Kept<cache::Keys, ()>>,
    /// Steps that were found for the digits of a key in an environment.
    resolved: HashMap<(u32, String), StepId>,
}

impl<T, D> Kept<T, D> {
    /// Whether it is worth keeping: somebody looks at it, and what has changed since is not too much.
    fn is_alive(&self) -> bool {
        self.dirty.len() <= DIRTY_MAX && self.used.elapsed() < UNUSED_MAX
    }

    /// Whether a list is the one that is kept; while it was waited for another may have come in its place.
    fn is(&self, list: &Arc<tokio::sync::Mutex<T>>) -> bool {
        Arc::ptr_eq(&self.list, list)
    }
}

impl Windows {
    /// Something was committed.
    pub(super) fn note(&mut self, runs: &BTreeSet<RunId>, steps: &BTreeSet<StepId>) {
        self.runs = self.runs.take().filter(Kept::is_alive);
        self.trees.retain(|_, kept| kept.is_alive());
        self.keys.retain(|_, kept| kept.is_alive());
        if let Some(kept) = &mut self.runs {
            kept.dirty.extend(runs);
        }
        for (run, kept) in &mut self.trees {
            let first = StepId { run: *run, step: 0 };
            let last = StepId { run: *run, step: u32::MAX };
            kept.dirty.extend(steps.range(first..=last));
        }
    }
}

/// Drops what was used longest ago, so that there is room for one more.
fn make_room<K: Clone + Ord + std::hash::Hash, T, D>(kept: &mut BTreeMap<K, Kept<T, D>>, most: usize) {
    while kept.len() >= most {
        let oldest = kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
        let Some(oldest) = oldest else { return };
        kept.remove(&oldest);
    }
}

/// What a window needs to know of a list to find its place.
trait Listed {
    fn count(&self) -> usize;
    fn position(&self, key: &str) -> Option<usize>;
    fn is_failure(&self, at: usize) -> bool;
    fn contains(&self, at: usize, text: &str) -> bool;
}

/// Where the anchor is.
fn find(list: &impl Listed, anchor: &Anchor) -> Option<usize> {
    let last = list.count().checked_sub(1)?;
    match anchor {
        Anchor::First => Some(0),
        Anchor::Last => Some(last),
        Anchor::At(at) => Some(usize::try_from(*at).unwrap_or(last).min(last)),
        Anchor::Row { key, at } => {
            Some(list.position(key).unwrap_or_else(|| usize::try_from(*at).unwrap_or(last).min(last)))
        }
        Anchor::Next { from, back, what } => {
            let from = from.as_ref().and_then(|key| list.position(key));
            let text = match what {
                Sought::Failure => String::new(),
                Sought::Text(text) => text.to_lowercase(),
            };
            let fits = |at: &usize| match what {
                Sought::Failure => list.is_failure(*at),
                Sought::Text(_) => list.contains(*at, &text),
            };
            if *back {
                (0..from.unwrap_or(last + 1)).rev().find(fits)
            } else {
                (from.map_or(0, |from| from + 1)..=last).find(fits)
            }
        }
    }
}

/// The places of the rows that are wanted.
fn around(at: Option<usize>, count: usize, get: &GetRows) -> Range<usize> {
    let Some(at) = at else { return 0..0 };
    let before = get.before.min(ROWS_MAX);
    let after = get.after.min(ROWS_MAX - before);
    let first = at.saturating_sub(before as usize);
    first..at.saturating_add(after as usize).saturating_add(1).min(count)
}

/// A window that is found, before its rows are read.
struct Found {
    total: usize,
    all: usize,
    at: Option<usize>,
    range: Range<usize>,
}

impl Found {
    fn of(list: &impl Listed, all: usize, get: &GetRows) -> Self {
        let (total, at) = (list.count(), find(list, &get.anchor));
        Self { total, all, at, range: around(at, total, get) }
    }

    fn rows(self, rows: Vec<Row>, sorts: &[&str], head: Head) -> Rows {
        Rows {
            total: self.total as u64,
            all: self.all as u64,
            first: self.range.start as u64,
            at: self.at.map(|at| at as u64),
            rows,
            sorts: sorts.iter().map(|name| (*name).to_owned()).collect(),
            head,
        }
    }
}

/// Which of the orders that a list has is wanted.
fn sort_of(get: &GetRows, sorts: &[&'static str]) -> Result<&'static str, Refused> {
    let first = sorts.first().copied().unwrap_or_default();
    let Some(wanted) = &get.sort else { return Ok(first) };
    sorts.iter().copied().find(|known| known == wanted).ok_or_else(|| {
        Refused::new("bad_request", format!("this list is not sorted by '{wanted}'; by {}", sorts.join(", ")))
    })
}

impl Owner {
    /// A part of a list.
    pub(super) async fn rows(&self, get: &GetRows) -> Result<Rows, Refused> {
        let filter = Filter::parse(&get.filter, super::now())?;
        match &get.list {
            List::Runs { scope } => self.run_rows(get, filter, scope.as_ref()).await,
            List::Steps { run, folds } => {
                self.known(&mut self.state.borrow_mut(), Id::Run(*run))?;
                self.tree_rows(get, filter, *run, folds).await
            }
            List::Queue {} => self.queue_rows(get, &filter),
            List::Namespaces { scope } => self.namespace_rows(get, filter, scope).await,
            List::Keys { scope, namespace } => self.key_rows(get, filter, scope, namespace).await,
            List::Key { scope, key } => self.key_executions(get, filter, scope, key).await,
            List::Log { id } => {
                self.known(&mut self.state.borrow_mut(), *id)?;
                self.log_rows(get, *id).await
            }
        }
    }

    /// Works on something in another thread.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refused> {
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Refused::new("store", error.to_string())),
            Err(error) => Err(Refused::new("internal", format!("the list could not be made: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letters(&'static str);

    impl Listed for Letters {
        fn count(&self) -> usize {
            self.0.len()
        }
        fn position(&self, key: &str) -> Option<usize> {
            self.0.find(key)
        }
        fn is_failure(&self, at: usize) -> bool {
            self.0.as_bytes()[at] == b'x'
        }
        fn contains(&self, at: usize, text: &str) -> bool {
            self.0[at..=at] == *text
        }
    }

    fn next(list: &str, from: Option<&str>, back: bool) -> Option<usize> {
        let list = Letters(Box::leak(list.to_owned().into_boxed_str()));
        find(&list, &Anchor::Next { from: from.map(str::to_owned), back, what: Sought::Failure })
    }

    #[test]
    fn a_search_goes_on_from_where_it_is_and_says_when_there_is_no_more() {
        assert_eq!(next("abxcdx", None, false), Some(2));
        assert_eq!(next("abxcdx", Some("x"), false), Some(5));
        assert_eq!(next("abxcde", Some("c"), false), None);
        assert_eq!(next("abxcde", Some("c"), true), Some(2));
        assert_eq!(next("abxcde", None, true), Some(2));
        assert_eq!(next("", None, true), None);
    }

    #[test]
    fn what_took_the_place_of_a_row_that_is_gone_stands_in_for_it() {
        let anchor = |key: &str, at| Anchor::Row { key: key.to_owned(), at };
        assert_eq!(find(&Letters("abc"), &anchor("b", 0)), Some(1));
        assert_eq!(find(&Letters("abc"), &anchor("z", 2)), Some(2));
        assert_eq!(find(&Letters("abc"), &anchor("z", 99)), Some(2));
        assert_eq!(find(&Letters(""), &anchor("z", 0)), None);
    }

    #[test]
    fn a_window_ends_where_the_list_does() {
        let get = |before, after| GetRows {
            list: List::Queue {},
            filter: String::new(),
            sort: None,
            reverse: false,
            anchor: Anchor::First,
            before,
            after,
        };
        assert_eq!(around(Some(5), 10, &get(2, 2)), 3..8);
        assert_eq!(around(Some(1), 10, &get(5, 50)), 0..10);
        assert_eq!(around(Some(5000), 100_000, &get(u32::MAX, u32::MAX)).len(), 2001);
        assert_eq!(around(None, 0, &get(5, 5)), 0..0);
    }
}
