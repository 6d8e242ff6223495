//! Where data, socket and daemon are.

use std::path::PathBuf;

/// What the places are found from, so that tests need not change the environment.
pub trait Surroundings {
    /// An environment variable, if it is set and not empty.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The process's own environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Surroundings for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// Where a daemon keeps its data and listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The data directory.
    pub data: PathBuf,
    /// The socket.
    pub socket: PathBuf,
}

/// The longest path that a socket can have, bytes.
pub const SOCKET_PATH_MAX: usize = 107;

impl Paths {
    /// Finds them: `$IBID_DATA_DIR`, else `$XDG_DATA_HOME/ibid`, else `~/.local/share/ibid`; and
    /// `$IBID_SOCKET`, else `$XDG_RUNTIME_DIR/ibid.sock`, else `ibid.sock` in the data directory.
    ///
    /// # Errors
    /// Where no home directory is known, or the socket's path is too long for the system.
    pub fn find(surroundings: &impl Surroundings) -> Result<Self, String> {
        let data = match surroundings.variable("IBID_DATA_DIR") {
            Some(data) => PathBuf::from(data),
            None => match surroundings.variable("XDG_DATA_HOME") {
                Some(home) => PathBuf::from(home).join("ibid"),
                None => surroundings
                    .variable("HOME")
                    .map(|home| PathBuf::from(home).join(".local/share/ibid"))
                    .ok_or("no home directory is known: set HOME or IBID_DATA_DIR")?,
            },
        };
        let socket = match (surroundings.variable("IBID_SOCKET"), surroundings.variable("XDG_RUNTIME_DIR")) {
            (Some(socket), _) => PathBuf::from(socket),
            (None, Some(runtime)) => PathBuf::from(runtime).join("ibid.sock"),
            (None, None) => data.join("ibid.sock"),
        };
        Self { data, socket }.checked()
    }

    /// Refuses a socket path that the system cannot bind.
    ///
    /// # Errors
    /// Where it is too long.
    pub fn checked(self) -> Result<Self, String> {
        let length = self.socket.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            return Err(format!(
                "the socket's path has {length} bytes and the system allows {SOCKET_PATH_MAX}: {}; \
                 set IBID_SOCKET to a shorter one",
                self.socket.display()
            ));
        }
        Ok(self)
    }
}

/// Where the configuration is: `$XDG_CONFIG_HOME/ibid/config.toml`, else `~/.config/ibid/config.toml`.
#[must_use]
pub fn config_file(surroundings: &impl Surroundings) -> Option<PathBuf> {
    let home = match surroundings.variable("XDG_CONFIG_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(surroundings.variable("HOME")?).join(".config"),
    };
    Some(home.join("ibid/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Set(&'static [(&'static str, &'static str)]);

    impl Surroundings for Set {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }
    }

    fn find(set: &'static [(&'static str, &'static str)]) -> (String, String) {
        let paths = Paths::find(&Set(set)).unwrap();
        (paths.data.display().to_string(), paths.socket.display().to_string())
    }

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let own = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(find(&[("HOME", "/h")]), own("/h/.local/share/ibid", "/h/.local/share/ibid/ibid.sock"));
        assert_eq!(find(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]), own("/d/ibid", "/d/ibid/ibid.sock"));
        assert_eq!(find(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]).1, "/r/ibid.sock");
        assert_eq!(find(&[("IBID_DATA_DIR", "/x"), ("IBID_SOCKET", "/s"), ("XDG_RUNTIME_DIR", "/r")]), own("/x", "/s"));
    }

    #[test]
    fn a_socket_path_over_the_limit_is_refused_with_the_way_out() {
        let long = Paths { data: "/d".into(), socket: format!("/{}", "x".repeat(107)).into() };
        assert!(long.checked().unwrap_err().contains("IBID_SOCKET"));
    }
}
