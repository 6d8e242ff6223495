//! The daemon itself: its figures, its store, its end.

use serde::{Deserialize, Serialize};

use crate::model::{Millis, Timestamp};

messages! {
    /// Asks for the daemon's figures.
    GetStats {}
    /// The daemon's figures.
    Stats {
        /// Its version.
        version: String,
        /// Its process.
        pid: u32,
        /// When it was started, ms since 1970.
        started: Timestamp,
        /// How long it took until it served, ms.
        start_took: Millis,
        /// Its data directory.
        data_dir: String,
        /// Its socket.
        socket: String,
        /// Runs ever started.
        runs: u64,
        /// Executions queued now.
        queued: u32,
        /// Executions running now, waiting ones included.
        running: u32,
        /// Executions linked now.
        linked: u32,
        /// Executions that others are linked to now.
        leaders: u32,
        /// Targets registered.
        targets: u32,
        /// Hits and links since the store was made.
        borrowed: u64,
        /// Executions since the store was made.
        executed: u64,
        /// Time saved since the store was made, ms.
        saved: Millis,
        /// Bytes of the store on disk.
        disk_bytes: u64,
        /// Resident memory of the daemon, bytes.
        memory_bytes: u64,
        /// Turns committed.
        turns: u64,
        /// Whether it is about to stop.
        stopping: bool,
    }
    /// Asks for a look through the whole store.
    VerifyStore {}
    /// What a look through a store has found.
    #[derive(Default)]
    StoreChecked {
        /// Records read.
        records: u64,
        /// References followed.
        references: u64,
        /// Values whose hash was compared with their text.
        values: u64,
        /// Problems found.
        damaged: u64,
        /// The first hundred of them.
        findings: Vec<Finding>,
        /// Whether a part of the files does not read at all.
        unreadable: bool,
        /// What was written once and is not there any more, if anything.
        lost: Option<String>,
    }
    /// A problem in the store.
    Finding {
        /// In which keyspace.
        place: String,
        /// Which record or file.
        what: String,
        /// What is wrong with it.
        problem: String,
    }
    /// Stops the daemon.
    Shutdown {
        /// At once, without waiting for running executions.
        #[serde(default)]
        now: bool,
        /// How long to wait for them, ms; 60 s if absent.
        #[serde(default)]
        drain: Option<Millis>,
    }
}
