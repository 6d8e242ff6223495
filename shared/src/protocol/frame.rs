//! Postcard frames: a greeting, then length-delimited messages.
//!
//! The greeting never changes: the client sends [`MAGIC`] and its protocol
//! version (u16, big-endian), the daemon answers with the same and its own. If
//! they differ the daemon closes. Then frames go both ways: a length (u32,
//! big-endian, of what follows) and a postcard body.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MESSAGE_MAX_BYTES;

/// The first bytes of a postcard client. No JSON text starts with them.
pub const MAGIC: [u8; 4] = *b"ibid";

/// Bytes of the greeting: magic and version.
pub const GREETING_BYTES: usize = 6;

/// A request as it is framed: its number, from 1, and what is asked.
pub type Numbered = (u64, super::Request);

/// The greeting of one side.
#[must_use]
pub fn greeting() -> [u8; GREETING_BYTES] {
    let [a, b, c, d] = MAGIC;
    let [high, low] = super::PROTOCOL_VERSION.to_be_bytes();
    [a, b, c, d, high, low]
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Over [`MESSAGE_MAX_BYTES`].
    #[error("a message of {0} bytes is over the limit of {MESSAGE_MAX_BYTES} bytes")]
    TooLong(usize),
    /// Not the expected type.
    #[error("a frame could not be read: {0}")]
    Malformed(String),
}

/// Appends a message as a frame.
///
/// # Errors
/// Where it is too long.
pub fn write(out: &mut Vec<u8>, message: &impl Serialize) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    *out =
        postcard::to_extend(message, std::mem::take(out)).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = out.len() - start - 4;
    if length > MESSAGE_MAX_BYTES {
        out.truncate(start);
        return Err(FrameError::TooLong(length));
    }
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + 4].copy_from_slice(&prefix);
    Ok(())
}

/// The length of the first frame's body, once its prefix is there.
///
/// # Errors
/// Where it is too long.
pub fn length(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX_BYTES {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some(length))
}

/// Reads a frame's body, all of it.
///
/// # Errors
/// Where it is not of that type.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(FrameError::Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(FrameError::Malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Outgoing, Ping, Refused, Request};

    #[test]
    fn a_message_reads_back_from_its_frame() {
        let mut out = Vec::new();
        write(&mut out, &(7u64, Request::Ping(Ping {}))).unwrap();
        let length = length(&out).unwrap().unwrap();
        assert_eq!(length, out.len() - 4);
        assert_eq!(read::<Numbered>(&out[4..]).unwrap(), (7, Request::Ping(Ping {})));
        let reply = Outgoing::Reply(7, Err(Refused::new("not_found", "no")));
        let mut out = Vec::new();
        write(&mut out, &reply).unwrap();
        assert_eq!(read::<Outgoing>(&out[4..]).unwrap(), reply);
    }

    #[test]
    fn a_frame_over_the_limit_or_with_rubbish_is_refused() {
        assert_eq!(length(&u32::MAX.to_be_bytes()), Err(FrameError::TooLong(u32::MAX as usize)));
        assert!(read::<Numbered>(&[255; 40]).is_err());
        assert!(read::<Numbered>(&[]).is_err());
    }
}
