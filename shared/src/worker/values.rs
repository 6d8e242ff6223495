//! Rust values as the JSON that all workers share, and back.
//!
//! What serde makes of a value is what the others see; the same JSON is the same value, whoever made it. What
//! other languages have and JSON lacks (see `PROTOCOL.md`) is read as what it comes nearest to: tuples and
//! sets as arrays, bytes as numbers, moments, decimals and paths as texts.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Error, Result};
use crate::model::Json;

/// The member that tells what JSON lacks.
const TYPE: &str = "$type";

/// The JSON of a value.
pub(super) fn encode(value: &impl Serialize) -> Result<Json> {
    super::finite::check(value).map_err(|error| unsendable(&error))?;
    let text = serde_json::to_string(value).map_err(|error| unsendable(&error))?;
    let text = if text.contains("\"$type\"") {
        let value: Value = serde_json::from_str(&text).map_err(|error| unsendable(&error))?;
        escape(value).to_string()
    } else {
        text
    };
    Json::parse(text).map_err(|error| unsendable(&error))
}

fn unsendable(error: &serde_json::Error) -> Error {
    Error::new("Unserialisable", format!("a value has no JSON form: {error}"))
}

/// A value from its JSON.
pub(super) fn decode<T: DeserializeOwned>(json: &Json) -> Result<T> {
    let wrong = |error: serde_json::Error| {
        let shown: String = json.as_str().chars().take(200).collect();
        Error::new("WrongType", format!("{shown} is no {} ({error})", without_paths(std::any::type_name::<T>())))
    };
    if json.as_str().contains("\"$type\"") {
        let value: Value = json.read().map_err(wrong)?;
        return serde_json::from_value(plain(value)?).map_err(wrong);
    }
    json.read::<Box<RawValue>>().and_then(|raw| serde_json::from_str(raw.get())).map_err(wrong)
}

/// A type's name as its users write it.
fn without_paths(name: &str) -> String {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let words = name.split_inclusive(|c| !in_word(c));
    words.map(|word| word.rsplit("::").next().unwrap_or(word)).collect()
}

/// The members of a tuple, one by one; of `()` none.
pub(super) fn encode_all(values: &impl Serialize) -> Result<Vec<Json>> {
    let text = encode(values)?;
    match text.read::<Option<Vec<Box<RawValue>>>>() {
        Ok(all) => all.unwrap_or_default().iter().map(|one| Ok(Json::parse(one.get())?)).collect(),
        Err(_) => Ok(vec![text]),
    }
}

/// Objects of the user's that look like what JSON lacks are told apart from it.
fn escape(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(escape).collect()),
        Value::Object(members) => {
            let is_reference = members.len() == 2 && members.get(TYPE).is_some_and(|kind| kind == "execution");
            let has_type = members.contains_key(TYPE);
            let members: Map<_, _> = members.into_iter().map(|(key, item)| (key, escape(item))).collect();
            if !has_type || is_reference {
                return Value::Object(members);
            }
            let pairs = members.into_iter().map(|(key, item)| Value::Array(vec![key.into(), item]));
            object([(TYPE, "object".into()), ("members", Value::Array(pairs.collect()))])
        }
        other => other,
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// What comes nearest to what JSON lacks.
fn plain(value: Value) -> Result<Value> {
    Ok(match value {
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect::<Result<_>>()?),
        Value::Object(members) => match members.get(TYPE).and_then(Value::as_str) {
            Some(kind) => {
                let kind = kind.to_owned();
                nearest(&kind, members)?
            }
            None => {
                let members = members.into_iter().map(|(key, item)| Ok((key, plain(item)?)));
                Value::Object(members.collect::<Result<_>>()?)
            }
        },
        other => other,
    })
}

fn nearest(kind: &str, mut members: Map<String, Value>) -> Result<Value> {
    let mut take = |name: &str| members.remove(name).unwrap_or(Value::Null);
    let bytes = |text: Value| text.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    match kind {
        "tuple" | "set" | "frozenset" => plain(take("items")),
        "object" | "dict" => {
            let pairs = take(if kind == "object" { "members" } else { "items" });
            let pairs = pairs.as_array().cloned().unwrap_or_default();
            let pair = |pair: Value| match plain(pair)? {
                Value::Array(mut pair) if pair.len() == 2 => {
                    let value = pair.pop().unwrap_or_default();
                    // Keys of maps are texts in JSON, and serde reads numbers from them.
                    let key = pair.pop().unwrap_or_default();
                    Ok((key.as_str().map_or_else(|| key.to_string(), str::to_owned), value))
                }
                other => Err(Error::new("WrongType", format!("no pair of key and value: {other}"))),
            };
            Ok(Value::Object(pairs.into_iter().map(pair).collect::<Result<_>>()?))
        }
        "bytes" | "bytearray" => Ok(bytes(take("base64")).into()),
        "str" => Ok(String::from_utf8_lossy(&bytes(take("base64"))).into_owned().into()),
        "date" | "datetime" | "time" | "decimal" | "uuid" | "path" => plain(take("value")),
        "python" => {
            let message = format!(
                "it holds a Python object of the class {}, which only Python can read: hand over plain values",
                take("class")
            );
            Err(Error::new("WrongType", message))
        }
        // Floats that JSON lacks, references and what serde can make a struct of stay what they are.
        _ => Ok(Value::Object(members)),
    }
}

