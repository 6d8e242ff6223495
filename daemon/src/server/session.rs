//! One connection: which encoding it speaks, its requests in, its answers out.

use std::rc::Rc;
use std::time::Duration;

use ibid::protocol::frame::{self, GREETING_BYTES, MAGIC};
use ibid::protocol::{MESSAGE_MAX_BYTES, Outgoing, PROTOCOL_VERSION, Refused, json};
use interprocess::local_socket::tokio::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::load::{LOAD_MAX_BYTES, Load, Share};
use super::{Encoding, Handler, Outbox, RequestId, SessionId, Ticket};

/// While more than this waits to be sent, nothing more is read from the client, bytes.
const READ_WHILE_BELOW: usize = 1024 * 1024;

/// A buffer that has once held a large message is not kept, bytes.
const KEPT_BUFFER: usize = 256 * 1024;

/// How often it is looked whether a client that has said all it wants still listens.
const LISTENING_CHECK: Duration = Duration::from_millis(200);

/// Whether the other side has closed both directions.
fn has_hung_up(stream: &Stream) -> bool {
    let Stream::UdSocket(stream) = stream;
    let mut looked = [PollFd::new(stream, PollFlags::IN)];
    let polled = poll(&mut looked, Some(&Timespec::default()));
    polled.is_err() || looked[0].revents().contains(PollFlags::HUP)
}

/// Serves a connection until it ends.
pub async fn serve(stream: Stream, handler: Rc<impl Handler>, load: Rc<Load>) {
    let mut input = Vec::new();
    let Some(encoding) = greet(&stream, &mut input).await else { return };
    let outbox = Rc::new(Outbox::new(encoding, load.clone()));
    let session = handler.connected(outbox.clone());
    let share = Share::new(load);
    let mut connection = Connection { session, encoding, input, scanned: 0, share, outbox, handler: handler.clone() };
    connection.run(&stream).await;
    connection.outbox.close();
    handler.disconnected(session);
}

