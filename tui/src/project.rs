//! The project file, `ibid.toml`: looked for here and above.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a project says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub project: Option<String>,
    pub environment: Option<String>,
    #[serde(default)]
    pub repositories: BTreeMap<String, Repository>,
    /// Where the file is.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// A repository of the project.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// The module to import.
    pub python: String,
    pub interpreter: Option<PathBuf>,
    pub directory: Option<PathBuf>,
    pub concurrency: Option<u32>,
    #[serde(default = "yes")]
    pub fork: bool,
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
    fn an_unknown_setting_is_refused_by_name() {
        let error = toml::from_str::<Project>("projekt = \"news\"\n").unwrap_err();
        assert!(error.to_string().contains("projekt"));
    }
}
