//! The attributes of the crate `ibid`, which documents them where it re-exports them.

mod function;
mod options;

use proc_macro::TokenStream;

use function::{Kind, expand};

/// Declares a function as a task: something that workflows and other tasks call.
///
/// Inside an execution a call is scheduled by the daemon, which remembers its result; outside of one the function
/// just runs. The function takes owned values and returns [`ibid::Result`](../ibid/type.Result.html); arguments
/// and result go through serde. An async one gives a [`Call`](../ibid/struct.Call.html), which is awaited; one
/// that is not async waits by itself.
///
/// Beside the function there is a type of the same name with:
///
/// - `name::submit(…)`: makes the call and returns an [`Execution`](../ibid/struct.Execution.html) at once;
/// - `name::call(…)`: the call, whose options can be changed before it is made;
/// - `name::map(items)`: many calls in as few messages as can be; items of several arguments are tuples.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `cache` | takes the result of an earlier call with the same arguments, and joins one that is being made; without it every call executes |
/// | `cache = "10m"` | the same, but only of a result that is at most this old: a text such as `500ms`, `90s`, `10m`, `2h`, `7d`, or a number of seconds |
/// | `key = \|a, b\| …` | calls with the same text are the same call; gets a reference to each argument |
/// | `namespace = "…"` | in place of `repository:name`; two tasks with one namespace share results |
/// | `version = "…"` | results of another version are not taken |
/// | `retries = 2`, `(2, "1s")`, `(2, "1s", "10s")` | how often a failed execution is tried again, with waits that grow |
/// | `delay = "5s"` | the earliest start after the call |
/// | `defer`, `defer = \|a\| …` | lets a newer call take the place of one that is still queued, among those with the same text |
/// | `defer_max_wait = "1m"` | a burst is put off no longer than this |
/// | `memo`, `memo = false`, `memo = \|a\| …` | answers a call with an earlier one of the same run |
/// | `wait`, `wait = "a"`, `wait = ["a", "b"]` | starts when the calls that its arguments refer to have ended |
/// | `timeout = "1m"` | the longest time that an attempt may take, waiting included |
/// | `name = "…"` | its name; the function's own if absent |
///
/// ```
/// use ibid::{Result, task};
///
/// #[task(cache = "10m", retries = (2, "1s"))]
/// async fn latest_posts(user: u64) -> Result<Vec<String>> {
///     Ok(vec![format!("a post of {user}")])
/// }
///
/// #[task(cache, key = |product: &u64, _url: &str| product.to_string())]
/// fn product(product: u64, url: String) -> Result<String> {
///     Ok(format!("{product} from {url}"))
/// }
/// ```
#[proc_macro_attribute]
pub fn task(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Task, options.into(), function.into()).into()
}

/// Declares a function as a workflow: something that can be started by hand (`ibid run repository/name`).
///
/// Called from another target it is a call like any other, with a run of its own. The options are those of
/// [`macro@task`], with two differences: `memo` is also the default for every call in its run, and the cache
/// settings and functions of the arguments apply only where it is called.
///
/// ```
/// use ibid::{Result, task, workflow};
///
/// #[task(cache)]
/// async fn word_count(text: String) -> Result<usize> {
///     Ok(text.split_whitespace().count())
/// }
///
/// #[workflow]
/// async fn count(texts: Vec<String>) -> Result<usize> {
///     let mut sum = 0;
///     for one in word_count::map(texts) {
///         sum += one.await?;
///     }
///     Ok(sum)
/// }
/// ```
#[proc_macro_attribute]
pub fn workflow(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Workflow, options.into(), function.into()).into()
}

/// Declares a function as a sensor: something that is kept running and starts workflows.
///
/// `ibid sensor start repository/name` starts it; from then on it is started again whenever it ends, crashes or
/// the daemon restarts, until `ibid sensor stop`. What it passes to
/// [`checkpoint`](../ibid/fn.checkpoint.html) is what it is started with the next time. Its only option is
/// `name`.
///
/// ```
/// use ibid::{Result, sensor, workflow};
///
/// #[workflow]
/// async fn report(beat: u64) -> Result<u64> {
///     Ok(beat)
/// }
///
/// #[sensor]
/// async fn ticks(mut beat: u64) -> Result<()> {
///     loop {
///         report::submit(beat);
///         beat += 1;
///         ibid::checkpoint((beat,)).await?;
///         tokio::time::sleep(std::time::Duration::from_secs(60)).await;
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn sensor(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Sensor, options.into(), function.into()).into()
}

/// Declares a target of another repository, in whatever language, so that it can be called from this program.
///
/// The function has no body, or one that runs only outside an execution. The options are those of
/// [`macro@task`]; they are the caller's, so they are given here whatever the target itself declares.
///
/// ```
/// use ibid::{Result, stub};
///
/// #[stub("shop.prices", cache = "1h")]
/// async fn price(product: String) -> Result<f64>;
/// ```
#[proc_macro_attribute]
pub fn stub(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Stub, options.into(), function.into()).into()
}
