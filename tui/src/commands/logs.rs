//! `logs`: what executions wrote.

use std::process::ExitCode;

use ibid::model::Id;
use ibid::protocol::{EventBody, GetLogs, GetResult, LogLine, LogLines, Notice, Outgoing, Request, Subscribe, Topic};

use crate::app::arguments;
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, clean, clock};

pub fn logs(context: &Context, id: &str, follow: bool, grep: Option<&str>) -> Outcome {
    let id = arguments::id(id)?;
    let run = matches!(id, Id::Run(_));
    if follow && !run {
        return follow_log(context, id, grep);
    }
    if follow {
        // A run's log is that of all its executions: it is whole when the run has ended.
        super::start::wait_for(context, id, None)?;
    }
    let log = context.ask(GetLogs { id, from: None, contains: grep.map(str::to_owned) })?;
    if context.json {
        return output::json(&log);
    }
    output::print(&text(&log, run))?;
    Ok(ExitCode::SUCCESS)
}

fn follow_log(context: &Context, id: Id, grep: Option<&str>) -> Outcome {
    let (sender, mut listener) = context.connect()?.split();
    sender.send(1, Request::Subscribe(Subscribe { topic: Topic::Log { id } }))?;
    sender.send(2, Request::Result(GetResult { id, wait: true, caller: None }))?;
    let mut shown = 0;
    loop {
        match listener.receive()? {
            Outgoing::Notice(Notice::Event(event)) => {
                if let EventBody::Log(mut log) = event.body {
                    shown += log.lines.len() as u64;
                    log.lines.retain(|line| grep.is_none_or(|text| line.contains(text)));
                    print_log(context, &log)?;
                }
            }
            Outgoing::Reply(2, ended) => {
                ended.map_err(ibid::blocking::ClientError::from)?;
                break;
            }
            Outgoing::Reply(_, Err(refused)) => return Err(ibid::blocking::ClientError::from(refused).into()),
            _ => {}
        }
    }
    // What was written last may not have come as an event before the end was told.
    let mut rest = context.ask(GetLogs { id, from: Some(shown), contains: None })?;
    rest.lines.retain(|line| grep.is_none_or(|text| line.contains(text)));
    print_log(context, &rest)?;
    Ok(ExitCode::SUCCESS)
}

fn print_log(context: &Context, log: &LogLines) -> Result<(), Failure> {
    if !context.json {
        return output::print(&text(log, false));
    }
    let mut out = String::new();
    for line in &log.lines {
        let json = serde_json::to_string(line).map_err(|error| Failure::usage(error.to_string()))?;
        out.push_str(&json);
        out.push('\n');
    }
    output::print(&out)
}

fn text(log: &LogLines, with_ids: bool) -> String {
    let mut out = String::new();
    if log.dropped > 0 {
        out.push_str(&format!("… {} earlier lines were dropped: the log was over its limit\n", log.dropped));
    }
    for line in &log.lines {
        out.push_str(&line_text(line, with_ids));
        out.push('\n');
    }
    out
}

/// One line of a log as people read it.
pub fn line_text(line: &LogLine, with_id: bool) -> String {
    let id = match line.execution.filter(|_| with_id) {
        Some(id) => format!(" {id}"),
        None => String::new(),
    };
    let level = match line.level.as_str() {
        "stdout" => String::new(),
        level => format!(" {:<7}", clean(level)),
    };
    let values: String =
        line.values.iter().map(|(name, value)| format!("  {}={}", clean(name), clean(value.as_str()))).collect();
    format!("{}{id}{level} {}{values}", clock(line.at), clean(&line.text))
}
