//! What the build script bound of DPDK's headers and of the shim.

#![allow(missing_docs, unreachable_pub, dead_code, non_camel_case_types, clippy::all, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, clippy::undocumented_unsafe_blocks, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
