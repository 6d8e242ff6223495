//! What makes a call the same as another: project, namespace, version and key.

use ibid::model::{Argument, CallOptions, Json, StepId, Stored};

use super::canonical::{self, NotAValue};

/// Where an argument's reference stands when identity is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The digest of the value that it led to.
    Value([u8; 32]),
    /// Not finished: the step that will really produce it.
    Producer(StepId),
}

/// Splits a text off into content-addressed storage if it is large.
///
/// # Errors
/// Where the text is not a value.
pub fn argument(json: Json) -> Result<(Argument, Option<Json>), NotAValue> {
    let analysis = canonical::analyse(&json)?;
    let (value, text) = keep(json, analysis.digest);
    Ok((Argument { value, references: analysis.references }, text))
}

/// The stored form of a result, and the text to keep beside it if it is large.
///
/// # Errors
/// Where the text is not a value.
pub fn result(json: Json) -> Result<(Stored, Option<Json>), NotAValue> {
    let analysis = canonical::analyse(&json)?;
    // A result that holds references has no digest by itself: what it means lies elsewhere.
    let digest = if analysis.references.is_empty() { analysis.digest } else { None };
    Ok(keep(json, digest))
}

fn keep(json: Json, digest: Option<[u8; 32]>) -> (Stored, Option<Json>) {
    if json.as_str().len() <= ibid::model::INLINE_MAX_BYTES {
        return (Stored::Inline(json), None);
    }
    let hash = *blake3::hash(json.as_str().as_bytes()).as_bytes();
    let size = json.as_str().len() as u64;
    (Stored::Kept { hash, size, digest }, Some(json))
}

/// The digest of a stored value; `None` where it has no stable one.
#[must_use]
pub fn digest(value: &Stored) -> Option<[u8; 32]> {
    match value {
        Stored::Inline(json) => canonical::analyse(json).ok()?.digest,
        Stored::Kept { digest, .. } => *digest,
    }
}

/// The digest of a result, by which a reference to it counts.
#[must_use]
pub fn result_digest(value: &Stored) -> Option<[u8; 32]> {
    match value {
        Stored::Inline(json) => {
            let analysis = canonical::analyse(json).ok()?;
            analysis.digest.filter(|_| analysis.references.is_empty())
        }
        Stored::Kept { digest, .. } => *digest,
    }
}

/// An identity, or the position of the argument that has no stable digest.
///
/// # Errors
/// The position, from 0, of the first such argument.
pub fn of_call(
    project: &str,
    namespace: &str,
    options: &CallOptions,
    arguments: &[Argument],
    known: impl Fn(StepId) -> Known,
) -> Result<[u8; 32], u32> {
    let mut hasher = blake3::Hasher::new();
    let mut text = |tag: &[u8], text: &str| {
        hasher.update(tag);
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    text(b"project", project);
    text(b"namespace", namespace);
    match &options.cache_version {
        Some(version) => text(b"version", version),
        None => text(b"no version", ""),
    }
    if let Some(key) = &options.cache_key {
        text(b"own key", key);
        return Ok(*hasher.finalize().as_bytes());
    }
    hasher.update(b"arguments");
    hasher.update(&(arguments.len() as u64).to_be_bytes());
    for (position, argument) in (0u32..).zip(arguments) {
        hasher.update(&digest(&argument.value).ok_or(position)?);
        hasher.update(&(argument.references.len() as u64).to_be_bytes());
        for reference in &argument.references {
            match known(*reference) {
                Known::Value(digest) => hasher.update(b"value").update(&digest),
                Known::Producer(step) => hasher.update(b"step").update(&step.key()),
            };
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(key: Option<&str>, version: Option<&str>) -> CallOptions {
        CallOptions {
            cache_key: key.map(str::to_owned),
            cache_version: version.map(str::to_owned),
            ..CallOptions::default()
        }
    }

    fn call(namespace: &str, options: &CallOptions, arguments: &[&str]) -> [u8; 32] {
        let arguments: Vec<_> = arguments.iter().map(|text| argument(Json::parse(*text).unwrap()).unwrap().0).collect();
        of_call("p", namespace, options, &arguments, Known::Producer).unwrap()
    }

    #[test]
    fn no_two_different_calls_share_an_identity() {
        let mut all = vec![
            call("n", &options(None, None), &[]),
            call("n", &options(None, None), &["1"]),
            call("n", &options(None, None), &["1", "2"]),
            call("n", &options(None, None), &["[1,2]"]),
            call("n", &options(None, None), &["\"1\""]),
            call("n", &options(Some("1"), None), &["1"]),
            call("n", &options(Some(""), None), &["1"]),
            call("n", &options(None, Some("")), &["1"]),
            call("n", &options(None, Some("1")), &["1"]),
            call("m", &options(None, None), &["1"]),
        ];
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn an_own_key_ignores_the_arguments() {
        let own = options(Some("7"), None);
        assert_eq!(call("n", &own, &["7", "\"a\""]), call("n", &own, &["7", "\"b\""]));
    }

    #[test]
    fn a_reference_counts_by_its_value_once_that_is_known() {
        let to =
            |id: &str| argument(Json::parse(format!(r#"{{"$type":"execution","id":"{id}"}}"#)).unwrap()).unwrap().0;
        let identity = |argument: Argument, known: &dyn Fn(StepId) -> Known| {
            of_call("p", "n", &options(None, None), &[argument], known).unwrap()
        };
        let value = |_| Known::Value([7; 32]);
        assert_eq!(identity(to("R1:2"), &value), identity(to("R3:4"), &value));
        assert_ne!(identity(to("R1:2"), &Known::Producer), identity(to("R3:4"), &Known::Producer));
        assert_ne!(identity(to("R1:2"), &value), identity(to("R1:2"), &Known::Producer));
    }

    #[test]
    fn large_values_are_kept_beside_the_record_and_count_the_same() {
        let large = format!("[{}]", vec!["1"; 2000].join(","));
        let spaced = format!("[ {} ]", vec!["1"; 2000].join(" , "));
        let (a, kept) = argument(Json::parse(large).unwrap()).unwrap();
        assert!(kept.is_some());
        let (b, _) = argument(Json::parse(spaced).unwrap()).unwrap();
        assert_eq!(digest(&a.value), digest(&b.value));
    }
}
