//! The Python package, which the daemon carries so that nobody must install it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Every file of the package, by its path below `ibid/`.
const FILES: &[(&str, &str)] = &[
    ("__init__.py", include_str!("../../../shared/python/ibid/__init__.py")),
    ("__main__.py", include_str!("../../../shared/python/ibid/__main__.py")),
    ("_blobs.py", include_str!("../../../shared/python/ibid/_blobs.py")),
    ("_connection.py", include_str!("../../../shared/python/ibid/_connection.py")),
    ("_decorators.py", include_str!("../../../shared/python/ibid/_decorators.py")),
    ("_errors.py", include_str!("../../../shared/python/ibid/_errors.py")),
    ("_execution.py", include_str!("../../../shared/python/ibid/_execution.py")),
    ("_reports.py", include_str!("../../../shared/python/ibid/_reports.py")),
    ("_start.py", include_str!("../../../shared/python/ibid/_start.py")),
    ("_targets.py", include_str!("../../../shared/python/ibid/_targets.py")),
    ("_values.py", include_str!("../../../shared/python/ibid/_values.py")),
    ("_worker.py", include_str!("../../../shared/python/ibid/_worker.py")),
    ("demo.py", include_str!("../../../shared/python/ibid/demo.py")),
    ("py.typed", include_str!("../../../shared/python/ibid/py.typed")),
];

/// Writes the package below a data directory, where it is not there already, and returns the
/// directory to put on the module path.
///
/// # Errors
/// Where it cannot be written.
pub fn install(data: &Path) -> std::io::Result<PathBuf> {
    let root = data.join("python");
    let package = root.join("ibid");
    std::fs::create_dir_all(&package)?;
    for (name, text) in FILES {
        let path = package.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
            continue;
        }
        let temporary = package.join(format!(".{name}.new"));
        std::fs::File::create(&temporary)?.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, &path)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_package_is_carried() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/python/ibid");
        let mut present: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".py") || name == "py.typed")
            .collect();
        present.sort();
        let mut carried: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        carried.sort();
        assert_eq!(present, carried);
    }
}
