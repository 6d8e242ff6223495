//! `service`: the daemon as a systemd user service.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ibid::blocking::daemon_program;

use crate::cli::Service;
use crate::context::{Context, FAILED, Failure, Outcome};
use crate::output;

const SERVICE: &str = "ibidd.service";
const SOCKET: &str = "ibidd.socket";

pub fn service(context: &Context, command: &Service) -> Outcome {
    match command {
        Service::Install => install(context),
        Service::Uninstall => uninstall(context),
        Service::Status => status(context),
    }
}

/// Where the user's units are.
pub fn unit_directory() -> Result<PathBuf, Failure> {
    let given = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = match given {
        Some(config) => config,
        None => {
            std::env::home_dir().ok_or_else(|| Failure::usage("there is no home directory: set HOME"))?.join(".config")
        }
    };
    Ok(config.join("systemd/user"))
}

/// What a command of systemd came to.
enum Control {
    Done(String),
    Failed(String),
    /// There is none that can be reached.
    Absent(String),
}

fn systemctl(arguments: &[&str]) -> Control {
    match Command::new("systemctl").arg("--user").args(arguments).output() {
        Err(error) => Control::Absent(format!("systemctl cannot be run: {error}")),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if output.status.success() {
                Control::Done(told)
            } else if error.contains("Failed to connect") || error.contains("not been booted with systemd") {
                Control::Absent(error)
            } else {
                Control::Failed(if error.is_empty() { told } else { error })
            }
        }
    }
}

fn install(context: &Context) -> Outcome {
    let program = installed_program()?;
    let directory = unit_directory()?;
    let failed = |error: std::io::Error| Failure {
        code: FAILED,
        kind: "units".to_owned(),
        message: format!("the units cannot be written to {}: {error}", directory.display()),
    };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    std::fs::write(directory.join(SOCKET), socket_unit(&context.paths.socket)).map_err(failed)?;
    let unit = service_unit(&program, &context.paths.data, &context.paths.socket);
    std::fs::write(directory.join(SERVICE), unit).map_err(failed)?;
    let mut said = vec![
        format!("wrote {}", directory.join(SOCKET).display()),
        format!("wrote {}", directory.join(SERVICE).display()),
    ];
    let mut code = ExitCode::SUCCESS;
    // A daemon that was started by itself holds store and socket: it makes room, and systemd starts one.
    if matches!(systemctl(&["is-system-running"]), Control::Done(_) | Control::Failed(_))
        && super::daemon::make_room(context)?
    {
        said.push("stopped the daemon that ran by itself".to_owned());
    }
    let steps: [&[&str]; 3] = [&["daemon-reload"], &["enable", SOCKET, SERVICE], &["restart", SOCKET]];
    for step in steps {
        match systemctl(step) {
            Control::Done(_) => said.push(format!("systemctl --user {}", step.join(" "))),
            Control::Failed(error) => {
                code = ExitCode::from(FAILED);
                said.push(format!("systemctl --user {} failed: {error}", step.join(" ")));
                break;
            }
            Control::Absent(error) => {
                code = ExitCode::from(FAILED);
                said.push(format!(
                    "systemd cannot be reached ({error}); the units are there, and once it can: systemctl --user enable --now {SOCKET}"
                ));
                break;
            }
        }
    }
    if code == ExitCode::SUCCESS {
        said.push(
            "the daemon starts with the first command; it ends with your last session, unless: loginctl enable-linger"
                .to_owned(),
        );
    }
    tell(context, &said)?;
    Ok(code)
}