/// The calls that a value refers to, each once.
pub(super) fn referred(json: &Json) -> Result<BTreeSet<String>> {
    let mut found = Vec::new();
    if json.as_str().contains("\"execution\"") {
        references(&json.read()?, &mut found);
    }
    Ok(found.into_iter().collect())
}

/// A value with those of other calls in place of the references to them.
pub(super) fn resolved(json: &Json, others: &BTreeMap<String, Value>) -> Result<Json> {
    Ok(Json::parse(replace(json.read()?, others).to_string())?)
}

/// The calls that a value refers to, outermost first.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => match reference(members) {
            Some(id) => found.push(id.to_owned()),
            None => members.values().for_each(|item| references(item, found)),
        },
        _ => {}
    }
}

/// The same value with others in place of its references.
fn replace(value: Value, others: &BTreeMap<String, Value>) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| replace(item, others)).collect()),
        Value::Object(members) => match reference(&members).and_then(|id| others.get(id)) {
            Some(other) => other.clone(),
            None => Value::Object(members.into_iter().map(|(key, item)| (key, replace(item, others))).collect()),
        },
        other => other,
    }
}

fn reference(members: &Map<String, Value>) -> Option<&str> {
    let is_one = members.get(TYPE).is_some_and(|kind| kind == "execution");
    members.get("id").filter(|_| is_one)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_type_is_told_in_the_words_of_its_users() {
        let told = decode::<Vec<Option<String>>>(&Json::parse("[\"a\", 7]").unwrap()).unwrap_err();
        let told = told.to_string();
        assert!(told.contains("[\"a\", 7] is no Vec<Option<String>> (invalid type"), "{told}");
        assert_eq!(without_paths("(alloc::string::String, &a::B<c::D>)"), "(String, &B<D>)");
    }

    #[test]
    fn a_value_is_what_serde_makes_of_it_and_comes_back() {
        let value = (u64::MAX, 1.0_f64, "ä".to_owned(), Some(vec![1_i8]), ());
        let json = encode(&value).unwrap();
        assert_eq!(json.as_str(), r#"[18446744073709551615,1.0,"ä",[1],null]"#);
        assert_eq!(decode::<(u64, f64, String, Option<Vec<i8>>, ())>(&json).unwrap(), value);
        let large = encode(&u128::MAX).unwrap();
        assert_eq!(decode::<u128>(&large).unwrap(), u128::MAX);
        assert_eq!(encode_all(&(1, "b")).unwrap().len(), 2);
        assert!(encode_all(&()).unwrap().is_empty());
        // One that is no neighbour of itself when it is read inexactly.
        let float = 994.999_999_999_999_9_f64;
        assert_eq!(decode::<f64>(&encode(&float).unwrap()).unwrap().to_bits(), float.to_bits());
    }

    #[test]
    fn floats_that_json_lacks_are_refused_and_not_written_as_null() {
        let hidden = BTreeMap::from([("a", vec![Some(1.0), Some(f64::NAN)])]);
        let error = encode(&hidden).unwrap_err();
        assert!(error.text().contains("JSON has no NaN"), "{error}");
        assert!(encode(&(1, f32::INFINITY)).is_err());
    }

    #[test]
    fn a_map_with_the_member_of_special_values_is_escaped_and_comes_back() {
        let value = BTreeMap::from([("$type".to_owned(), "tuple".to_owned())]);
        let json = encode(&value).unwrap();
        assert_eq!(json.as_str(), r#"{"$type":"object","members":[["$type","tuple"]]}"#);
        assert_eq!(decode::<BTreeMap<String, String>>(&json).unwrap(), value);
    }

    #[test]
    fn what_python_has_and_json_lacks_is_read_as_what_comes_nearest() {
        let read = |text: &str| Json::parse(text).unwrap();
        let tuple = read(r#"{"$type":"tuple","items":[1,{"$type":"bytes","base64":"AQI="}]}"#);
        assert_eq!(decode::<(u8, Vec<u8>)>(&tuple).unwrap(), (1, vec![1, 2]));
        let dict = read(r#"{"$type":"dict","items":[[1,"a"],[2,"b"]]}"#);
        assert_eq!(decode::<BTreeMap<u8, String>>(&dict).unwrap()[&2], "b");
        assert_eq!(decode::<String>(&read(r#"{"$type":"path","value":"/x"}"#)).unwrap(), "/x");
        let object = read(r#"{"$type":"python","class":"m:C","digest":null,"repr":"C()","pickle":""}"#);
        assert!(decode::<Value>(&object).unwrap_err().text().contains("only Python can read"));
    }
}
