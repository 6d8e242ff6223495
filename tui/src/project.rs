//! The project file, `ibid.toml`: looked for here and above.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ibid::model::{Cache, CallOptions, CommandLine, Json, Parameter, ParameterKind, Retries, ShellTask};
use serde::Deserialize;

use crate::app::arguments;

/// What a project says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub project: Option<String>,
    pub environment: Option<String>,
    #[serde(default)]
    pub repositories: BTreeMap<String, Repository>,
    /// Shell tasks by name.
    #[serde(default)]
    pub tasks: BTreeMap<String, Task>,
    /// Where the file is.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// A repository of the project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// The module to import.
    pub python: Option<String>,
    /// Or the program that hosts its tasks itself, relative to the project file.
    pub bin: Option<PathBuf>,
    pub interpreter: Option<PathBuf>,
    pub directory: Option<PathBuf>,
    pub concurrency: Option<u32>,
    #[serde(default = "yes")]
    pub fork: bool,
}

/// A shell task of the project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Words, or one line for the shell.
    pub run: CommandLine,
    #[serde(default)]
    pub parameters: Vec<TaskParameter>,
    /// Relative to the project file.
    pub directory: Option<PathBuf>,
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Names of variables whose values are part of the key.
    #[serde(default)]
    pub env: Vec<String>,
    pub cache: Option<CacheSetting>,
    pub cache_namespace: Option<String>,
    pub cache_version: Option<String>,
    #[serde(default)]
    pub retries: u32,
    pub delay: Option<Age>,
    pub timeout: Option<Age>,
    pub doc: Option<String>,
}

/// A parameter: its name, or a table with its default.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum TaskParameter {
    Required(String),
    Optional { name: String, default: toml::Value },
}

/// `true`, `false`, or the greatest age.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum CacheSetting {
    Switch(bool),
    MaxAge(Age),
}

/// A number of seconds, or a text with a unit such as `10m`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Age {
    Whole(u64),
    Seconds(f64),
    Text(String),
}

impl Age {
    fn millis(&self) -> Result<u64, String> {
        let text = match self {
            Self::Whole(seconds) => seconds.to_string(),
            Self::Seconds(seconds) => seconds.to_string(),
            Self::Text(text) => text.clone(),
        };
        arguments::age(&text).map_err(|failure| failure.message)
    }
}

impl Task {
    /// As the daemon wants it.
    pub fn shell_task(&self, name: &str, root: &Path) -> Result<ShellTask, String> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| format!("task '{name}': {what} is not right: {error}");
        let age = |what: &str, given: &Option<Age>| {
            given.as_ref().map(Age::millis).transpose().map_err(|error| wrong(what, &error))
        };
        let cache = match &self.cache {
            None | Some(CacheSetting::Switch(false)) => Cache::Off,
            Some(CacheSetting::Switch(true)) => Cache::On,
            Some(CacheSetting::MaxAge(given)) => Cache::MaxAge(given.millis().map_err(|error| wrong("cache", &error))?),
        };
        let parameter = |parameter: &TaskParameter| {
            let (name, default) = match parameter {
                TaskParameter::Required(name) => (name, None),
                TaskParameter::Optional { name, default } => {
                    (name, Some(Json::from_serialize(default).map_err(|error| wrong("a default", &error))?))
                }
            };
            Ok(Parameter { name: name.clone(), kind: ParameterKind::PositionalOrKeyword, default })
        };
        let directory = root.join(self.directory.as_deref().unwrap_or(Path::new("")));
        let directory = if self.directory.is_none() { root.to_owned() } else { directory };
        if !directory.is_dir() {
            return Err(format!("task '{name}': there is no directory {}", directory.display()));
        }
        Ok(ShellTask {
            name: name.to_owned(),
            run: Json::from_serialize(&self.run).map_err(|error| wrong("run", &error))?,
            parameters: self.parameters.iter().map(parameter).collect::<Result<_, String>>()?,
            directory: directory.display().to_string(),
            inputs: self.inputs.clone(),
            variables: self.env.clone(),
            options: CallOptions {
                cache,
                cache_namespace: self.cache_namespace.clone(),
                cache_version: self.cache_version.clone(),
                retries: Retries { limit: self.retries, delay_min: 0, delay_max: 0 },
                delay: age("delay", &self.delay)?.unwrap_or(0),
                timeout: age("timeout", &self.timeout)?,
                ..CallOptions::default()
            },
            doc: self.doc.clone(),
        })
    }
}

const fn yes() -> bool {
    true
}

/// Reads the nearest project file above a directory.
pub fn find(from: &Path) -> Result<Option<Project>, String> {
    for directory in from.ancestors() {
        let path = directory.join("ibid.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let mut project: Project =
            toml::from_str(&text).map_err(|error| format!("{} is not right: {error}", path.display()))?;
        project.directory = directory.to_owned();
        return Ok(Some(project));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_file_names_its_repositories() {
        let text = "project = \"news\"\n[repositories.\"news.repo\"]\npython = \"news.repo\"\nconcurrency = 4\n";
        let project: Project = toml::from_str(text).unwrap();
        assert_eq!(project.project.as_deref(), Some("news"));
        assert_eq!(project.repositories["news.repo"].concurrency, Some(4));
        assert!(project.repositories["news.repo"].fork);
    }

    #[test]
    fn a_shell_task_is_what_its_table_says() {
        let text = r#"
            [tasks.site]
            run = ["make", "site", "SECTION={section}"]
            parameters = ["section", { name = "draft", default = false }]
            cache = "10m"
            inputs = ["content/**/*.md"]
            env = ["LANG"]
            retries = 2
            timeout = 90
            [tasks.line]
            run = "ls | wc -l"
            cache = true
        "#;
        let project: Project = toml::from_str(text).unwrap();
        let root = Path::new("/");
        let site = project.tasks["site"].shell_task("site", root).unwrap();
        assert_eq!(site.run.as_str(), r#"["make","site","SECTION={section}"]"#);
        assert_eq!(site.parameters[1].default.as_ref().unwrap().as_str(), "false");
        assert_eq!(site.options.cache, Cache::MaxAge(600_000));
        assert_eq!((site.options.retries.limit, site.options.timeout), (2, Some(90_000)));
        let line = project.tasks["line"].shell_task("line", root).unwrap();
        assert_eq!((line.run.as_str(), line.options.cache), (r#""ls | wc -l""#, Cache::On));
        let wrong: Project = toml::from_str("[tasks.a]\nrun = \"x\"\ncache = \"soon\"\n").unwrap();
        assert!(wrong.tasks["a"].shell_task("a", root).unwrap_err().contains("'soon' is no age"));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = toml::from_str::<Project>("projekt = \"news\"\n").unwrap_err();
        assert!(error.to_string().contains("projekt"));
    }
}
