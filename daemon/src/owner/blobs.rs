//! Large values on their way in and out.

use ibid::model::{Json, StepId, Stored};
use ibid::protocol::{Blob, BlobGet, BlobPut, MESSAGE_MAX_BYTES, Refused, Reply};

use super::{Owner, State, When, now};
use crate::server::Ticket;
use crate::store::{NotTaken, hash_of};

impl Owner {
    /// Takes a file over; it is read on another thread.
    pub(super) fn blob_put(&self, ticket: Ticket, put: BlobPut) {
        let Some(own) = self.me.upgrade() else { return };
        let blobs = self.blobs.clone();
        tokio::task::spawn_local(async move {
            let taken = tokio::task::spawn_blocking(move || blobs.take(&put.name)).await;
            let mut state = own.state.borrow_mut();
            let reply = match taken {
                Ok(Ok((hash, record))) => {
                    let size = record.size;
                    state.handed_over.insert(hash, record);
                    state.unclaimed.borrow_mut().insert(hash, now());
                    Ok(Reply::BlobPut(own.blob(&hash, size)))
                }
                Ok(Err(error @ NotTaken::Io(_))) => Err(Refused::new("internal", error.to_string())),
                Ok(Err(error)) => Err(Refused::new("bad_request", error.to_string())),
                Err(_) => Err(Refused::new("internal", "reading the value failed in an unforeseen way")),
            };
            own.reply(&mut state, &ticket, reply, When::Synced);
            own.wake();
        });
    }

    pub(super) fn blob_get(&self, get: &BlobGet) -> Result<Reply, Refused> {
        let hash = hash_of(&get.hash).ok_or_else(|| Refused::new("bad_request", "a hash is 64 hexadecimal digits"))?;
        let metadata = std::fs::metadata(self.blobs.path(&hash))
            .map_err(|_| Refused::new("not_found", format!("there is no value with the hash {}", get.hash)))?;
        Ok(Reply::BlobGet(self.blob(&hash, metadata.len())))
    }

    /// The text of a value, also of one that a message only named.
    pub(super) fn whole(&self, json: Json) -> Result<Json, String> {
        let Some(hash) = crate::store::blob_named_by(&json) else { return Ok(json) };
        let path = self.blobs.path(&hash);
        let unread =
            |error: &dyn std::fmt::Display| format!("a large value that was handed over cannot be read: {error}");
        let size = std::fs::metadata(&path).map_err(|error| unread(&error))?.len();
        if size > MESSAGE_MAX_BYTES as u64 {
            return Err("so large a value can only be the argument of a parameter of its own".to_owned());
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unread(&error))?;
        Json::parse(text).map_err(|error| unread(&error))
    }

    fn blob(&self, hash: &[u8; 32], size: u64) -> Blob {
        let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Blob { hash: hex, size, path: self.blobs.path(hash).display().to_string() }
    }
}

/// A value that was handed over before, and the calls that it refers to.
pub(super) fn handed_over(state: &State, hash: [u8; 32]) -> Result<(Stored, Vec<StepId>), Refused> {
    let record = state.handed_over.get(&hash).cloned().or_else(|| state.past.blob(&hash));
    state.unclaimed.borrow_mut().remove(&hash);
    let record = record.ok_or_else(|| {
        Refused::new("not_found", "a message names a large value that was not handed over; 'blob.put' does that first")
    })?;
    Ok((Stored::Kept { hash, size: record.size, digest: record.digest }, record.references))
}

/// A result as the engine wants it.
pub(super) fn keep_result(state: &mut State, json: Json) -> Result<Stored, Refused> {
    if let Some(hash) = crate::store::blob_named_by(&json) {
        let (value, references) = handed_over(state, hash)?;
        return Ok(match value {
            // What a result means that holds references lies elsewhere.
            Stored::Kept { hash, size, .. } if !references.is_empty() => Stored::Kept { hash, size, digest: None },
            value => value,
        });
    }
    let (result, text) = crate::engine::result(json).map_err(|error| Refused::new("bad_request", error.to_string()))?;
    super::requests::keep_text(state, &result, text);
    Ok(result)
}
