//! A daemon that cannot serve, and says so to those who have started it by connecting.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ibid::protocol::{Outgoing, Refused, Request};

use super::{Handler, Load, Outbox, SessionId, Socket, Ticket, serve};

/// Who has connected by now waits for an answer.
const WAITING: Duration = Duration::from_millis(500);

/// Tells everyone who waits on a socket why there is no daemon.
pub async fn refuse(socket: Socket, message: &str) {
    let refusing =
        Rc::new(Refusing { message: message.to_owned(), sessions: RefCell::new(BTreeMap::new()), next: Cell::new(0) });
    let load = Rc::new(Load::default());
    let waiting = async {
        while let Ok(stream) = socket.accept().await {
            tokio::task::spawn_local(serve(stream, refusing.clone(), load.clone()));
        }
    };
    // Who comes later starts the next daemon.
    let _time_is_up = tokio::time::timeout(WAITING, waiting).await;
}

struct Refusing {
    message: String,
    sessions: RefCell<BTreeMap<SessionId, Rc<Outbox>>>,
    next: Cell<SessionId>,
}

impl Handler for Refusing {
    fn connected(&self, outbox: Rc<Outbox>) -> SessionId {
        self.next.set(self.next.get() + 1);
        self.sessions.borrow_mut().insert(self.next.get(), outbox);
        self.next.get()
    }

    async fn room(&self) {}

    fn request(&self, ticket: Ticket, _: Result<Request, Refused>) {
        if let Some(outbox) = self.sessions.borrow().get(&ticket.session) {
            let refused = Refused::new("no_daemon", format!("the daemon cannot start: {}", self.message));
            outbox.push(&ticket.id, Outgoing::Reply(0, Err(refused)));
        }
    }

    fn disconnected(&self, session: SessionId) {
        self.sessions.borrow_mut().remove(&session);
    }
}
