//! `daemon start`, `stop`, `restart`, `status`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ibid::blocking::{Client, ClientError, start_daemon};
use ibid::protocol::{GetStats, Shutdown, length_in_words, size_in_words};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::Daemon;
use crate::context::{Context, FAILED, Failure, NO_DAEMON, Outcome};
use crate::output;

pub fn daemon(context: &Context, command: Daemon) -> Outcome {
    match command {
        Daemon::Start => start(context),
        Daemon::Stop { now, drain } => stop(context, now, drain),
        Daemon::Restart => {
            make_room(context)?;
            start(context)
        }
        Daemon::Status => status(context),
    }
}

fn start(context: &Context) -> Outcome {
    let said = match Client::connect(&context.paths.socket) {
        Ok(_) => "a daemon is running already".to_owned(),
        Err(ClientError::NoDaemon(_)) => {
            let begun = Instant::now();
            let start = start_daemon(&context.paths)?;
            let took = begun.elapsed().as_millis();
            match start.started {
                Some(pid) => format!("started the daemon (pid {pid}) in {took} ms"),
                None => "another command has just started the daemon".to_owned(),
            }
        }
        Err(error) => return Err(error.into()),
    };
    if context.json {
        return status(context);
    }
    output::print(&format!("{said}; data in {}\n", context.paths.data.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Stops a daemon if one runs; says whether one did.
pub fn make_room(context: &Context) -> Result<bool, Failure> {
    if Client::connect(&context.paths.socket).is_err() {
        return Ok(false);
    }
    stop(context, false, 60.0)?;
    Ok(true)
}

fn stop(context: &Context, now: bool, drain: f64) -> Outcome {
    let drain = Duration::try_from_secs_f64(drain)
        .map_err(|_| Failure::usage(format!("'{drain}' is no number of seconds to wait")))?;
    let drain = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
    let stopped = match UnixStream::connect(&context.paths.socket) {
        Ok(stream) => shut_down(stream, &Shutdown { now, drain: Some(drain) })?,
        // Whatever else is wrong with it is told as for every other command.
        Err(_) => match Client::connect(&context.paths.socket) {
            Err(error) if !matches!(error, ClientError::NoDaemon(_)) => return Err(error.into()),
            _ => false,
        },
    };
    if !context.json {
        output::print(if stopped { "the daemon has stopped\n" } else { "no daemon is running\n" })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a daemon to stop, in the encoding that every version understands, and waits until its process is
/// gone. Says whether there was one.
fn shut_down(stream: UnixStream, shutdown: &Shutdown) -> Result<bool, Failure> {
    let failed = |kind: &str, message: String| Failure { code: FAILED, kind: kind.to_owned(), message };
    let broken = |error: std::io::Error| failed("connection", format!("the daemon cannot be asked to stop: {error}"));
    let mut lines = BufReader::new(stream.try_clone().map_err(broken)?);
    let mut line = String::new();
    let mut process = None;
    // Which process it is has to be asked: the one that listens may be the service manager.
    for (method, params) in [("stats", serde_json::json!({})), ("shutdown", serde_json::json!(shutdown))] {
        let request = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(&stream, "{request}").map_err(broken)?;
        line.clear();
        lines.read_line(&mut line).map_err(broken)?;
        let reply: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(error) = reply.get("error") {
            let message = error["message"].as_str().unwrap_or("it gives no reason").to_owned();
            return Err(failed("refused", format!("the daemon does not stop: {message}")));
        }
        let pid = reply["result"]["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        process = process.or_else(|| pidfd_open(pid?, PidfdFlags::empty()).ok());
    }
    // It closes the connection when it has ended its work.
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {}
    let Some(process) = process else { return Ok(true) };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut ended, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })) {
        Ok(0) => {
            let message = "the daemon has ended its work but is still there; look into its log".to_owned();
            Err(failed("still_running", message))
        }
        _ => Ok(true),
    }
}

fn status(context: &Context) -> Outcome {
    let mut client = match Client::connect(&context.paths.socket) {
        Ok(client) => client,
        Err(error @ ClientError::NoDaemon(_)) if !context.json => {
            output::print(&format!("no daemon is running (socket {})\n", context.paths.socket.display()))?;
            return Ok(ExitCode::from(Failure::from(error).code));
        }
        Err(ClientError::NoDaemon(_)) => {
            output::json(&serde_json::json!({"running": false}))?;
            return Ok(ExitCode::from(NO_DAEMON));
        }
        Err(error) => return Err(error.into()),
    };
    let stats = client.call(GetStats {})?;
    if context.json {
        return output::json(&stats);
    }
    let up = length_in_words((output::now() - stats.started).max(0).cast_unsigned());
    let reused = (stats.borrowed * 100).checked_div(stats.borrowed + stats.executed);
    output::print(&format!(
        "daemon     {} (pid {}), up {up}, started in {} ms{}\ndata       {}\nsocket     {}\nnow        {} running, {} queued, {} linked to {}\nso far     {} runs, {} executed, {} reused{}, saved {}\nstore      {} on disk, {} turns\nmemory     {}\ntargets    {}\n",
        stats.version,
        stats.pid,
        stats.start_took,
        if stats.stopping { ", stopping" } else { "" },
        stats.data_dir,
        stats.socket,
        stats.running,
        stats.queued,
        stats.linked,
        stats.leaders,
        stats.runs,
        stats.executed,
        stats.borrowed,
        reused.map_or_else(String::new, |percent| format!(" ({percent} %)")),
        length_in_words(stats.saved),
        size_in_words(stats.disk_bytes),
        stats.turns,
        size_in_words(stats.memory_bytes),
        stats.targets,
    ))?;
    Ok(ExitCode::SUCCESS)
}