/// Finds out which encoding the client speaks by its first byte.
async fn greet(mut stream: &Stream, input: &mut Vec<u8>) -> Option<Encoding> {
    loop {
        match input.first() {
            Some(byte) if byte.is_ascii_whitespace() => {
                let blank = input.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                input.drain(..blank);
                continue;
            }
            Some(b'{') => return Some(Encoding::Json),
            Some(byte) if *byte == MAGIC[0] && input.len() >= GREETING_BYTES => {
                return greet_frames(stream, input).await;
            }
            Some(byte) if *byte == MAGIC[0] => {}
            Some(_) => {
                refuse_line(
                    stream,
                    "parse_error",
                    "the first byte must be '{' (JSON-RPC lines) or the magic of a frame",
                )
                .await;
                return None;
            }
            None => {}
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => input.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

async fn greet_frames(mut stream: &Stream, input: &mut Vec<u8>) -> Option<Encoding> {
    let version = u16::from_be_bytes([input[4], input[5]]);
    if input[..4] != MAGIC {
        refuse_line(stream, "parse_error", "neither a JSON-RPC line nor the magic of a frame").await;
        return None;
    }
    stream.write_all(&frame::greeting()).await.ok()?;
    // A client of another version reads ours from the greeting and says which side to upgrade.
    (version == PROTOCOL_VERSION).then(|| {
        input.drain(..GREETING_BYTES);
        Encoding::Postcard
    })
}

async fn refuse_line(mut stream: &Stream, kind: &str, message: &str) {
    let mut line = Vec::new();
    let refused = Outgoing::Reply(0, Err(Refused::new(kind, message)));
    if json::write(&mut line, None, &refused).is_ok() {
        // The client may be gone already; there is nobody else to tell.
        let _gone = stream.write_all(&line).await;
    }
}

struct Connection<H> {
    session: SessionId,
    encoding: Encoding,
    input: Vec<u8>,
    /// How much of the input is known to hold no line end.
    scanned: usize,
    share: Share,
    outbox: Rc<Outbox>,
    handler: Rc<H>,
}

impl<H: Handler> Connection<H> {
    async fn run(&mut self, mut stream: &Stream) {
        let mut output: Vec<u8> = Vec::new();
        let mut sent = 0;
        let mut chunk = vec![0; 64 * 1024];
        let mut reader = stream;
        let mut said_all = false;
        let handler = self.handler.clone();
        self.take_requests();
        loop {
            if sent == output.len() {
                output = self.outbox.take();
                sent = 0;
            }
            let sending = sent < output.len();
            if !sending && (self.outbox.is_closed() || said_all && self.outbox.all_answered()) {
                return;
            }
            let reading = !said_all && !self.outbox.is_closed() && self.outbox.len() < READ_WHILE_BELOW;
            tokio::select! {
                biased;
                written = stream.write(&output[sent..]), if sending => match written {
                    Ok(written) if written > 0 => sent += written,
                    _ => return,
                },
                () = self.outbox.changed(), if !sending => {}
                read = async { handler.room().await; reader.read(&mut chunk).await }, if reading => match read {
                    Ok(read) if read > 0 => {
                        self.input.extend_from_slice(&chunk[..read]);
                        self.take_requests();
                    }
                    // It says nothing more, but may still listen for what it has asked.
                    Ok(_) if !has_hung_up(stream) => said_all = true,
                    _ => return,
                },
                () = tokio::time::sleep(LISTENING_CHECK), if said_all && !sending => {
                    if has_hung_up(stream) {
                        return;
                    }
                }
            }
        }
    }

    fn take_requests(&mut self) {
        match self.encoding {
            Encoding::Json => self.take_lines(),
            Encoding::Postcard => self.take_frames(),
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_BUFFER {
            self.input = Vec::new();
        }
        if !self.share.set(self.input.len()) {
            let message = format!(
                "the clients of this daemon have sent more than {LOAD_MAX_BYTES} bytes of messages without their ends; \
                 this connection is closed, with {} bytes of one",
                self.input.len()
            );
            self.refuse("too_large", message);
        }
    }

    fn take_lines(&mut self) {
        let mut start = 0;
        while let Some(end) = self.input[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + end;
            let line = self.input[start..end].trim_ascii();
            if line.len() > MESSAGE_MAX_BYTES {
                self.refuse_length(line.len());
                return;
            }
            if !line.is_empty() {
                let parsed = json::parse(line);
                let id = parsed.id.map_or(RequestId::None, |id| RequestId::Text(id.into()));
                if !matches!(id, RequestId::None) {
                    self.outbox.expect();
                }
                self.handler.request(Ticket { session: self.session, id }, parsed.request);
            }
            start = end + 1;
            self.scanned = start;
        }
        self.input.drain(..start);
        self.scanned = self.input.len();
        if self.input.len() > MESSAGE_MAX_BYTES {
            self.refuse_length(self.input.len());
        }
    }

    fn take_frames(&mut self) {
        let mut start = 0;
        loop {
            let waiting = &self.input[start..];
            let length = match frame::length(waiting) {
                Ok(length) => length,
                Err(_) => {
                    let length = waiting.first_chunk::<4>().map_or(0, |prefix| u32::from_be_bytes(*prefix));
                    self.refuse_length(usize::try_from(length).unwrap_or(usize::MAX));
                    return;
                }
            };
            let Some(body) = length.and_then(|length| waiting.get(4..4 + length)) else { break };
            match frame::read::<frame::Numbered>(body) {
                Ok((number, request)) => {
                    self.outbox.expect();
                    let ticket = Ticket { session: self.session, id: RequestId::Number(number) };
                    self.handler.request(ticket, Ok(request));
                }
                Err(error) => {
                    // What follows a frame that cannot be read cannot be trusted either.
                    self.refuse("parse_error", error.to_string());
                    return;
                }
            }
            start += 4 + body.len();
        }
        self.input.drain(..start);
    }

    fn refuse_length(&mut self, length: usize) {
        let message = format!(
            "a message of {length} bytes or more is over the limit of {MESSAGE_MAX_BYTES} bytes; the connection is closed"
        );
        self.refuse("too_large", message);
    }

    fn refuse(&mut self, kind: &str, message: String) {
        self.input = Vec::new();
        self.scanned = 0;
        self.outbox.push(&RequestId::None, Outgoing::Reply(0, Err(Refused::new(kind, message))));
        self.outbox.close();
    }
}
