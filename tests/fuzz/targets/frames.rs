//! Any bytes as what comes after the greeting, in both directions: read or refused, and what was read is
//! written and read the same.
#![no_main]

use ibid::protocol::{Outgoing, frame};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok(Some(length)) = frame::length(rest) {
        let Some(body) = rest.get(4..4 + length) else { break };
        both(body);
        rest = &rest[4 + length..];
    }
    // A length that fits is rarely hit by chance.
    both(input);
});

fn both(body: &[u8]) {
    same::<frame::Numbered>(body);
    same::<Outgoing>(body);
}

/// What was read is read the same from what is written of it. Bytes are compared: a NaN does not equal itself.
fn same<T: DeserializeOwned + Serialize>(body: &[u8]) {
    let Ok(read) = frame::read::<T>(body) else { return };
    let (mut written, mut again) = (Vec::new(), Vec::new());
    frame::write(&mut written, &read).expect("what was read can be written");
    let back: T = frame::read(&written[4..]).expect("and read");
    frame::write(&mut again, &back).expect("and written");
    assert_eq!(written, again);
}
