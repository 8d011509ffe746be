//! The one build script of the workspace; `pmd-shim` names it.
//!
//! The poll-mode drivers speak to Linux; on another system one sentence is better than a page of missing symbols. With the feature
//! `dpdk` it also finds DPDK, binds the names that are used of it, and compiles what is inline in DPDK's headers.

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target != "linux" {
        println!(
            "cargo::error=pmd-shim drives Linux packet interfaces and cannot be built for `{target}`; build for a Linux target"
        );
    } else {
        #[cfg(feature = "dpdk")]
        if let Err(what) = dpdk::build() {
            println!("cargo::error={what}");
        }
    }
}

#[cfg(feature = "dpdk")]
mod dpdk {
    use std::env;
    use std::path::PathBuf;

    /// The oldest DPDK whose names and layouts are those that the driver is written for.
    const OLDEST: &str = "22.11";
    const HEADER: &str = "src/dpdk/shim.h";
    const SOURCE: &str = "src/dpdk/shim.c";
    /// The libraries whose functions are called. The drivers are plug-ins that DPDK loads by itself.
    const LIBRARIES: [&str; 5] = ["rte_acl", "rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"];
    /// Everything that is used of DPDK, and the shim's own names.
    const FUNCTIONS: [&str; 7] = [
        "shim_.*",
        "rte_(strerror|version|eal_get_runtime_dir|thread_register|thread_unregister|dev_probe|dev_remove)",
        "rte_(mempool_free|mempool_in_use_count)",
        "rte_eth_dev_(info_get|start|stop|close|get_mtu|set_mtu|adjust_nb_rx_tx_desc|get_name_by_port)",
        "rte_eth_(find_next_owned_by|rx_queue_setup|tx_queue_setup|macaddr_get|allmulticast_enable|stats_get)",
        "rte_acl_(create|free|add_rules|build|classify|set_ctx_classify)",
        "rte_(malloc_get_socket_stats|vect_set_max_simd_bitwidth)",
    ];
    const TYPES: [&str; 3] = ["rte_acl_field", "rte_acl_rule_data", "rte_mbuf"];
    const CONSTANTS: [&str; 2] = ["SHIM_.*", "RTE_PKTMBUF_HEADROOM"];
    /// What is only passed on by reference, or is of no use here.
    const OPAQUE: [&str; 10] = [
        "rte_mempool.*",
        "rte_acl_rule",
        "rte_device",
        "rte_mbuf__bindgen_ty_[123].*",
        "rte_mbuf_sched",
        "rte_mbuf_ext_shared_info",
        "rte_eth_(rx|tx)conf",
        "rte_eth_rxseg.*",
        "rte_eth_switch_info",
        "rte_eth_(desc_lim|dev_portconf|thresh)",
    ];

    pub(crate) fn build() -> Result<(), String> {
        for file in [HEADER, SOURCE] {
            println!("cargo::rerun-if-changed={file}");
        }
        let library = pkg_config::Config::new()
            .atleast_version(OLDEST)
            .cargo_metadata(false)
            .probe("libdpdk")
            .map_err(|error| missing(&error))?;
        bind(&library)?;
        compile(&library)?;
        for path in &library.link_paths {
            println!("cargo::rustc-link-search=native={}", path.display());
        }
        for name in LIBRARIES {
            println!("cargo::rustc-link-lib=dylib={name}");
        }
        Ok(())
    }

    fn missing(error: &pkg_config::Error) -> String {
        let what = error.to_string();
        let first = what.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        format!(
            "the feature `dpdk` needs DPDK {OLDEST} or later, which pkg-config does not find ({first}); \
             install it (Debian: `apt install libdpdk-dev libclang-dev pkg-config`), set PKG_CONFIG_PATH, or build without the feature"
        )
    }

    fn bind(library: &pkg_config::Library) -> Result<(), String> {
        let mut builder = bindgen::Builder::default()
            .header(HEADER)
            .clang_args(library.include_paths.iter().map(|path| format!("-I{}", path.display())))
            .prepend_enum_name(false)
            .generate_comments(false)
            .derive_debug(false)
            .derive_copy(true)
            .use_core();
        for name in FUNCTIONS {
            builder = builder.allowlist_function(name);
        }
        for name in TYPES {
            builder = builder.allowlist_type(name);
        }
        for name in CONSTANTS {
            builder = builder.allowlist_var(name);
        }
        for name in OPAQUE {
            builder = builder.opaque_type(name);
        }
        let file = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("dpdk.rs");
        let bindings = builder.generate().map_err(|error| {
            format!("binding DPDK's headers failed: {error}; install libclang (Debian: `apt install libclang-dev`)")
        })?;
        bindings.write_to_file(&file).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn compile(library: &pkg_config::Library) -> Result<(), String> {
        let mut build = cc::Build::new();
        build.file(SOURCE).includes(&library.include_paths).opt_level(3).warnings(true);
        let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
        if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
            // DPDK's headers want SSE 4.2 at least; what the rest of the binary may use, the shim may.
            let has_avx2 = features.split(',').any(|feature| feature == "avx2");
            build.flag(if has_avx2 { "-march=x86-64-v3" } else { "-march=x86-64-v2" });
        }
        build.try_compile("pmd_shim_dpdk").map_err(|error| format!("compiling {SOURCE} failed: {error}"))
    }
}
