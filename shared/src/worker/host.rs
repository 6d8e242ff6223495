//! The process that runs tasks: attached to the daemon that has started it, until that says stop or goes away.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::AbortHandle;

use super::context::{Context, take, within, within_blocking};
use super::error::refused;
use super::{Body, Error, Result, Target};
use crate::Client;
use crate::model::{ExecutionId, Json, TargetKind};
use crate::protocol::{Execute, ExecutionComplete, ExecutionFail, Order, Ping, WorkerAttach, WorkerReady};

/// Blocking executions hold a thread each, also while they wait for others: so many there can be.
const BLOCKING_MAX: usize = 2000;

/// Threads for other things that block, as reading files.
const THREADS_BESIDE: usize = 512;

thread_local! {
    /// Where the last panic on this thread came from.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether this process serves a daemon.
static HOSTS: AtomicBool = AtomicBool::new(false);

/// Says, once of each target, that a call of it belongs to no execution. In the log of whatever runs it is seen.
pub(super) fn note_outside(target: &Target) {
    static SAID: Mutex<BTreeSet<(Option<&str>, &str)>> = Mutex::new(BTreeSet::new());
    let named = (target.repository, target.name);
    if HOSTS.load(Ordering::Relaxed) && SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(named) {
        eprintln!(
            "ibid: {} was called outside of any execution, as in tokio::spawn or on a thread of its own: it just \
             runs, and nothing of it is remembered",
            target.full_name()
        );
    }
}

/// What runs, and, of what is async, how it is given up.
type Executions = HashMap<ExecutionId, (Arc<Context>, Option<AbortHandle>)>;

/// How often the connection is looked after while something runs that may block its runtime, and while nothing
/// does.
const LOOK_AFTER: Duration = Duration::from_millis(20);
const LOOK_AFTER_IDLE: Duration = Duration::from_secs(1);

/// How often it is before it ends.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// What runs in this process, and for whom.
struct Host {
    tasks: Handle,
    client: Client,
    /// Where large values are handed over.
    spool: Arc<PathBuf>,
    executions: Mutex<Executions>,
    /// Nothing more is begun.
    stopping: AtomicBool,
    main: Thread,
}

/// Serves the daemon that has started this process; ends with it.
pub(super) fn serve(token: String) -> Result<()> {
    // A group of its own, which the daemon kills as one, and which dies with it.
    let _leads_one_already = rustix::process::setpgid(None, None);
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    note_panics();
    HOSTS.store(true, Ordering::Relaxed);
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX + THREADS_BESIDE)
        .build()?;
    let served = tasks.block_on(attach(token)).map(|host| {
        host.look_after();
        host.be_heard();
    });
    // Blocking code that nobody waits for must not hold up the end.
    tasks.shutdown_background();
    served
}

async fn attach(token: String) -> Result<Arc<Host>> {
    let variable = |name: &str| std::env::var(name).map_err(|_| Error::message(format!("${name} is not set")));
    let host = Arc::new(Host {
        tasks: Handle::current(),
        client: Client::connect_to(&PathBuf::from(variable("IBID_SOCKET")?)).await?,
        spool: Arc::new(PathBuf::from(variable("IBID_DATA_DIR")?).join("spool")),
        executions: Mutex::default(),
        stopping: AtomicBool::new(false),
        main: std::thread::current(),
    });
    let own = host.clone();
    host.client.on_orders(move |order| match order {
        Some(order) => own.obey(order),
        None => own.main.unpark(),
    });
    let attach = WorkerAttach { token: Some(token), worker: None, pid: Some(std::process::id()), hosts: None };
    host.client.call(attach).await.map_err(refused)?;
    take_outputs()?;
    let targets = Target::all().map(Target::spec).collect();
    host.client.call(WorkerReady { targets, unforkable: None }).await.map_err(refused)?;
    Ok(host)
}

