// SPDX-License-Identifier: Apache-2.0
//! Lays the functions that a sidecar uses side by side in published binaries.
//!
//! Linux maps a program's pages in groups of sixteen around each that is used. Functions lie in the order of their source,
//! so that a sidecar which uses a quarter of them had nearly all of them in memory. `link/order.ld` names those that starting
//! and calling use; a name that is not there any more, or not yet, costs some memory and nothing else. `benches/order`
//! writes it. Only with Rust's own choice of linker: not each reads such scripts.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ORDER}");
    let value = |name: &str| env::var(name).unwrap_or_default();
    // Cargo does not tell a profile's name but in this path.
    let is_published = Path::new(&value("OUT_DIR")).iter().any(|part| part == "dist");
    let has_own_linker = env::var_os("RUSTC_LINKER").is_some() || value("CARGO_ENCODED_RUSTFLAGS").contains("link");
    let order = Path::new(&value("CARGO_MANIFEST_DIR")).join(ORDER);
    if is_published && value("TARGET") == "x86_64-unknown-linux-gnu" && !has_own_linker && order.is_file() {
        println!("cargo:rustc-link-arg-bin=remora=-Wl,-T,{}", order.display());
    }
}

/// A linker script that puts these functions in front of the others.
const ORDER: &str = "link/order.ld";
