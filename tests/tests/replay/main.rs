//! What an operator would check with `nva replay`: for each packet its verdict, its bytes and every counter. Each refused packet has a
//! twin that passes and differs in one field.
#![forbid(unsafe_code)]

mod balancing;
mod ends;
mod errors;
mod fragments;
mod gateway;
mod geneve;
mod guard;
mod headers;
mod honesty;
mod host;
mod neighbors;
mod overlay;
mod policy;
mod state;
mod syn_proxy;
mod tcp;
mod timeouts;
