//! The process that runs tasks: attached to the daemon that has started it, until that says stop or goes away.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::context::{Context, take, within, within_blocking};
use super::error::refused;
use super::{Body, Error, Result, Target};
use crate::Client;
use crate::model::{ExecutionId, Json, TargetKind};
use crate::protocol::{Execute, ExecutionComplete, ExecutionFail, Order, WorkerAttach, WorkerReady};

/// Blocking executions hold a thread each, also while they wait for others: so many there can be.
const BLOCKING_MAX: usize = 2000;

/// Threads for other things that block, as reading files.
const THREADS_BESIDE: usize = 512;

thread_local! {
    /// Where the last panic on this thread came from.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What runs, and, of what is async, how it is given up.
type Executions = HashMap<ExecutionId, (Arc<Context>, Option<AbortHandle>)>;

/// What runs in this process.
#[derive(Default)]
struct Running {
    executions: Mutex<Executions>,
    /// Nothing runs any more.
    none: tokio::sync::Notify,
}

impl Running {
    fn with<T>(&self, act: impl FnOnce(&mut Executions) -> T) -> T {
        act(&mut self.executions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ended(&self, execution: ExecutionId) -> Option<(Arc<Context>, Option<AbortHandle>)> {
        let (known, none) = self.with(|executions| (executions.remove(&execution), executions.is_empty()));
        if none {
            self.none.notify_waiters();
        }
        known
    }
}

/// Serves the daemon that has started this process; ends with it.
pub(super) fn serve(token: String) -> Result<()> {
    // A group of its own, which the daemon kills as one, and which dies with it.
    let _leads_one_already = rustix::process::setpgid(None, None);
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    note_panics();
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX + THREADS_BESIDE)
        .build()?;
    // The daemon is heard on this thread, whatever the tasks do on theirs.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = own.block_on(attached(token, tasks.handle()));
    // Blocking code that nobody waits for must not hold up the end.
    tasks.shutdown_background();
    served
}

async fn attached(token: String, tasks: &Handle) -> Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(|_| Error::message(format!("${name} is not set")));
    let client = Client::connect_to(&PathBuf::from(variable("IBID_SOCKET")?)).await?;
    let spool = Arc::new(PathBuf::from(variable("IBID_DATA_DIR")?).join("spool"));
    let mut orders = client.orders();
    let attach = WorkerAttach { token: Some(token), worker: None, pid: Some(std::process::id()), hosts: None };
    client.call(attach).await.map_err(refused)?;
    take_outputs()?;
    let targets = Target::all().map(Target::spec).collect();
    client.call(WorkerReady { targets, unforkable: None }).await.map_err(refused)?;
    let running = Arc::new(Running::default());
    let mut stopping = false;
    loop {
        let idle = running.none.notified();
        if stopping && running.with(|executions| executions.is_empty()) {
            // Its last word must have been heard.
            let _gone = client.call(crate::protocol::Ping {}).await;
            return Ok(());
        }
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Execute(execute)) => begin(tasks, &client, &spool, &running, execute),
                Some(Order::Cancel(cancel)) => {
                    // Blocking code that does not ask goes on, but nothing waits for it.
                    if let Some((context, abort)) = running.ended(cancel.execution) {
                        context.cancelled.store(true, Ordering::Relaxed);
                        if let Some(abort) = abort {
                            abort.abort();
                        }
                    }
                }
                Some(Order::Stop(_)) => stopping = true,
                Some(Order::Fork(_)) => {}
                // What runs here would be heard by nobody.
                None => std::process::exit(0),
            },
            () = idle, if stopping => {}
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

fn begin(tasks: &Handle, client: &Client, spool: &Arc<PathBuf>, running: &Arc<Running>, execute: Execute) {
    let execution = execute.execution;
    let Some(target) = Target::find(&execute.target) else {
        let message =
            format!("this program has no target '{}'; register it again once it is built anew", execute.target);
        return tell_failure(client, execution, &Error::new("LookupError", message));
    };
    let is_sensor = target.kind == TargetKind::Sensor;
    let context = Arc::new(Context::new(client.clone(), execution, is_sensor, spool.clone()));
    running.with(|executions| executions.insert(execution, (context.clone(), None)));
    let (own, known) = (running.clone(), running.clone());
    let executing = tasks.spawn(async move {
        let result = Caught(Box::pin(execute_one(context.clone(), target, execute.arguments))).await;
        // What it printed belongs to it, and must come before its end.
        let _closed = std::io::stdout().flush();
        tell(&context, result).await;
        own.ended(execution);
    });
    if target.is_async {
        known.with(|executions| {
            if let Some((_, abort)) = executions.get_mut(&execution) {
                *abort = Some(executing.abort_handle());
            }
        });
    }
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
            let _one = Thread::take()?;
            let on_thread = tokio::task::spawn_blocking(move || {
                let caught = catch_unwind(AssertUnwindSafe(|| within_blocking(context, code)));
                caught.unwrap_or_else(|panic| Err(panicked(&*panic)))
            });
            on_thread.await.map_err(Error::from)?
        }
    }
}

/// One of the threads for blocking executions.
struct Thread;

static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Thread {
    fn take() -> Result<Self> {
        let thread = Self;
        if THREADS.fetch_add(1, Ordering::Relaxed) < BLOCKING_MAX {
            return Ok(thread);
        }
        let message = format!(
            "{BLOCKING_MAX} blocking executions of this program run or wait already, each on a thread of its own; \
             where so many wait for others make them async"
        );
        Err(Error::new("TooManyThreads", message))
    }
}

impl Drop for Thread {
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
