//! `daemon start`, `stop`, `restart`, `status`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ibid::client::{Client, ClientError, start_daemon};
use ibid::protocol::{GetStats, Shutdown, length_in_words, size_in_words};

use crate::cli::Daemon;
use crate::context::{Context, FAILED, Failure, NO_DAEMON, Outcome};
use crate::output;

pub fn daemon(context: &Context, command: Daemon) -> Outcome {
    match command {
        Daemon::Start => start(context),
        Daemon::Stop { now, drain } => stop(context, now, drain),
        Daemon::Restart => {
            match Client::connect(&context.paths.socket) {
                Ok(_) => {
                    stop(context, false, 60.0)?;
                }
                // One of another version is stopped by its owner; none needs no stopping.
                Err(ClientError::NoDaemon(_)) => {}
                Err(error) => return Err(error.into()),
            }
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
    let mut client = match Client::connect(&context.paths.socket) {
        Ok(client) => client,
        Err(ClientError::NoDaemon(_)) => {
            if !context.json {
                output::print("no daemon is running\n")?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let drain = Duration::try_from_secs_f64(drain)
        .map_err(|_| Failure::usage(format!("'{drain}' is no number of seconds to wait")))?;
    let millis = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
    client.call(Shutdown { now, drain: Some(millis) })?;
    // It closes the connection when it has ended its work, and the socket when it has ended.
    while client.notice().is_ok() {}
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if matches!(Client::connect(&context.paths.socket), Err(ClientError::NoDaemon(_))) {
            if !context.json {
                output::print("the daemon has stopped\n")?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let message = "the daemon has ended its work but still answers; look into its log".to_owned();
    Err(Failure { code: FAILED, kind: "still_running".to_owned(), message })
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
