//! The digest of a JSON text: equal for equal values, different otherwise.
//!
//! The text becomes a typed, length-prefixed encoding in which integers are
//! their decimal digits, floats their 64 bits, and object members sorted; its
//! blake3 hash is the digest. Where in doubt two values differ: a false miss
//! costs time, a false hit is a wrong answer.

use std::borrow::Cow;

use ibid::model::{Json, StepId};

/// Deeper nesting is refused.
pub const DEPTH_MAX: u32 = 128;

/// What identity needs to know of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// `None` where the value has no digest that is the same in every process.
    pub digest: Option<[u8; 32]>,
    /// The calls that it refers to, in order; in the digest they count by position.
    pub references: Vec<StepId>,
}

/// Why a JSON text is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAValue {
    /// Not JSON at all.
    #[error("not valid JSON at byte {0}")]
    Syntax(usize),
    /// Arrays and objects inside each other.
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// One name twice in an object.
    #[error("the object member {0:?} appears twice")]
    Duplicate(String),
    /// Beyond the largest float.
    #[error("the number {0} is too large for a float")]
    Overflow(String),
    /// A `$type` whose members are not as they should be.
    #[error("a {0:?} value is malformed")]
    Malformed(String),
}

/// Reads a value once and says what identity needs.
///
/// # Errors
/// Where the text is not a value.
pub fn analyse(json: &Json) -> Result<Analysis, NotAValue> {
    let mut scanner = Scanner {
        text: json.as_str(),
        at: 0,
        references: Vec::new(),
        stable: true,
        items: Vec::new(),
        want_items: false,
    };
    let mut encoded = Vec::with_capacity(json.as_str().len() + 16);
    scanner.value(&mut encoded, 0)?;
    let digest = scanner.stable.then(|| *blake3::hash(&encoded).as_bytes());
    Ok(Analysis { digest, references: scanner.references })
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    references: Vec<StepId>,
    stable: bool,
    /// Where the items lie of the array that is the member `items` of an object, in its encoding.
    items: Vec<std::ops::Range<usize>>,
    /// The next value is that member.
    want_items: bool,
}