impl Host {
    fn with<T>(&self, act: impl FnOnce(&mut Executions) -> T) -> T {
        act(&mut self.executions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn obey(self: &Arc<Self>, order: Order) {
        match order {
            Order::Execute(execute) => self.begin(execute),
            Order::Cancel(cancel) => {
                // Blocking code that does not ask goes on, but nothing waits for it.
                if let Some((context, abort)) = self.with(|executions| executions.remove(&cancel.execution)) {
                    context.cancelled.store(true, Ordering::Relaxed);
                    if let Some(abort) = abort {
                        abort.abort();
                    }
                }
            }
            Order::Stop(_) => {
                self.stopping.store(true, Ordering::Relaxed);
                self.main.unpark();
            }
            Order::Fork(_) => {}
        }
    }

    /// Sees to it that the daemon is heard whatever the tasks do with their threads, until all is done after it
    /// has said stop.
    fn look_after(&self) {
        loop {
            let nothing = self.with(|executions| executions.is_empty());
            if nothing && self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if !self.client.look_after() {
                // What runs here would be heard by nobody.
                std::process::exit(0);
            }
            std::thread::park_timeout(if nothing { LOOK_AFTER_IDLE } else { LOOK_AFTER });
        }
    }

    /// Its last word must have been heard before it ends, whatever still blocks the tasks' threads.
    fn be_heard(&self) {
        let Ok((_, mut answer)) = self.client.begin(Ping {}) else { return };
        while matches!(answer.try_recv(), Err(TryRecvError::Empty)) {
            self.client.look_after();
            std::thread::sleep(LAST_LOOK);
        }
    }

    fn begin(self: &Arc<Self>, execute: Execute) {
        let execution = execute.execution;
        let Some(target) = Target::find(&execute.target) else {
            let message =
                format!("this program has no target '{}'; register it again once it is built anew", execute.target);
            return tell_failure(&self.client, execution, &Error::new("LookupError", message));
        };
        let is_sensor = target.kind == TargetKind::Sensor;
        let context = Arc::new(Context::new(self.client.clone(), execution, is_sensor, self.spool.clone()));
        let first = self.with(|executions| {
            executions.insert(execution, (context.clone(), None));
            executions.len() == 1
        });
        if first {
            self.main.unpark();
        }
        let host = self.clone();
        let executing = self.tasks.spawn(async move {
            let result = Caught(Box::pin(execute_one(context.clone(), target, execute.arguments))).await;
            // What it printed belongs to it, and must come before its end.
            let _closed = std::io::stdout().flush();
            tell(&context, result).await;
            host.with(|executions| executions.remove(&execution));
        });
        if target.is_async {
            self.with(|executions| {
                if let Some((_, abort)) = executions.get_mut(&execution) {
                    *abort = Some(executing.abort_handle());
                }
            });
        }
    }
}

/// Makes the pipes that the daemon reads standard output and error.
fn take_outputs() -> Result<()> {
    let open = |name: &str| -> Result<Option<std::fs::File>> {
        let Some(path) = std::env::var_os(name) else { return Ok(None) };
        // The daemon reads already; if it does not any more, this fails instead of waiting for ever.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        rustix::io::ioctl_fionbio(&file, false)?;
        Ok(Some(file))
    };
    if let Some(file) = open("IBID_WORKER_STDOUT")? {
        rustix::stdio::dup2_stdout(file)?;
    }
    if let Some(file) = open("IBID_WORKER_STDERR")? {
        rustix::stdio::dup2_stderr(file)?;
    }
    Ok(())
}

/// Keeps where panics come from, beside what is printed of them.
fn note_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|location| format!("at {location}"));
        PANIC.with(|last| *last.borrow_mut() = place);
        usual(panic);
    }));
}

async fn execute_one(context: Arc<Context>, target: &'static Target, arguments: Vec<Json>) -> Result<Json> {
    let mut whole = Vec::with_capacity(arguments.len());
    for argument in arguments {
        whole.push(take(argument).await?);
    }
    let run = target.run.ok_or_else(|| Error::message("a stub has nothing to run"))?;
    match run(whole)? {
        Body::Async(future) => within(context, future).await,
        Body::Blocking(code) => {
            let _one = Held::take()?;
            let on_thread = tokio::task::spawn_blocking(move || {
                let caught = catch_unwind(AssertUnwindSafe(|| within_blocking(context, code)));
                caught.unwrap_or_else(|panic| Err(panicked(&*panic)))
            });
            on_thread.await.map_err(Error::from)?
        }
    }
}

/// One of the threads for blocking executions.
struct Held;

static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Held {
    fn take() -> Result<Self> {
        let held = Self;
        if THREADS.fetch_add(1, Ordering::Relaxed) < BLOCKING_MAX {
            return Ok(held);
        }
        let message = format!(
            "{BLOCKING_MAX} blocking executions of this program run or wait already, each on a thread of its own; \
             where so many wait for others make them async"
        );
        Err(Error::new("TooManyThreads", message))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future whose panics are errors.
struct Caught(super::Task<Json>);

impl Future for Caught {
    type Output = Result<Json>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = said.or_else(|| panic.downcast_ref::<String>().cloned());
    let place = PANIC.with(|last| last.borrow_mut().take());
    Error::panic(message.unwrap_or_else(|| "it panicked".to_owned()), place)
}

async fn tell(context: &Context, result: Result<Json>) {
    let execution = context.execution;
    let settled = context.settle().await;
    let handed_over = match result.and_then(|json| settled.map(|()| json)) {
        Ok(json) => context.hand_over(json).await,
        Err(error) => Err(error),
    };
    let told = match handed_over {
        Ok(result) => context.client.tell(ExecutionComplete { execution, result }).map_err(refused),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tell_failure(&context.client, execution, &error);
    }
}

fn tell_failure(client: &Client, execution: ExecutionId, error: &Error) {
    // Where the daemon is gone the execution is, too.
    let _gone = client.tell(ExecutionFail { execution, error: error.failure() });
}
