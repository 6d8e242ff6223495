//! What the daemon is asked, and how the model changes by what it says.

use ibid::model::{Id, RunId, StepId};
use ibid::protocol::{
    EventBody, ListSensors, Notice, Outgoing, Refused, Reply, Request, Scope, Submit, Subscribe, Topic, Unsubscribe,
};

use super::model::{LOG_LINES_MAX, Link, Model, Overlay, Purpose, RUNS_MAX, Screen};
use super::sensors::SensorBoard;

impl Model {
    pub(super) fn ask(&mut self, purpose: Purpose, request: Request) {
        if self.link != Link::Connected {
            self.status = "not connected to the daemon, so nothing can be asked of it now".to_owned();
            return;
        }
        let number = self.next_request;
        self.next_request += 1;
        self.asked.insert(number, purpose);
        self.newest.insert(purpose, number);
        self.outgoing.push((number, request));
    }

    /// A connection is there: everything shown is subscribed to again.
    pub fn connected(&mut self) {
        self.link = Link::Connected;
        self.asked.clear();
        self.subscriptions.clear();
        self.ask(Purpose::Stats, Request::Subscribe(Subscribe { topic: Topic::Stats }));
        let topic = Topic::Runs { scope: None, limit: Some(500) };
        self.ask(Purpose::Runs, Request::Subscribe(Subscribe { topic }));
        self.ask_listing();
        if let Screen::Run(run) = self.screen {
            self.ask(Purpose::Run, Request::Subscribe(Subscribe { topic: Topic::Run { run } }));
        }
        self.follow_log(true);
    }

    /// The connection is gone; what is loaded stays.
    pub fn disconnected(&mut self, why: String) {
        if !matches!(self.link, Link::Lost(..)) {
            self.link = Link::Lost(self.now, why);
        }
        self.outgoing.clear();
    }

    /// Something came from the daemon.
    pub fn hear(&mut self, message: Outgoing) {
        match message {
            Outgoing::Reply(number, reply) => {
                let Some(purpose) = self.asked.remove(&number) else { return };
                match reply {
                    Ok(Reply::Subscribe(subscribed)) if self.newest.get(&purpose) != Some(&number) => {
                        // The user has moved on since it was asked for.
                        let subscription = subscribed.subscription;
                        self.ask(Purpose::Unsubscribe, Request::Unsubscribe(Unsubscribe { subscription }));
                    }
                    Ok(_) if purpose == Purpose::Listing && self.newest.get(&purpose) != Some(&number) => {
                        // Another list has been opened since.
                    }
                    Ok(reply) => self.answered(purpose, reply),
                    Err(refused) => self.refused(purpose, &refused),
                }
            }
            Outgoing::Notice(Notice::Event(event)) => {
                if self.subscriptions.contains_key(&event.subscription) {
                    self.changed(event.subscription, event.snapshot, event.body);
                }
            }
            Outgoing::Notice(Notice::Order(_)) => {}
        }
    }

    pub(super) fn refused(&mut self, purpose: Purpose, refused: &Refused) {
        self.status = refused.message.lines().next().unwrap_or_default().to_owned();
        if purpose == Purpose::Run && refused.kind == "not_found" {
            self.screen = Screen::Runs;
        }
    }

