//! Whether every answer is right: against the trace, against the linear search, against `rte_acl`.

use super::sets::FilterSet;
use nva_dataplane::policy::classifier::{Classifier, Classify};
use nva_dataplane::wire::FlowKey;
use serde::Serialize;

/// Comparisons of a header with a rule that are spent on the linear search, at most.
const COMPARISONS: usize = 200_000_000;
/// Headers that the linear search answers, at most.
const SEARCHED: usize = 20_000;

/// How many answers were looked at; none differed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Verified {
    /// Against what the trace says.
    pub(crate) by_trace: usize,
    /// Against the linear search.
    pub(crate) by_linear: usize,
    /// Against `rte_acl`.
    pub(crate) by_rte_acl: usize,
}

/// Asks for every header, in bursts.
pub(crate) fn answers(classifier: &Classifier, keys: &[FlowKey]) -> Vec<Option<u32>> {
    let mut places = vec![None; keys.len()];
    classifier.classify_burst(keys, &mut places);
    places
}

/// Verifies the trace's answers; how many there are.
///
/// # Errors
/// The first answer that differs, and what the linear search says to it.
pub(crate) fn by_trace(set: &FilterSet, classifier: &Classifier) -> Result<usize, String> {
    let Some((path, trace)) = &set.trace else { return Ok(0) };
    let keys: Vec<FlowKey> = trace.iter().map(|header| header.key).collect();
    let places = answers(classifier, &keys);
    let wrong = places.iter().zip(trace).filter(|(place, header)| **place != header.place).count();
    let first = places.iter().zip(trace).find(|(place, header)| **place != header.place);
    if let Some((place, header)) = first {
        return Err(format!(
            "{}:{}:1: {wrong} of {} answers differ from the trace's; here it says {}, the tables say {}, the linear search says {}",
            path.display(),
            header.line,
            trace.len(),
            rule(header.place),
            rule(*place),
            rule(classifier.linear().classify(&header.key).map(|place| place as u32)),
        ));
    }
    Ok(trace.len())
}

/// Verifies as many of the headers as there is time for, one by one and in bursts; how many.
///
/// # Errors
/// The first answer that differs.
pub(crate) fn by_linear(name: &str, classifier: &Classifier, keys: &[FlowKey]) -> Result<usize, String> {
    let count = (COMPARISONS / classifier.patterns().len().max(1)).clamp(100, SEARCHED).min(keys.len());
    let keys = &keys[..count];
    for (key, place) in keys.iter().zip(answers(classifier, keys)) {
        let linear = classifier.linear().classify(key).map(|place| place as u32);
        let single = classifier.classify(key).map(|place| place as u32);
        if place != linear || single != linear {
            return Err(format!(
                "{name}: to {key:?} the linear search says {}, the tables {} in a burst and {} alone",
                rule(linear),
                rule(place),
                rule(single)
            ));
        }
    }
    Ok(count)
}

fn rule(place: Option<u32>) -> String {
    place.map_or("no rule".into(), |place| format!("rule {place}"))
}
