//! Links `ibid` so that it starts fast, as a program must that stands before other programs: the unwinder is
//! linked in, which saves loading a library, and the program has its fixed place in memory, which saves
//! moving thousands of pointers before the first instruction. Together a quarter of an `ibid exec`.

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
        for argument in ["-no-pie", "-Wl,-z,lazy"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
