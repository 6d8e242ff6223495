//! JSON-RPC 2.0, one message a line.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{METHODS, Notice, Outgoing, Refused, Request};

/// A request line as it comes.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    jsonrpc: Option<String>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// A request from a line: its id (JSON text; `None` for a notification) and what is asked.
#[derive(Debug)]
pub struct Parsed {
    /// The id to answer with.
    pub id: Option<Box<RawValue>>,
    /// What is asked, or why it could not be read.
    pub request: Result<Request, Refused>,
}

/// Reads one line.
#[must_use]
pub fn parse(line: &[u8]) -> Parsed {
    let null = || serde_json::from_str("null").ok();
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let refused = Refused::new("parse_error", format!("the line is not UTF-8: {error}"));
            return Parsed { id: null(), request: Err(refused) };
        }
    };
    let line: Line<'_> = match serde_json::from_str(text) {
        Ok(line) => line,
        Err(error) if error.is_data() => {
            let refused = Refused::new("invalid_request", format!("not a JSON-RPC request: {error}"));
            return Parsed { id: null(), request: Err(refused) };
        }
        Err(error) => {
            let refused = Refused::new("parse_error", format!("the line is not JSON: {error}"));
            return Parsed { id: null(), request: Err(refused) };
        }
    };
    let id = line.id.map(ToOwned::to_owned);
    if let Some(version) = line.jsonrpc.filter(|version| version != "2.0") {
        let message = format!("\"jsonrpc\" is {version:?}; only \"2.0\" is spoken here");
        return Parsed { id, request: Err(Refused::new("invalid_request", message)) };
    }
    let request = match line.params {
        Some(params) => Request::from_json(&line.method, params),
        None => serde_json::from_str::<&RawValue>("{}")
            .map_err(|error| Refused::new("internal", error.to_string()))
            .and_then(|empty| Request::from_json(&line.method, empty)),
    };
    Parsed { id, request }
}

/// Says that there is no such method, and which one may have been meant.
#[must_use]
pub fn unknown_method(method: &str) -> Refused {
    let name: String = method.chars().take(60).collect();
    let close =
        METHODS.iter().find(|known| known.eq_ignore_ascii_case(&name) || known.rsplit('.').next() == Some(&name));
    let hint = close
        .map_or_else(|| format!("the methods are {}", METHODS.join(", ")), |close| format!("did you mean '{close}'?"));
    Refused::new("unknown_method", format!("there is no method '{name}'; {hint}"))
}

#[derive(Serialize)]
struct ResultLine<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    result: &'a RawValue,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: i64,
    message: &'a str,
    data: ErrorData<'a>,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    kind: &'a str,
}

#[derive(Serialize)]
struct NoticeLine<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a RawValue,
}

/// Appends a message as a line. `id` is the request's, for replies.
///
/// # Errors
/// Where a member has no JSON form.
pub fn write(out: &mut Vec<u8>, id: Option<&RawValue>, message: &Outgoing) -> serde_json::Result<()> {
    match message {
        Outgoing::Reply(_, Ok(reply)) => {
            let Some(id) = id else { return Ok(()) };
            let result = reply.to_json()?;
            serde_json::to_writer(&mut *out, &ResultLine { jsonrpc: "2.0", id, result: &result })?;
        }
        Outgoing::Reply(_, Err(refused)) => write_error(out, id, refused)?,
        Outgoing::Notice(notice) => write_notice(out, notice)?,
    }
    out.push(b'\n');
    Ok(())
}

fn write_error(out: &mut Vec<u8>, id: Option<&RawValue>, refused: &Refused) -> serde_json::Result<()> {
    let error = ErrorBody { code: refused.code(), message: &refused.message, data: ErrorData { kind: &refused.kind } };
    serde_json::to_writer(out, &ErrorLine { jsonrpc: "2.0", id, error })
}

fn write_notice(out: &mut Vec<u8>, notice: &Notice) -> serde_json::Result<()> {
    let params = notice.to_json()?;
    serde_json::to_writer(out, &NoticeLine { jsonrpc: "2.0", method: notice.method(), params: &params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> String {
        parse(line.as_bytes()).request.unwrap_err().kind
    }

    #[test]
    fn what_is_no_request_is_refused_by_kind() {
        assert_eq!(kind("nonsense"), "parse_error");
        assert_eq!(kind("[1,2]"), "invalid_request");
        assert_eq!(kind(r#"{"id":1}"#), "invalid_request");
        assert_eq!(kind(r#"{"id":1,"method":"nothing"}"#), "unknown_method");
        assert_eq!(kind(r#"{"id":1,"method":"submit","params":{"target":7}}"#), "bad_request");
        assert_eq!(kind(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#), "invalid_request");
        assert_eq!(parse(b"{\"method\":\xff}").request.unwrap_err().kind, "parse_error");
    }

    #[test]
    fn any_id_comes_back_as_it_was() {
        let parsed = parse(br#"{"id":"a-\u00e9","method":"ping"}"#);
        assert_eq!(parsed.id.unwrap().get(), r#""a-\u00e9""#);
    }
}
