//! Any bytes as a JSON-RPC line: read or refused, and what was read is the same in the other encoding.
#![no_main]

use ibid::protocol::{Outgoing, Refused, frame, json};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;

/// What is read of a refusal. Not its id: that may be a number that is too large for this reader.
#[derive(Deserialize)]
struct Answer {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    kind: String,
}

fuzz_target!(|input: &[u8]| {
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let parsed = json::parse(line);
    let id = parsed.id.as_deref();
    match parsed.request {
        Ok(request) => {
            let mut framed = Vec::new();
            frame::write(&mut framed, &(1u64, &request)).expect("a request that was read can be framed");
            let back = frame::read::<frame::Numbered>(&framed[4..]).expect("its frame can be read");
            // But for the white space around values that is the same.
            let mut again = Vec::new();
            frame::write(&mut again, &back).expect("and framed again");
            assert_eq!(frame::read::<frame::Numbered>(&again[4..]).expect("and read again"), back);
        }
        Err(refused) => {
            // The refusal is one line of JSON that names the request, whatever was in it.
            let mut out = Vec::new();
            json::write(&mut out, id, &Outgoing::Reply(0, Err(refused))).expect("a refusal can be written");
            assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
            let read: Answer = serde_json::from_slice(&out).expect("a refusal is JSON");
            assert_ne!(Refused::new(&read.error.data.kind, "").code(), 0);
        }
    }
});
