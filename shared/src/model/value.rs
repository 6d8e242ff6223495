//! Values: JSON text, kept as it was written.
//!
//! Numbers never pass through a float, so `2**70` stays what it is. Types that
//! JSON lacks are objects with a member `$type` (see `PROTOCOL.md`).

use std::fmt;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON text. Its syntax was checked when it was made.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Json(Box<str>);

impl Json {
    /// Checks that the text is one JSON value and keeps it.
    ///
    /// # Errors
    /// Where it is not, with the position.
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<&RawValue>(&text)?;
        let text = text.trim();
        // A message is one line. Within strings there are no bare line ends.
        Ok(Self(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }))
    }

    /// The JSON of anything serialisable.
    ///
    /// # Errors
    /// Where the value has no JSON form (a map with other keys than strings).
    pub fn from_serialize(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// A JSON string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string().into())
    }

    /// `null`
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// Where the text is not of that type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
            raw.serialize(serializer)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let raw = Box::<RawValue>::deserialize(deserializer)?;
            Ok(Self(raw.into()))
        } else {
            let text = Box::<str>::deserialize(deserializer)?;
            Self::parse(text).map_err(D::Error::custom)
        }
    }
}

/// What stands in a message in place of a value too large for it: `{"$type": "blob", …}`. The text is
/// in a file that is only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobReference {
    #[serde(rename = "$type")]
    kind: String,
    /// blake3 of the text, in hexadecimal.
    pub hash: String,
    /// Bytes of the text.
    #[serde(default)]
    pub size: u64,
    /// The file.
    #[serde(default)]
    pub path: String,
}

impl BlobReference {
    /// Names a value.
    #[must_use]
    pub fn new(hash: String, size: u64, path: String) -> Self {
        Self { kind: "blob".to_owned(), hash, size, path }
    }

    /// The reference that a text is, if it is one.
    #[must_use]
    pub fn read(json: &Json) -> Option<Self> {
        let text = json.as_str();
        if text.len() > 8192 || !text.starts_with('{') || !text.contains("\"blob\"") {
            return None;
        }
        json.read().ok().filter(|reference: &Self| reference.kind == "blob")
    }
}

/// Where a value is: small ones in the record itself, larger ones beside it, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Stored {
    /// In the record.
    Inline(Json),
    /// Under its content's hash.
    Kept {
        /// blake3 of the text.
        hash: [u8; 32],
        /// Length of the text, bytes.
        size: u64,
        /// The digest that identities are made of; `None` where the value has no stable one.
        digest: Option<[u8; 32]>,
    },
}

impl Stored {
    /// What is left of a pruned value: its size.
    #[must_use]
    pub const fn pruned(size: u64) -> Self {
        Self::Kept { hash: [0; 32], size, digest: None }
    }

    /// Whether its text was pruned.
    #[must_use]
    pub fn is_pruned(&self) -> bool {
        matches!(self, Self::Kept { hash, .. } if *hash == [0; 32])
    }

    /// Bytes of its text.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(json) => json.as_str().len() as u64,
            Self::Kept { size, .. } => *size,
        }
    }
}

/// Texts from this many bytes on are files of their own, and go by name through the socket.
pub const BLOB_MIN_BYTES: u64 = 64 * 1024;

/// Texts up to this many bytes stay inside the records.
pub const INLINE_MAX_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let json = Json::parse("1180591620717411303424").unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), "1180591620717411303424");
        let bytes = postcard::to_stdvec(&json).unwrap();
        assert_eq!(postcard::from_bytes::<Json>(&bytes).unwrap(), json);
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for text in ["", "{", "1 2", "{'a':1}", "nul", "[1,]"] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        let bytes = postcard::to_stdvec("nonsense").unwrap();
        assert!(postcard::from_bytes::<Json>(&bytes).is_err());
    }
}