    pub(super) fn answered(&mut self, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (purpose, Reply::Subscribe(subscribed)) => {
                self.subscriptions.insert(subscribed.subscription, purpose);
            }
            (Purpose::Listing, reply) => self.take_listing(reply),
            (_, Reply::Why(explanation)) => {
                self.overlay = Some(Overlay::Explain { explanation: Box::new(explanation), scroll: 0 });
            }
            (_, Reply::Rerun(rerunning)) => {
                self.status = format!("{} runs again", rerunning.execution);
            }
            (Purpose::SensorChanged, Reply::Cancel(cancelled)) => {
                let runs: Vec<_> = cancelled.stopped.iter().map(|step| step.run.to_string()).collect();
                self.status = format!("stopped {}", runs.join(" "));
                self.ask_sensors();
            }
            (_, Reply::Cancel(cancelled)) => {
                let ids = |ids: &[StepId]| ids.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(" ");
                self.status = match (cancelled.stopped.as_slice(), cancelled.kept.as_slice()) {
                    (stopped, []) => format!("cancelled {}", ids(stopped)),
                    ([], kept) => format!("cancelled here; goes on for others: {}", ids(kept)),
                    (stopped, kept) => format!("cancelled {}; goes on for others: {}", ids(stopped), ids(kept)),
                };
            }
            (purpose, Reply::Sensors(list)) => match &mut self.overlay {
                Some(Overlay::Sensors(board)) => board.update(list),
                _ if purpose == Purpose::Sensors => {
                    self.overlay = Some(Overlay::Sensors(Box::new(SensorBoard::new(list))));
                }
                _ => {}
            },
            (_, Reply::SensorStart(started)) => {
                self.status = format!("{} is kept running", started.run);
                self.ask_sensors();
            }
            (Purpose::Waiters, Reply::Show(shown)) => {
                let mut ids = shown.execution.followers.clone();
                ids.extend(shown.borrowers.iter().filter(|id| !shown.execution.followers.contains(id)));
                if ids.is_empty() {
                    self.status = format!("nobody joined {} or took its result", shown.execution.id);
                } else {
                    let title = format!("joined {} or took its result", shown.execution.id);
                    self.overlay = Some(Overlay::Choose { title, ids, selected: 0 });
                }
            }
            (Purpose::DemoRegister, Reply::Register(_)) => {
                let start = Submit::new(
                    Scope { project: "demo".to_owned(), environment: "default".to_owned() },
                    "ibid.demo/tour",
                );
                self.ask(Purpose::DemoStart, Request::Submit(start));
            }
            (Purpose::DemoStart | Purpose::Again, Reply::Submit(submitted)) => {
                self.status = format!("{} started", submitted.run);
                self.open_run(submitted.run, None);
            }
            _ => {}
        }
    }

    pub(super) fn changed(&mut self, subscription: u64, snapshot: bool, body: EventBody) {
        match body {
            EventBody::Stats(stats) => {
                self.stats = Some(stats);
                // It comes when anything has changed, at most once a second.
                if !self.asked.values().any(|purpose| *purpose == Purpose::Listing) {
                    self.ask_listing();
                }
            }
            EventBody::Runs(runs) => self.runs_changed(snapshot, runs),
            EventBody::Run { run, steps } => {
                if self.screen != Screen::Run(run.id) {
                    return;
                }
                self.looked.run = Some(run);
                if snapshot {
                    self.looked.steps.clear();
                }
                self.looked.steps.extend(steps.into_iter().map(|step| (step.id, step)));
                self.rebuild_rows();
                if snapshot {
                    self.show_selected();
                }
                self.follow_log(false);
            }
            EventBody::Log(log) => {
                if self.subscriptions.get(&subscription) != Some(&Purpose::Log) {
                    return;
                }
                if self.looked.log_of != Some(log.execution) || snapshot {
                    self.looked.log.clear();
                    self.looked.log_back = 0;
                }
                self.looked.log_of = Some(log.execution);
                self.looked.log_dropped = self.looked.log_dropped.max(log.dropped);
                if self.looked.log_back > 0 {
                    self.looked.log_back += log.lines.len();
                }
                self.looked.log.extend(log.lines);
                let over = self.looked.log.len().saturating_sub(LOG_LINES_MAX);
                self.looked.log.drain(..over);
                self.looked.log_dropped += over as u64;
            }
        }
    }

    pub(super) fn runs_changed(&mut self, snapshot: bool, runs: Vec<ibid::protocol::RunView>) {
        let asked = self.asked.values().any(|purpose| *purpose == Purpose::SensorsAgain);
        if matches!(self.overlay, Some(Overlay::Sensors(_))) && !asked {
            self.ask(Purpose::SensorsAgain, Request::Sensors(ListSensors { scope: None }));
        }
        let before = self.listed_runs().first().map(|run| run.id);
        let place = self.selected_run.and_then(|id| self.listed_runs().iter().position(|run| run.id == id));
        if snapshot {
            self.runs.clear();
        }
        self.runs_known = true;
        self.runs.extend(runs.into_iter().map(|run| (run.id, run)));
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_first();
        }
        let listed: Vec<RunId> = self.listed_runs().iter().map(|run| run.id).collect();
        let at = self.selected_run.and_then(|id| listed.iter().position(|listed| *listed == id));
        match (self.at_top, at, place) {
            (false, Some(at), Some(place)) => {
                // The list does not move under the cursor: what is new waits above.
                self.runs_offset = (self.runs_offset + at).saturating_sub(place);
                let newer = before.map_or(0, |before| listed.iter().take_while(|id| **id > before).count());
                self.new_above += newer;
            }
            (false, Some(_), None) => {}
            _ => {
                self.selected_run = listed.first().copied();
                self.runs_offset = 0;
                self.new_above = 0;
            }
        }
    }

    /// Follows the log of whatever does the work for the selected step; the daemon finds out who that is.
    pub(super) fn follow_log(&mut self, again: bool) {
        if !matches!(self.screen, Screen::Run(_)) {
            return;
        }
        if self.looked.on_group {
            // A group has no log of its own.
            self.end_subscriptions(Purpose::Log);
            self.looked.log.clear();
            self.looked.log_of = None;
            self.log_wanted = None;
            return;
        }
        let Some(step) = self.selected_step() else { return };
        let wanted = step.id;
        let shown = self.subscriptions.values().any(|purpose| *purpose == Purpose::Log)
            || self.asked.values().any(|purpose| *purpose == Purpose::Log);
        if self.log_wanted == Some(wanted) && shown && !again {
            return;
        }
        self.end_subscriptions(Purpose::Log);
        self.looked.log.clear();
        self.looked.log_dropped = 0;
        self.looked.log_back = 0;
        self.looked.log_of = None;
        self.log_wanted = Some(wanted);
        if self.link == Link::Connected {
            let topic = Topic::Log { id: Id::Step(wanted) };
            self.ask(Purpose::Log, Request::Subscribe(Subscribe { topic }));
        }
    }

    pub(super) fn end_subscriptions(&mut self, purpose: Purpose) {
        let numbers: Vec<u64> =
            self.subscriptions.iter().filter(|(_, other)| **other == purpose).map(|(number, _)| *number).collect();
        for subscription in numbers {
            self.subscriptions.remove(&subscription);
            if self.link == Link::Connected {
                self.ask(Purpose::Unsubscribe, Request::Unsubscribe(Unsubscribe { subscription }));
            }
        }
    }
}
