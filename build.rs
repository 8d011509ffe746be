//! The one build script of the workspace; `pmd-shim` names it.
//!
//! The poll-mode drivers speak to Linux; on another system one sentence is better than a page of missing symbols.

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target != "linux" {
        println!(
            "cargo::error=pmd-shim drives Linux packet interfaces and cannot be built for `{target}`; build for a Linux target"
        );
    }
}
