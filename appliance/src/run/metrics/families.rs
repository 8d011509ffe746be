//! A page of metrics in the making: families with their samples, written as Prometheus' text format 0.0.4.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A label of a sample with its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Families, in the order in which they were added.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// Begins a family of counters. `name` ends in `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Samples<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    /// Begins a family of values that go up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Samples<'_> {
        self.family(name, help, MetricType::GAUGE)
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: MetricType) -> Samples<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        Samples { families: self, family, samples: Vec::new(), kind }
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        // It refuses nothing but a family without a name or without samples, and neither was added.
        TextEncoder::new().encode_to_string(&self.0).unwrap_or_default()
    }
}

/// A family in the making; it is added when this is dropped, if it has a sample.
pub(super) struct Samples<'a> {
    families: &'a mut Families,
    family: MetricFamily,
    samples: Vec<Metric>,
    kind: MetricType,
}

impl Samples<'_> {
    /// Adds a sample.
    pub(super) fn add(&mut self, labels: &[Label<'_>], value: f64) {
        let pair = |(name, value): &Label<'_>| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value((*value).into());
            pair
        };
        let mut sample = Metric::from_label(labels.iter().map(pair).collect());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.samples.push(sample);
    }

    /// Adds a count. Above 2⁵³ the format itself, which knows only floating-point numbers, is no longer exact.
    pub(super) fn count(&mut self, labels: &[Label<'_>], count: u64) {
        self.add(labels, count as f64);
    }
}

impl Drop for Samples<'_> {
    fn drop(&mut self) {
        if !self.samples.is_empty() {
            self.family.set_metric(std::mem::take(&mut self.samples));
            self.families.0.push(std::mem::take(&mut self.family));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_without_samples_are_left_out_and_labels_are_escaped() {
        let mut families = Families::default();
        drop(families.counter("a_total", "Nothing."));
        families.counter("b_total", "Some.").count(&[("port", "a\"b\\c\nd")], 7);
        families.gauge("c", "One.").add(&[], 0.5);
        let text = "# HELP b_total Some.\n# TYPE b_total counter\nb_total{port=\"a\\\"b\\\\c\\nd\"} 7\n\
                    # HELP c One.\n# TYPE c gauge\nc 0.5\n";
        assert_eq!(families.text(), text);
    }

    #[test]
    fn large_counts_are_whole_numbers() {
        let mut families = Families::default();
        families.counter("a_total", "Some.").count(&[], 1 << 53);
        assert!(families.text().ends_with("a_total 9007199254740992\n"), "{}", families.text());
    }
}