type Member<'a> = (Cow<'a, str>, Vec<u8>, &'a str);

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Result<u8, NotAValue> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(NotAValue::Syntax(self.at))
    }

    fn expect(&mut self, wanted: u8) -> Result<(), NotAValue> {
        if self.peek()? != wanted {
            return Err(NotAValue::Syntax(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<(), NotAValue> {
        if depth > DEPTH_MAX {
            return Err(NotAValue::TooDeep);
        }
        let want_items = std::mem::take(&mut self.want_items);
        match self.peek()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth, want_items),
            b'"' => {
                let text = self.string()?;
                put(out, b's', text.as_bytes());
                Ok(())
            }
            b't' => self.word("true", b't', out),
            b'f' => self.word("false", b'f', out),
            b'n' => self.word("null", b'n', out),
            _ => self.number(out),
        }
    }

    fn word(&mut self, word: &str, tag: u8, out: &mut Vec<u8>) -> Result<(), NotAValue> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotAValue::Syntax(self.at));
        }
        self.at += word.len();
        out.push(tag);
        Ok(())
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Result<(), NotAValue> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let text = &rest[..end];
        if text.is_empty() {
            return Err(NotAValue::Syntax(self.at));
        }
        if text.contains(['.', 'e', 'E']) {
            let float: f64 = text.parse().map_err(|_| NotAValue::Syntax(self.at))?;
            if float.is_infinite() {
                return Err(NotAValue::Overflow(text.chars().take(40).collect()));
            }
            out.push(b'd');
            out.extend_from_slice(&float.to_bits().to_be_bytes());
        } else {
            put(out, b'i', if text == "-0" { b"0" } else { text.as_bytes() });
        }
        self.at += end;
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotAValue> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut plain = true;
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    at += 2;
                }
                Some(_) => at += 1,
                None => return Err(NotAValue::Syntax(at)),
            }
        }
        self.at = at + 1;
        if plain {
            return Ok(Cow::Borrowed(&self.text[start + 1..at]));
        }
        let quoted = self.text.get(start..=at).ok_or(NotAValue::Syntax(at))?;
        serde_json::from_str::<String>(quoted).map(Cow::Owned).map_err(|_| NotAValue::Syntax(start))
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: u32, want_items: bool) -> Result<(), NotAValue> {
        self.expect(b'[')?;
        out.push(b'a');
        let counted = out.len();
        length(out, 0);
        let mut count: u64 = 0;
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                let start = out.len();
                self.value(out, depth + 1)?;
                count += 1;
                if want_items {
                    items.push(start..out.len());
                }
                match self.peek()? {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return Err(NotAValue::Syntax(self.at)),
                }
            }
            self.at += 1;
        }
        out[counted..counted + 8].copy_from_slice(&count.to_be_bytes());
        if want_items {
            self.items = items;
        }
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<(), NotAValue> {
        let references_before = self.references.len();
        let stable_before = self.stable;
        let mut members: Vec<Member<'a>> = Vec::new();
        let mut items: Option<Vec<Vec<u8>>> = None;
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                if self.peek()? != b'"' {
                    return Err(NotAValue::Syntax(self.at));
                }
                let name = self.string()?;
                self.expect(b':')?;
                self.peek()?;
                let from = self.at;
                let mut value = Vec::new();
                self.want_items = name == "items";
                self.value(&mut value, depth + 1)?;
                if name == "items" && value.first() == Some(&b'a') {
                    let ranges = std::mem::take(&mut self.items);
                    items = Some(ranges.into_iter().map(|range| value[range].to_vec()).collect());
                }
                members.push((name, value, &self.text[from..self.at]));
                match self.peek()? {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return Err(NotAValue::Syntax(self.at)),
                }
            }
            self.at += 1;
        }
        members.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(NotAValue::Duplicate(pair[0].0.to_string()));
        }
        let kind = text_member(&members, "$type");
        match kind.as_deref() {
            Some("execution") => {
                self.references.truncate(references_before);
                self.reference(out, &members)
            }
            // A message names a large value as a whole argument or result, never inside of another.
            Some("blob") => Err(NotAValue::Malformed("blob".to_owned())),
            Some("python") => {
                self.references.truncate(references_before);
                self.stable = stable_before;
                self.python(out, &members)
            }
            Some("command") => command(out, &members),
            Some(kind @ ("set" | "frozenset" | "dict")) => {
                let mut items = items.ok_or_else(|| NotAValue::Malformed(kind.to_owned()))?;
                // Sets, and dictionaries with any keys: their order plays no part,
                // except that references in them count by position.
                if self.references.len() == references_before {
                    items.sort();
                }
                put(out, b'u', kind.as_bytes());
                put_all(out, b'a', &items);
                Ok(())
            }
            _ => {
                out.push(b'o');
                length(out, members.len());
                for (name, value, _) in &members {
                    put(out, b's', name.as_bytes());
                    out.extend_from_slice(value);
                }
                Ok(())
            }
        }
    }

    fn reference(&mut self, out: &mut Vec<u8>, members: &[Member<'a>]) -> Result<(), NotAValue> {
        let malformed = || NotAValue::Malformed("execution".to_owned());
        let id = text_member(members, "id").ok_or_else(malformed)?;
        let id: ibid::model::Id = id.parse().map_err(|_| malformed())?;
        self.references.push(id.step());
        out.push(b'x');
        length(out, self.references.len());
        Ok(())
    }

    /// A pickled value: its class and the digest that the worker made of it count,
    /// not the pickle's bytes, which differ between equal values.
    fn python(&mut self, out: &mut Vec<u8>, members: &[Member<'a>]) -> Result<(), NotAValue> {
        let malformed = || NotAValue::Malformed("python".to_owned());
        let class = text_member(members, "class").ok_or_else(malformed)?;
        put(out, b'p', class.as_bytes());
        match text_member(members, "digest") {
            Some(digest) => put(out, b's', digest.as_bytes()),
            None => self.stable = false,
        }
        if let Some((_, _, text)) = members.iter().find(|member| member.0 == "references") {
            let ids: Vec<String> = serde_json::from_str(text).map_err(|_| malformed())?;
            for id in ids {
                let id: ibid::model::Id = id.parse().map_err(|_| malformed())?;
                self.references.push(id.step());
                out.push(b'x');
                length(out, self.references.len());
            }
        }
        Ok(())
    }
}

/// What a command wrote counts by stream: how it came in pieces plays no part.
fn command(out: &mut Vec<u8>, members: &[Member<'_>]) -> Result<(), NotAValue> {
    let malformed = || NotAValue::Malformed("command".to_owned());
    let (_, _, text) = members.iter().find(|member| member.0 == "output").ok_or_else(malformed)?;
    let pieces: Vec<(Cow<'_, str>, ibid::model::Word)> = serde_json::from_str(text).map_err(|_| malformed())?;
    put(out, b'u', b"command");
    for stream in ["stdout", "stderr"] {
        let mut hasher = blake3::Hasher::new();
        pieces.iter().filter(|piece| piece.0 == stream).for_each(|piece| {
            hasher.update(&piece.1.0);
        });
        put(out, b's', hasher.finalize().as_bytes());
    }
    for name in ["exit_code", "signal"] {
        let value = members.iter().find(|member| member.0 == name);
        put(out, b's', value.map_or("", |value| value.2).as_bytes());
    }
    Ok(())
}

fn text_member<'a>(members: &[Member<'a>], name: &str) -> Option<Cow<'a, str>> {
    let (_, _, text) = members.iter().find(|member| member.0 == name)?;
    serde_json::from_str::<String>(text).ok().map(Cow::Owned)
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_be_bytes());
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_all(out: &mut Vec<u8>, tag: u8, items: &[Vec<u8>]) {
    out.push(tag);
    length(out, items.len());
    for item in items {
        out.extend_from_slice(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> [u8; 32] {
        analyse(&Json::parse(text).unwrap()).unwrap().digest.unwrap()
    }

    #[test]
    fn the_order_of_members_plays_no_part() {
        assert_eq!(digest(r#"{"a":1,"b":2}"#), digest(r#" { "b" : 2, "a" : 1 } "#));
        assert_eq!(digest(r#"{"a":{"x":1,"y":[]}}"#), digest(r#"{"a":{"y":[],"x":1}}"#));
    }

    #[test]
    fn values_of_different_types_differ() {
        let texts = [
            "1",
            "1.0",
            "\"1\"",
            "true",
            "null",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "0",
            "0.0",
            "-0.0",
            "\"\"",
            "\"null\"",
            r#"{"$type":"tuple","items":[1]}"#,
            r#"{"1":null}"#,
            "false",
            "-1",
            "[1,2]",
            "[[1],2]",
            "12",
            r#"{"$type":"set","items":[1]}"#,
            r#"{"$type":"frozenset","items":[1]}"#,
            "\"\\u0000\"",
        ];
        for (i, a) in texts.iter().enumerate() {
            for b in &texts[i + 1..] {
                assert_ne!(digest(a), digest(b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn one_value_written_in_two_ways_is_one() {
        assert_eq!(digest("1e2"), digest("100.0"));
        assert_eq!(digest(r#""\u00e9""#), digest("\"é\""));
        assert_eq!(digest("-0"), digest("0"));
        assert_ne!(digest("9007199254740993"), digest("9007199254740992"));
        assert_ne!(digest(&"9".repeat(5000)), digest(&"9".repeat(5001)));
    }

    #[test]
    fn sets_and_dictionaries_have_no_order() {
        assert_eq!(digest(r#"{"$type":"set","items":[1,2,3]}"#), digest(r#"{"items":[3,1,2],"$type":"set"}"#));
        assert_eq!(
            digest(r#"{"$type":"dict","items":[[1,"a"],[2,"b"]]}"#),
            digest(r#"{"$type":"dict","items":[[2,"b"],[1,"a"]]}"#)
        );
    }

    #[test]
    fn references_count_by_position_and_are_listed() {
        let analysis = |text: &str| analyse(&Json::parse(text).unwrap()).unwrap();
        let a = analysis(r#"[{"$type":"execution","id":"R1:2"},{"$type":"execution","id":"R1:3"}]"#);
        let b = analysis(r#"[{"$type":"execution","id":"R4:2"},{"$type":"execution","id":"R5:3"}]"#);
        assert_eq!(a.digest, b.digest);
        assert_eq!(a.references.len(), 2);
        assert_eq!(b.references[0].to_string(), "R4:2");
        let pickled = analysis(
            r#"{"$type":"python","class":"m:P","digest":"ab","pickle":"xx","repr":"P","references":["R1:2"]}"#,
        );
        assert_eq!(pickled.references.len(), 1);
    }

    #[test]
    fn a_value_without_a_stable_digest_says_so() {
        let json = Json::parse(r#"[{"$type":"python","class":"m:P","digest":null,"pickle":"xx"}]"#).unwrap();
        assert_eq!(analyse(&json).unwrap().digest, None);
    }

    #[test]
    fn the_bytes_of_a_pickle_play_no_part() {
        assert_eq!(
            digest(r#"{"$type":"python","class":"m:P","digest":"ab","pickle":"one","repr":"P"}"#),
            digest(r#"{"$type":"python","class":"m:P","digest":"ab","pickle":"two","repr":"P"}"#)
        );
    }

    #[test]
    fn what_is_not_a_value_is_refused_with_its_reason() {
        let fail = |text: &str| analyse(&Json::parse(text).unwrap()).unwrap_err();
        assert_eq!(fail(r#"{"a":1,"a":2}"#), NotAValue::Duplicate("a".into()));
        assert_eq!(fail("1e400"), NotAValue::Overflow("1e400".into()));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(analyse(&Json::parse(deep).unwrap()).unwrap_err(), NotAValue::TooDeep);
    }
}
