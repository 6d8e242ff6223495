//! What surrounds the daemon goes wrong: the disk fills, its files are taken away, others knock.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ibid_tests::{Home, binaries, eventually};

const MODULE: &str = r#"
from ibid import workflow

@workflow
def go(n=1):
    return n

@workflow
def big(n):
    return f"{n} " + "x" * 700_000

@workflow
def small(n):
    return f"{n} " + "y" * 900
"#;

#[test]
fn a_socket_that_is_removed_comes_back_and_a_moved_data_directory_ends_the_daemon() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.register("work", MODULE);
    std::fs::remove_file(home.socket()).unwrap();
    eventually("it serves on a new socket", Duration::from_secs(10), || {
        home.ibid(&["run", "work/go", "7"]).status.success().then_some(())
    });
    let mode = std::fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let elsewhere = home.path().join("elsewhere");
    std::fs::rename(home.data(), &elsewhere).unwrap();
    assert!(!daemon.wait().success());
    let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap();
    assert!(log.contains("was moved or removed"), "{log}");
    // Back where it was, everything is there.
    std::fs::rename(&elsewhere, home.data()).unwrap();
    let _daemon = home.daemon();
    assert_eq!(home.ok(&["result", "R1"]), "7");
}

#[test]
fn programs_of_other_users_get_in_neither_by_the_file_nor_by_the_socket() {
    const KNOCK: &str = r#"
import socket, sys
stream = socket.socket(socket.AF_UNIX)
try:
    stream.connect(sys.argv[1])
    stream.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    print("heard", stream.recv(1000))
except (PermissionError, ConnectionResetError, BrokenPipeError) as error:
    print("refused", type(error).__name__)
"#;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let home = Home::new();
    let _daemon = home.daemon();
    let knock = |user: &str| {
        let socket = home.socket().display().to_string();
        let output = Command::new("setpriv")
            .args([&format!("--reuid={user}"), "--clear-groups", "/usr/bin/python3", "-c", KNOCK, &socket])
            .current_dir("/")
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let open = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(home.path(), open(0o755)).unwrap();
    assert!(knock("0").contains("pong") || knock("0").contains("result"), "{}", knock("0"));
    assert_eq!(knock("65534").trim(), "refused PermissionError");
    // Whoever opens the file to all still lets nobody in.
    std::fs::set_permissions(home.socket(), open(0o666)).unwrap();
    let heard = knock("65534");
    assert!(heard.trim() == "heard b''" || heard.contains("refused"), "{heard}");
    let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap();
    assert!(log.contains("refused a connection of user Some(65534)"), "{log}");
}

/// A small file system of one's own below the data directory, kept by a process that sleeps.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    fn mount(home: &Home, size: &str) -> Option<Self> {
        std::fs::create_dir_all(home.data()).ok()?;
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 tmpfs '{}' && touch mounted && exec sleep 600",
            home.data().display()
        );
        let mut holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .current_dir(home.path())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..500 {
            if home.path().join("mounted").exists() {
                return Some(Self { holder });
            }
            if holder.try_wait().ok().flatten().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// A command that sees the disk.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", program]);
        command
    }

    fn ibid(&self, home: &Home, arguments: &[&str]) -> Output {
        let mut command = self.inside(&binaries().join("ibid").display().to_string());
        command.arg("--no-start").args(arguments).env("IBID_DATA_DIR", home.data()).env("IBID_SOCKET", home.socket());
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn daemon(&self, home: &Home) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.path().join("daemon.log")).unwrap();
        self.inside(&binaries().join("ibidd").display().to_string())
            .arg("--data-dir")
            .arg(home.data())
            .arg("--socket")
            .arg(home.socket())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

/// Ends a daemon that was started by hand.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn a_full_disk(target: &str, size: &str) {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home, size) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let mut daemon = Ended(disk.daemon(&home));
    eventually("it serves", Duration::from_secs(10), || home.ibid(&["runs"]).status.success().then_some(()));
    home.write("work.py", MODULE);
    home.ok(&["register", "work"]);
    let mut acknowledged = Vec::new();
    let failure = loop {
        let n = acknowledged.len();
        assert!(n < 5000, "the disk is never full");
        let output = disk.ibid(&home, &["run", target, &n.to_string()]);
        if !output.status.success() {
            break String::from_utf8_lossy(&output.stderr).into_owned();
        }
        acknowledged.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        // What fills is what else is on the disk: a file that grows.
        if target.ends_with("small") {
            let grow = disk
                .inside("sh")
                .args(["-c", &format!("head -c 1500000 /dev/zero >>'{}/filler'", home.data().display())])
                .output();
            assert!(grow.is_ok());
        }
    };
    let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap_or_default();
    let told = format!("{failure}\n{log}");
    assert!(told.contains("No space left on device"), "{told}");
    assert!(acknowledged.len() > 3, "{}: {told}", acknowledged.len());
    // Room is made, and it goes on with all that was acknowledged.
    let path = home.data().display().to_string();
    let more = disk.inside("mount").args(["-o", "remount,size=500m", &path]).status().unwrap();
    assert!(more.success());
    if eventually("it has ended, or serves", Duration::from_secs(20), || match daemon.0.try_wait() {
        Ok(Some(_)) => Some(true),
        _ => home.ibid(&["runs"]).status.success().then_some(false),
    }) {
        daemon = Ended(disk.daemon(&home));
        eventually("it serves again", Duration::from_secs(10), || home.ibid(&["runs"]).status.success().then_some(()));
    }
    for (n, value) in acknowledged.iter().enumerate() {
        let output = disk.ibid(&home, &["result", &format!("R{}", n + 1)]);
        assert!(String::from_utf8_lossy(&output.stdout).trim() == value, "R{} has another result", n + 1);
    }
    eventually("new work is done", Duration::from_secs(20), || {
        disk.ibid(&home, &["run", target, "100000"]).status.success().then_some(())
    });
    let verified = home.json(&["rpc", "store.verify"]);
    assert_eq!(verified["result"]["damaged"], 0, "{verified}");
    eprintln!("{target}: {} results acknowledged until the disk of {size} was full; all there", acknowledged.len());
    drop(daemon);
}

#[test]
fn a_disk_full_of_large_values_loses_nothing_and_goes_on_when_there_is_room() {
    a_full_disk("work/big", "24m");
}

#[test]
fn a_disk_that_others_fill_loses_nothing_and_goes_on_when_there_is_room() {
    a_full_disk("work/small", "40m");
}
