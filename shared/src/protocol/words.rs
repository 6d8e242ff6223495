//! Figures as people say them; the same in every program.

/// A length of time: `38 ms`, `4.2 s`, `3 m 05 s`, `2 h 10 m`, `5 d 3 h`.
#[must_use]
pub fn length_in_words(millis: u64) -> String {
    let seconds = millis / 1000;
    match (millis, seconds) {
        (0..1000, _) => format!("{millis} ms"),
        (_, 1..60) => format!("{seconds}.{} s", millis % 1000 / 100),
        (_, 60..3600) => format!("{} m {:02} s", seconds / 60, seconds % 60),
        (_, 3600..86_400) => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A size: `512 B`, `3.4 KiB`, `1.2 MiB`.
#[must_use]
pub fn size_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A command's words as they would be typed; `None` where the value is no list of words.
#[must_use]
pub fn command_in_words(words: &crate::model::Json) -> Option<String> {
    let words: Vec<crate::model::Word> = words.read().ok()?;
    let special = |c: char| c.is_whitespace() || "'\"\\$`;&|<>()*?#~!".contains(c);
    let typed = words.iter().map(|word| {
        let word = word.text();
        if word.is_empty() || word.contains(special) {
            format!("'{}'", word.replace('\'', "'\\''"))
        } else {
            word.into_owned()
        }
    });
    Some(typed.collect::<Vec<_>>().join(" "))
}

/// A value as people read it: references to calls by their ids.
#[must_use]
pub fn value_in_words(json: &crate::model::Json) -> String {
    // Inside of a string the quotes would be escaped.
    const START: &str = "{\"$type\":\"execution\",\"id\":\"";
    let mut out = String::new();
    let mut rest = json.as_str();
    while let Some((before, after)) = rest.split_once(START) {
        let Some((id, tail)) = after.split_once("\"}") else { break };
        out.push_str(before);
        out.push_str(id);
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_sizes_read_as_people_say_them() {
        let lengths = [0, 999, 1000, 59_999, 60_000, 3_599_999, 7_800_000, 90_000_000].map(length_in_words);
        assert_eq!(lengths, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 m 00 s", "59 m 59 s", "2 h 10 m", "1 d 1 h"]);
        let words = crate::model::Json::parse(r#"["sh","-c","echo it's","","a=b"]"#).unwrap();
        assert_eq!(command_in_words(&words).as_deref(), Some(r"sh -c 'echo it'\''s' '' a=b"));
        assert_eq!(command_in_words(&crate::model::Json::null()), None);
        assert_eq!([0, 1023, 1024, 1_300_000].map(size_in_words), ["0 B", "1023 B", "1.0 KiB", "1.2 MiB"]);
    }
}
