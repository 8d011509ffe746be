//! Filter sets and traces in ClassBench's text form, and sets of ours in its style, for tests and measurements.

mod generate;
mod parse;

pub use generate::{Random, Style, generate, header};
pub use parse::{Header, Problem, parse_rules, parse_trace};

use super::PortScope;
use crate::prefix_set::PrefixSet;
use nva_config::Prefix;
use std::collections::HashMap;
use std::sync::Arc;

/// How these sets mean ports.
pub const SCOPE: PortScope = PortScope::AllProtocols;

/// Sets of one prefix each, shared by the rules that name it.
#[derive(Default)]
struct Sets(HashMap<Prefix, Arc<PrefixSet>>);

impl Sets {
    fn get(&mut self, prefix: Prefix) -> Arc<PrefixSet> {
        self.0.entry(prefix).or_insert_with(|| Arc::new(PrefixSet::from_prefixes([&prefix]))).clone()
    }
}
