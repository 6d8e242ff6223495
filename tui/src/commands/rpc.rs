//! `rpc`: raw requests, in JSON, as any script would send them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use ibid::model::Json;

use crate::context::{Context, FAILED, Failure, NO_DAEMON, Outcome};
use crate::output;

pub fn rpc(context: &Context, method: &str, params: Option<&str>) -> Outcome {
    // Starts the daemon if need be; the requests themselves go over a connection of their own.
    drop(context.connect()?);
    let lost = |error: std::io::Error| Failure {
        code: NO_DAEMON,
        kind: "no_daemon".to_owned(),
        message: format!("the connection to the daemon was lost: {error}"),
    };
    let stream = UnixStream::connect(&context.paths.socket).map_err(lost)?;
    let mut replies = BufReader::new(stream.try_clone().map_err(lost)?).lines();
    let mut refused = false;
    let mut send = |line: &str| -> Result<(), Failure> {
        (&stream).write_all(format!("{line}\n").as_bytes()).map_err(lost)?;
        let Some(reply) = replies.next() else {
            return Err(lost(std::io::Error::other("it was closed")));
        };
        let reply = reply.map_err(lost)?;
        refused |= reply.contains("\"error\":{\"code\"");
        output::print(&format!("{reply}\n"))
    };
    if method == "-" {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
            if !line.trim().is_empty() {
                send(&line)?;
            }
        }
    } else {
        let params = Json::parse(params.unwrap_or("{}"))
            .map_err(|error| Failure::usage(format!("the parameters are no JSON: {error}")))?;
        let method = Json::string(method);
        send(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":{method},\"params\":{params}}}"))?;
    }
    Ok(if refused { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
