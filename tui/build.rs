//! Links the unwinder into `ibid`: without a shared library to load for it, a command that is answered from
//! the cache starts noticeably faster.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Where the compiler that links has no such archive, the shared library is loaded as usual.
    let Ok(found) = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output() else { return };
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let cross = std::env::var("HOST").ok() != std::env::var("TARGET").ok();
    if let Some(directory) = Path::new(&path).parent().filter(|_| Path::new(&path).is_file() && !cross) {
        println!("cargo:rustc-link-search=native={}", directory.display());
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
