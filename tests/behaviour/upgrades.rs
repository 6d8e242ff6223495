//! Programs and stores of other versions.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use ibid::protocol::{PROTOCOL_VERSION, frame};
use ibid_tests::{Home, binaries, eventually};

/// What a daemon of another version does as far as this one can know: it greets with its own number, and
/// understands JSON.
const OTHER: &str = r#"
import json, os, socket, sys
path, greeting = sys.argv[1], bytes.fromhex(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    stream, _ = listener.accept()
    lines = stream.makefile("rwb", buffering=0)
    first = lines.read(1)
    if first != b"{":
        try:
            lines.write(greeting)
        except OSError:
            pass
        stream.close()
        continue
    line = first + lines.readline()
    while line:
        asked = json.loads(line)
        result = {"pid": os.getpid()} if asked["method"] == "stats" else {}
        lines.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode() + b"\n")
        if asked["method"] == "shutdown":
            os.unlink(path)
            sys.exit(0)
        line = lines.readline()
"#;

struct OtherDaemon(Child);

impl OtherDaemon {
    fn start(home: &Home, version: u16) -> Self {
        let mut greeting = frame::greeting();
        greeting[4..6].copy_from_slice(&version.to_be_bytes());
        let greeting: String = greeting.iter().map(|byte| format!("{byte:02x}")).collect();
        let child = Command::new("python3").args(["-c", OTHER]).arg(home.socket()).arg(greeting).spawn().unwrap();
        let started = Self(child);
        eventually("it listens", Duration::from_secs(10), || home.socket().exists().then_some(()));
        started
    }
}

impl Drop for OtherDaemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn a_daemon_of_another_version_is_told_apart_and_an_older_one_replaced() {
    let home = Home::new();
    {
        let _newer = OtherDaemon::start(&home, PROTOCOL_VERSION + 1);
        let said = home.fails(3, &["runs"]);
        assert!(said.contains("upgrade this program"), "{said}");
    }
    std::fs::remove_file(home.socket()).unwrap();
    let mut older = OtherDaemon::start(&home, PROTOCOL_VERSION - 1);
    let said = home.fails(3, &["runs"]);
    assert!(said.contains("ibid daemon restart"), "{said}");
    assert!(home.ok(&["daemon", "restart"]).contains("started the daemon"));
    assert!(eventually("the older one ends", Duration::from_secs(10), || older.0.try_wait().ok().flatten()).success());
    assert!(home.ok(&["runs", "--json"]).contains("[]"));
    home.ok(&["daemon", "stop"]);
}

#[test]
fn a_program_of_tasks_says_which_side_is_older() {
    let home = Home::new();
    let _newer = OtherDaemon::start(&home, PROTOCOL_VERSION + 1);
    let mut program = Command::new(binaries().join("rust-tasks"));
    program.env("IBID_WORKER_TOKEN", "any").env("IBID_SOCKET", home.socket()).env("IBID_DATA_DIR", home.data());
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("upgrade this program"), "{output:?}");
}

#[test]
fn a_store_of_the_oldest_schema_is_read_and_its_results_are_taken() {
    let home = Home::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store-3.tar.gz");
    std::fs::create_dir_all(home.data()).unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(kept).arg("-C").arg(home.data()).status().unwrap();
    assert!(unpacked.success());
    let _daemon = home.daemon();
    // What it was filled with: see the module below and fixtures/README.md.
    assert_eq!(home.ok(&["result", "R1"]), "[0,1,4,9]");
    assert!(home.ok(&["result", "R2"]).starts_with("\"xxxx"));
    assert!(home.fails(1, &["result", "R3"]).contains("no luck"));
    assert_eq!(home.json(&["rpc", "store.verify"])["result"]["damaged"], 0);
    assert_eq!(home.json(&["runs"])["runs"].as_array().map(Vec::len), Some(3));
    // The same code is registered from here, and what was remembered then is not made again.
    home.write("kept.py", include_str!("../fixtures/kept.py"));
    home.ok(&["register", "kept"]);
    assert_eq!(home.ok(&["run", "kept/squares", "4"]), "[0,1,4,9]");
    assert_eq!(home.why("R4:2"), "hit");
    assert!(home.ok(&["logs", "R1:2"]).contains("square 0"));
}
