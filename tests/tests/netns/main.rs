//! `nva run` end to end: on veth, in network namespaces, with the kernel's own stacks as client and backends. The ports' driver is
//! that of [`config::Driver::of_this_run`].
//!
//! Each test builds a network of its own, and takes it away again however it ends. One runs at a time, as the appliance's worker is
//! pinned to a core. A test that cannot run here prints `skipped: NAME: REASON` and passes.
//!
//! *Invariant:* every test ends in [`appliance::Appliance::conserves`]: on each port every frame received has ended in one verdict.
#![forbid(unsafe_code)]

mod appliance;
mod config;
mod counters;
mod lab;
mod offload;
mod peer;
mod ping;
mod space;

mod backend_loss;
mod bad_link;
mod denied;
mod dpdk;
mod fail_closed;
mod gateway;
mod geneve;
mod host;
mod metrics;
mod mtu;
mod overlay;
mod refusals;
mod reload;
mod stand_still;
mod syn_proxy;
mod traffic;
mod workers;
