//! What people type: values, ages, ids.

use ibid::model::{Id, Json};
use ibid::protocol::UseCache;

use crate::context::{Failure, USAGE};

/// A value as it is typed: JSON, or plain text where it does not parse.
pub fn value(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| Json::string(text))
}

/// `name=value`.
pub fn named(text: &str) -> Result<(String, Json), Failure> {
    match text.split_once('=') {
        Some((name, given)) if !name.is_empty() => Ok((name.to_owned(), value(given))),
        _ => Err(Failure::usage(format!("--arg takes NAME=VALUE, not '{text}'"))),
    }
}

/// An age in milliseconds: a number of seconds, or with a unit: `500ms`, `90s`, `10m`, `2h`, `7d`.
pub fn age(text: &str) -> Result<u64, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "s" => 1000.0,
        "ms" => 1.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "w" => 604_800_000.0,
        _ => f64::NAN,
    };
    let millis = number.parse::<f64>().unwrap_or(f64::NAN) * factor;
    if !millis.is_finite() || millis > 1e17 {
        return Err(Failure::usage(format!("'{text}' is no age: write 500ms, 90s, 10m, 2h or 7d")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be finite, positive and small enough"
    )]
    Ok(millis.round() as u64)
}

/// A size in bytes: a number, or with a unit: `500kB`, `20MiB`, `2GiB`.
pub fn size(text: &str) -> Result<u64, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "kB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        "T" | "TiB" => Some(1 << 40),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| Failure::usage(format!("'{text}' is no size: write 500000, 20MiB or 2GiB")))
}

/// The value of `--use-cache[=AGE]`.
pub fn use_cache(given: Option<&str>) -> Result<Option<UseCache>, Failure> {
    match given {
        None => Ok(None),
        Some("") => Ok(Some(UseCache::AsDeclared)),
        Some(text) => age(text).map(|age| Some(UseCache::MaxAge(age))),
    }
}

/// An id as people type it.
pub fn id(text: &str) -> Result<Id, Failure> {
    text.parse().map_err(|error: ibid::model::NotAnId| Failure {
        code: USAGE,
        kind: "bad_id".to_owned(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_seconds_or_have_a_unit() {
        assert_eq!([size("12").unwrap(), size("2GiB").unwrap(), size("3kB").unwrap()], [12, 2 << 30, 3000]);
        for wrong in ["", "x", "-1", "2 GX", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        let read = |text| age(text).unwrap();
        assert_eq!(
            [read("90"), read("0.5"), read("10m"), read("250ms"), read("1.5h")],
            [90_000, 500, 600_000, 250, 5_400_000]
        );
        for wrong in ["", "m", "1x", "-1", "1e400", "1.2.3"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_json_is_text() {
        assert_eq!(value("[1, 2]").as_str(), "[1, 2]");
        assert_eq!(value("2026-01-01").as_str(), "\"2026-01-01\"");
        assert_eq!(value("hello \"you\"").as_str(), "\"hello \\\"you\\\"\"");
    }
}