fn uninstall(context: &Context) -> Outcome {
    let directory = unit_directory()?;
    let mut said = Vec::new();
    let there = [SOCKET, SERVICE].map(|unit| directory.join(unit)).into_iter().any(|unit| unit.exists());
    if there {
        match systemctl(&["disable", "--now", SOCKET, SERVICE]) {
            Control::Done(_) => said.push(format!("systemctl --user disable --now {SOCKET} {SERVICE}")),
            Control::Failed(error) | Control::Absent(error) => said.push(format!("systemd was not told: {error}")),
        }
    }
    for unit in [SOCKET, SERVICE] {
        let path = directory.join(unit);
        match std::fs::remove_file(&path) {
            Ok(()) => said.push(format!("removed {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("{} cannot be removed: {error}", path.display());
                return Err(Failure { code: FAILED, kind: "units".to_owned(), message });
            }
        }
    }
    for left in [format!("sockets.target.wants/{SOCKET}"), format!("default.target.wants/{SERVICE}")] {
        // Where systemd was told, it has removed its own links already.
        let _gone = std::fs::remove_file(directory.join(left));
    }
    for empty in [directory.join("sockets.target.wants"), directory.join("default.target.wants"), directory.clone()] {
        // Only what nothing else is in.
        let _in_use = std::fs::remove_dir(empty);
    }
    if there {
        // Where it cannot be reached there is nothing to reload.
        let _absent = systemctl(&["daemon-reload"]);
    } else {
        said.push("the service was not installed".to_owned());
    }
    tell(context, &said)?;
    Ok(ExitCode::SUCCESS)
}

fn status(context: &Context) -> Outcome {
    let directory = unit_directory()?;
    let installed = directory.join(SERVICE).exists();
    let state = match systemctl(&["is-active", SERVICE]) {
        Control::Done(state) | Control::Failed(state) => state,
        Control::Absent(_) => "not known: systemd cannot be reached".to_owned(),
    };
    if context.json {
        return output::json(&serde_json::json!({"installed": installed, "state": state, "units": directory}));
    }
    let installed = if installed { "installed" } else { "not installed" };
    output::print(&format!("{installed} in {}\nservice {state}\n", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn tell(context: &Context, said: &[String]) -> Result<(), Failure> {
    if context.json {
        output::json(&serde_json::json!({"done": said}))?;
        return Ok(());
    }
    output::print(&format!("{}\n", said.join("\n")))
}

/// The daemon's program as a path that stays right.
fn installed_program() -> Result<PathBuf, Failure> {
    let program = daemon_program();
    if program.is_absolute() {
        return Ok(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(&program))
        .find(|found| found.is_file())
        .ok_or_else(|| Failure::usage("ibidd is neither beside ibid nor on the path: install it first"))
}

/// A word of a unit file: `%` begins a specifier there, and spaces part words.
fn word(path: &Path) -> String {
    let text =
        path.display().to_string().replace('%', "%%").replace('$', "$$").replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

fn socket_unit(socket: &Path) -> String {
    // Where a path stands alone it is not quoted.
    let socket = socket.display().to_string().replace('%', "%%");
    format!(
        "\
# Written by 'ibid service install'. Changes of one's own: systemctl --user edit {SOCKET}

[Unit]
Description=ibid: a call that was made before is not made again

[Socket]
ListenStream={socket}
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"
    )
}

fn service_unit(program: &Path, data: &Path, socket: &Path) -> String {
    format!(
        "\
# Written by 'ibid service install'. Changes of one's own: systemctl --user edit {SERVICE}

[Unit]
Description=ibid: a call that was made before is not made again
Requires={SOCKET}
After={SOCKET}
# A full disk may take a while to be mended: it never gives up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={} --data-dir {} --socket {}
Restart=on-failure
RestartSec=2
# What only a person can mend (the message is in the status) is not tried again by itself.
RestartPreventExitStatus=78
TimeoutStartSec=300
# Letting running work end takes as long as its own limit, for which the daemon asks; the rest is tried again.
TimeoutStopSec=90
KillMode=mixed
WatchdogSec=60
# A task that takes too much memory ends alone.
OOMPolicy=continue
LimitNOFILE=1024:524288
# Tasks are the user's own programs (sudo, containers and compilers among them) and inherit what stands here:
# so nothing is taken away from them. To bound all of them together: MemoryMax=, TasksMax=, CPUWeight=.

[Install]
Also={SOCKET}
WantedBy=default.target
",
        word(program),
        word(data),
        word(socket)
    )
}
