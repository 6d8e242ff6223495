//! Targets as the attributes declare them.

use crate::model::{CallOptions, Json, Parameter, ParameterKind, TargetKind, TargetSpec};

use super::{Result, Task, values};

/// A function that can be called through the daemon. The attributes make one for each.
#[derive(Debug)]
pub struct Target {
    /// Task, workflow or sensor; of a stub it says nothing.
    pub kind: TargetKind,
    /// Its name within the repository.
    pub name: &'static str,
    /// The repository of a stub; of others it is this program's.
    pub repository: Option<&'static str>,
    /// In the order of the signature.
    pub parameters: &'static [Declared],
    /// What the attribute says.
    pub options: fn() -> CallOptions,
    /// Whether it has a key function, which only a caller can evaluate.
    pub own_key: bool,
    /// Whether it has a function that says which calls replace each other, which only a caller can evaluate.
    pub own_defer: bool,
    /// Its documentation.
    pub doc: &'static str,
    /// Digest of its source code.
    pub source: &'static str,
    /// Whether it is async.
    pub is_async: bool,
    /// Runs it with arguments from elsewhere; a stub has nothing to run.
    pub run: Option<fn(Vec<Json>) -> Result<Body>>,
}

/// A parameter as it is declared.
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// Whether it is an `Option`, which is `None` where nothing is given by hand.
    pub optional: bool,
}

/// What runs when a target is executed.
pub enum Body {
    /// A future.
    Async(Task<Json>),
    /// Code that blocks its thread.
    Blocking(Box<dyn FnOnce() -> Result<Json> + Send>),
}

/// A target that this program was linked with.
#[doc(hidden)]
pub struct Linked(pub &'static Target);

inventory::collect!(Linked);

impl Target {
    /// `repository/name`
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.repository.unwrap_or_else(|| super::repository()), self.name)
    }

    /// The target of this program that has a name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|target| target.name == name)
    }

    /// The targets of this program.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        inventory::iter::<Linked>.into_iter().map(|linked| linked.0)
    }

    pub(super) fn spec(&self) -> TargetSpec {
        let parameter = |declared: &Declared| Parameter {
            name: declared.name.to_owned(),
            kind: ParameterKind::PositionalOrKeyword,
            default: declared.optional.then(Json::null),
        };
        let mut options = (self.options)();
        if self.own_defer {
            options.defer = None;
        }
        let doc = self.doc.trim();
        TargetSpec {
            name: self.name.to_owned(),
            kind: self.kind,
            parameters: self.parameters.iter().map(parameter).collect(),
            options,
            own_key: self.own_key,
            doc: (!doc.is_empty()).then(|| doc.split("\n\n").next().unwrap_or(doc).to_owned()),
            source: Some(self.source.to_owned()),
        }
    }
}

/// What a task returns: [`ibid::Result`](crate::Result).
#[diagnostic::on_unimplemented(
    message = "a task must return `ibid::Result<…>`, and this one returns `{Self}`",
    label = "write `-> ibid::Result<…>`",
    note = "a call of a task can fail even where its function cannot: it may be cancelled, or its process may be killed"
)]
pub trait Returned {
    /// What it returns when all is well.
    type Value: serde::Serialize + serde::de::DeserializeOwned + Send + 'static;

    /// As what it is.
    ///
    /// # Errors
    /// Where it is an error.
    fn result(self) -> Result<Self::Value>;
}

impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Returned for Result<T> {
    type Value = T;

    fn result(self) -> Self {
        self
    }
}

/// For the attributes: an argument as JSON.
///
/// # Errors
/// Where it has no JSON form; which argument it is, is said.
#[doc(hidden)]
pub fn encode_argument(target: &Target, name: &str, value: &impl serde::Serialize) -> Result<Json> {
    values::encode(value).map_err(|error| {
        super::Error::new("Unserialisable", format!("argument '{name}' of {}: {}", target.name, error.text()))
    })
}

/// For the attributes: the next argument from its JSON.
///
/// # Errors
/// Where it is missing, or of another type.
#[doc(hidden)]
pub fn decode_argument<T: serde::de::DeserializeOwned>(
    arguments: &mut std::vec::IntoIter<Json>,
    name: &str,
) -> Result<T> {
    let missing = || super::Error::new("WrongType", format!("the argument '{name}' is missing"));
    let json = arguments.next().ok_or_else(missing)?;
    values::decode(&json)
        .map_err(|error| super::Error::new(error.kind(), format!("the argument '{name}': {}", error.text())))
}

/// For the attributes: a result as JSON.
///
/// # Errors
/// Where it is an error, or has no JSON form.
#[doc(hidden)]
pub fn encode_result<R: Returned>(returned: R) -> Result<Json> {
    values::encode(&returned.result()?)
}
