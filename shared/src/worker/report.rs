//! What an execution says of itself: messages, progress, figures, checkpoints.

use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::context::{current, wait_for};
use super::error::refused;
use super::{Error, Result, values};
use crate::model::Json;
use crate::protocol::{ExecutionCheckpoint, ExecutionLog, ExecutionProgress, LogLine};

/// Between two reports of one count; the last, of all, is always told.
const INTERVAL: Duration = Duration::from_millis(50);

/// A text of a message is not longer, characters.
const TEXT_MAX: usize = 1024 * 1024;

/// Adds a message to the log of the running execution; outside one, prints it. The macros
/// [`log_debug!`](crate::log_debug), [`log_info!`](crate::log_info), [`log_warning!`](crate::log_warning) and
/// [`log_error!`](crate::log_error) make it of a template and named values.
pub fn log(level: &str, text: String, values: Vec<(String, Json)>) {
    let Some(context) = current() else {
        println!("{level}: {text}");
        return;
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let line = LogLine {
        at: i64::try_from(at).unwrap_or(i64::MAX),
        level: level.to_owned(),
        text: if text.len() > TEXT_MAX { text.chars().take(TEXT_MAX).collect() } else { text },
        values,
        execution: None,
    };
    // Where the daemon is gone the execution is, too.
    let _gone = context.client.tell(ExecutionLog { execution: context.execution, lines: vec![line] });
    context.client.keep_pace();
}

/// For the macros: a value as shown beside a message.
#[doc(hidden)]
pub fn shown(value: &impl Serialize) -> Json {
    values::encode(value).unwrap_or_else(|_| Json::null())
}

/// Reports how many of how many are done, shown as a bar while the execution runs. Several things that one
/// execution counts are told apart by their labels.
pub fn progress(label: &str, done: f64, total: Option<f64>) {
    let Some(context) = current() else { return };
    let now = Instant::now();
    {
        let mut counted = context.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let told = counted.get(label).is_some_and(|last| now.duration_since(*last) < INTERVAL);
        if told && total != Some(done) {
            return;
        }
        counted.insert(label.to_owned(), now);
    }
    report(label, Some(done), total, Vec::new());
}

/// Reports a named figure, shown while the execution runs.
pub fn metric(name: &str, value: f64) {
    report("", None, None, vec![(name.to_owned(), value)]);
}

fn report(label: &str, done: Option<f64>, total: Option<f64>, metrics: Vec<(String, f64)>) {
    let Some(context) = current() else { return };
    let progress = ExecutionProgress { execution: context.execution, label: label.to_owned(), done, total, metrics };
    // Where the daemon is gone the execution is, too.
    let _gone = context.client.tell(progress);
    context.client.keep_pace();
}

/// Inside a sensor: what it is started with the next time, in place of its arguments. A tuple is several
/// arguments, in the order of the signature. Returns when it is stored: whatever happens from then on, the
/// sensor goes on from there. Outside an execution it does nothing.
///
/// # Errors
/// Where this is no sensor, or the daemon cannot store it.
pub async fn checkpoint(arguments: impl Serialize) -> Result<()> {
    let Some(context) = current() else { return Ok(()) };
    if !context.is_sensor {
        return Err(Error::message("a checkpoint belongs to a sensor, and this execution is not one's"));
    }
    // What was called before must be with the daemon: the sensor does not come back to it.
    context.settle().await?;
    let mut handed_over = Vec::new();
    for argument in values::encode_all(&arguments)? {
        handed_over.push(context.hand_over(argument).await?);
    }
    let checkpoint = ExecutionCheckpoint { execution: context.execution, arguments: handed_over };
    context.client.call(checkpoint).await.map_err(refused)?;
    Ok(())
}

/// [`checkpoint`] for a sensor that is not async.
///
/// # Errors
/// Where this is no sensor, or the daemon cannot store it.
pub fn checkpoint_blocking(arguments: impl Serialize) -> Result<()> {
    wait_for(checkpoint(arguments))
}

/// Adds a message at the level `debug` to the log of the running execution: a template as of [`format!`], and
/// named values, which are kept beside the text.
#[macro_export]
macro_rules! log_debug {
    ($($told:tt)*) => { $crate::log_at!("debug", $($told)*) };
}

/// Adds a message at the level `info` to the log of the running execution.
///
/// ```
/// ibid::log_info!("fetched {pages} pages of {site}", pages = 7, site = "example.com");
/// ```
#[macro_export]
macro_rules! log_info {
    ($($told:tt)*) => { $crate::log_at!("info", $($told)*) };
}

/// Adds a message at the level `warning` to the log of the running execution.
#[macro_export]
macro_rules! log_warning {
    ($($told:tt)*) => { $crate::log_at!("warning", $($told)*) };
}

/// Adds a message at the level `error` to the log of the running execution.
#[macro_export]
macro_rules! log_error {
    ($($told:tt)*) => { $crate::log_at!("error", $($told)*) };
}

/// Behind the macros for each level.
#[doc(hidden)]
#[macro_export]
macro_rules! log_at {
    ($level:literal, $template:literal $(, $name:ident = $value:expr)* $(,)?) => {{
        $(let $name = &$value;)*
        $crate::worker::log(
            $level,
            ::std::format!($template),
            ::std::vec![$((::std::string::String::from(::std::stringify!($name)), $crate::worker::shown($name))),*],
        )
    }};
}
