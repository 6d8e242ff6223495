//! What `config.toml` says of the terminal client: `[client]` and `[keys]`. The rest of the file is the
//! daemon's.

use std::collections::BTreeMap;

use ibid::paths::{ProcessEnvironment, config_file};
use serde::Deserialize;

use crate::app::keymap::Keymap;
use crate::context::Failure;
use crate::widgets::style::Colours;

/// How the client looks and what its keys do.
#[derive(Debug, Default)]
pub struct Settings {
    pub colours: Colours,
    /// Whether only ASCII is drawn; as the locale says if absent.
    pub ascii: Option<bool>,
    pub mouse: bool,
    pub keymap: Keymap,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    client: Client,
    keys: BTreeMap<String, Keys>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Client {
    theme: Theme,
    ascii: Option<bool>,
    mouse: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Theme {
    #[default]
    Terminal,
    Dark,
    Light,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Some(Vec<String>),
}

impl Settings {
    /// Reads them; without a file everything is as by default.
    pub fn read() -> Result<Self, Failure> {
        let Some(path) = config_file(&ProcessEnvironment) else { return Ok(Self::default()) };
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{} is not right: {error}", path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|error| wrong(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let keys = file.keys.into_iter().map(|(name, keys)| {
            let keys = match keys {
                Keys::One(key) => vec![key],
                Keys::Some(keys) => keys,
            };
            (name, keys)
        });
        let colours = match file.client.theme {
            Theme::Terminal => Colours::Terminal,
            Theme::Dark => Colours::Dark,
            Theme::Light => Colours::Light,
        };
        let keymap = Keymap::with(&keys.collect())?;
        Ok(Self { colours, ascii: file.client.ascii, mouse: file.client.mouse, keymap })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::actions::Action;

    #[test]
    fn keys_and_looks_are_read_and_what_is_wrong_is_said() {
        let text =
            "processes = 3\n[client]\ntheme = \"dark\"\nmouse = true\n[keys]\nrerun = \"B\"\ncancel = [\"gx\"]\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!((settings.colours, settings.mouse), (Colours::Dark, true));
        assert_eq!(settings.keymap.of(Action::Rerun), ["B"]);
        assert_eq!(settings.keymap.of(Action::Cancel), ["gx"]);
        assert!(Settings::parse("[client]\ntheme = \"pink\"").unwrap_err().contains("pink"));
        assert!(Settings::parse("[client]\ncolour = 1").unwrap_err().contains("unknown field"));
        assert!(Settings::parse("[keys]\nfly = \"x\"").unwrap_err().contains("no action 'fly'"));
    }
}
